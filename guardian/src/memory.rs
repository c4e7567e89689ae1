//! Whether the host is short of memory. A server whose host swaps answers slowly, without any other sign of the cause.

use std::time::Duration;

use sanctum_host::command;

/// The used share of swap that is a shortage, where swap has a fixed size.
const SWAP_SHARE: f64 = 0.8;
/// A swap of fewer MiB is ignored.
const SWAP_MIB: f64 = 1024.0;
/// The swap in use that is a shortage where swap grows on demand, as a share of the memory.
const SWAP_TO_MEMORY: f64 = 0.25;
/// The share of available memory below which it is a shortage.
const FREE_SHARE: f64 = 0.03;
/// The critical level of memory pressure on macOS. 1 is normal, and 2 is common under load.
const CRITICAL: u32 = 4;
/// How much better it must be for the end of a shortage, so that a host at the limit does not alternate.
const SLACK: f64 = 1.25;

/// The shortage, in a sentence; none if there is none, or the system does not report it. `before`: whether there was one in
/// the last round.
pub(crate) fn shortage(before: bool) -> Option<String> {
    match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => of_linux(&text, before),
        Err(_) => {
            let names = [
                "-n",
                "vm.swapusage",
                "hw.memsize",
                "kern.memorystatus_vm_pressure_level",
            ];
            let output = command::run("sysctl", &names, Duration::from_secs(5)).ok()?;
            of_macos(&output.stdout, before)
        }
    }
}

fn slack(before: bool) -> f64 {
    if before { SLACK } else { 1.0 }
}

fn of_linux(meminfo: &str, before: bool) -> Option<String> {
    let mib = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    };
    let slack = slack(before);
    let (total, available) = (mib("MemTotal:")?, mib("MemAvailable:")?);
    if available < total * FREE_SHARE * slack {
        return Some(format!(
            "{available:.0} of {total:.0} MiB of memory are available"
        ));
    }
    let (swap, free) = (mib("SwapTotal:")?, mib("SwapFree:")?);
    let used = swap - free;
    (swap >= SWAP_MIB && used * slack >= swap * SWAP_SHARE)
        .then(|| format!("{used:.0} of {swap:.0} MiB of swap are in use"))
}

/// Three lines: `total = 32768.00M  used = 32460.25M  free = 307.75M  (encrypted)`, the bytes of memory, the pressure. macOS
/// creates swap on demand, so nearly all of it may be in use without a shortage: its absolute size decides.
fn of_macos(sysctl: &str, before: bool) -> Option<String> {
    let mut lines = sysctl.lines();
    let swapusage = lines.next()?;
    let used = swapusage.split_once("used = ")?.1;
    let used: f64 = used.split('M').next()?.trim().parse().ok()?;
    let bytes: f64 = lines.next()?.trim().parse().ok()?;
    let memory = bytes / f64::from(1 << 20);
    if used >= SWAP_MIB && used * slack(before) >= memory * SWAP_TO_MEMORY {
        return Some(format!(
            "{used:.0} MiB are swapped out, beside {memory:.0} MiB of memory"
        ));
    }
    let level: u32 = lines.next()?.trim().parse().ok()?;
    (level >= CRITICAL).then(|| "macOS reports critical memory pressure".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macos_that_swaps_is_short_of_memory() {
        let sysctl = |used: &str, level: u32| {
            format!(
                "total = 32768.00M  used = {used}M  free = 307.75M  (encrypted)\n34359738368\n{level}\n"
            )
        };
        assert_eq!(
            of_macos(&sysctl("32460.25", 1), false).unwrap(),
            "32460 MiB are swapped out, beside 32768 MiB of memory"
        );
        // Swap files are created on demand: nearly full is not a shortage.
        let little =
            "total = 2048.00M  used = 1900.00M  free = 148.00M  (encrypted)\n34359738368\n2\n";
        assert_eq!(of_macos(little, false), None);
        assert!(
            of_macos(&sysctl("100.00", 4), false)
                .unwrap()
                .contains("critical")
        );
        // At the limit it stays what it was.
        assert_eq!(of_macos(&sysctl("7000.00", 1), false), None);
        assert!(of_macos(&sysctl("7000.00", 1), true).is_some());
        assert_eq!(of_macos("", false), None);
        assert_eq!(of_macos("sysctl: unknown oid", false), None);
    }

    #[test]
    fn linux_that_swaps_is_short_of_memory() {
        let linux = |available, free| {
            format!(
                "MemTotal: 24000000 kB\nMemAvailable: {available} kB\nSwapTotal: 8000000 kB\nSwapFree: {free} kB\n"
            )
        };
        assert_eq!(of_linux(&linux(9_000_000, 7_000_000), false), None);
        assert!(
            of_linux(&linux(100_000, 7_000_000), false)
                .unwrap()
                .contains("98 of 23438 MiB of memory")
        );
        assert!(
            of_linux(&linux(9_000_000, 100_000), false)
                .unwrap()
                .contains("of swap")
        );
        assert_eq!(of_linux(&linux(9_000_000, 2_000_000), false), None);
        assert!(of_linux(&linux(9_000_000, 2_000_000), true).is_some());
        assert_eq!(of_linux("rubbish", false), None);
    }
}
