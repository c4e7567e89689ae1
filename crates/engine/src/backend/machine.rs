//! How much memory this machine has.

use std::fs;
use std::process::Command;

/// Bytes of memory that this process may use: the machine's, or its control group's if that is less. None where
/// the system does not say.
pub(super) fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total(&text))
        .or_else(physical)?;
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// `MemTotal` of Linux' /proc/meminfo.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// `hw.memsize` of macOS.
fn physical() -> Option<u64> {
    let output = Command::new(sanctum_config::system_program("sysctl"))
        .args(["-n", "hw.memsize"])
        .env("LC_ALL", "C")
        .output();
    String::from_utf8(output.ok()?.stdout)
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_as_linux_writes_it() {
        let text = "MemTotal:       24543212 kB\nMemFree:         1222000 kB\n";
        assert_eq!(total(text), Some(24_543_212 << 10));
        assert_eq!(total("MemFree: 1 kB"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory().is_some_and(|bytes| bytes > 64 << 20));
    }
}
