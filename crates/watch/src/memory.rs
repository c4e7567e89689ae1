//! How much memory a new process could have: `/proc/meminfo` on Linux, `vm_stat` on macOS.
//!
//! The crate `sysinfo` is not used: on macOS its available memory includes inactive pages, which [`vm_stat`] excludes on
//! purpose.

use std::time::Duration;

use sanctum_host::command;

/// The time limit of `vm_stat`, which normally takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes that a new process could have without anything being swapped or compressed; none if the system does not report it.
pub fn free() -> Option<u64> {
    match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => available(&text),
        Err(_) => vm_stat(&command::run("vm_stat", &[] as &[&str], LIMIT).ok()?.stdout),
    }
}

/// proc_meminfo(5): `MemAvailable:   12345 kB`.
fn available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// vm_stat(1): the page size in the first line, then counts of pages.
///
/// Free, speculative and purgeable pages count. vm_stat prints the free pages without the speculative ones (XNU counts
/// these among the free; they hold data that was read ahead and that nothing uses yet); purgeable pages are those that
/// programs have marked as disposable. Inactive pages do not count: they hold the anonymous memory of idle programs
/// too, which must be compressed or swapped before anything else can have it, and the mapped weights of a model that
/// has not been asked for a while. The estimate is low on purpose: it decides whether a second model is loaded beside
/// the one that serves.
fn vm_stat(text: &str) -> Option<u64> {
    let (_, size) = text.lines().next()?.split_once("page size of ")?;
    let size: u64 = size.split(' ').next()?.parse().ok()?;
    let pages = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches('.').parse().ok()
    };
    let free = pages("Pages free:")?;
    let disposable = ["Pages speculative:", "Pages purgeable:"];
    let disposable = disposable.iter().filter_map(|name| pages(name));
    disposable.fold(free, u64::saturating_add).checked_mul(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Mac with 16 KiB pages and a model in memory prints it.
    const VM_STAT: &str = "\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                                3857.
Pages active:                            446206.
Pages inactive:                          443760.
Pages speculative:                         1075.
Pages throttled:                              0.
Pages wired down:                        181483.
Pages purgeable:                          17340.
\"Translation faults\":                8667427138.
Pages copy-on-write:                  156847509.
Pages zero filled:                   4902315421.
Pages reactivated:                    586001636.
Pages purged:                         174538344.
File-backed pages:                       294894.
Anonymous pages:                         596147.
Pages stored in compressor:             1943619.
Pages occupied by compressor:            442179.
";

    #[test]
    fn vm_stat_inactive_memory_is_not_free() {
        assert_eq!(vm_stat(VM_STAT), Some((3857 + 1075 + 17340) * 16384));
        let older = "Mach Virtual Memory Statistics: (page size of 4096 bytes)\n\
                     Pages free:                         90518.\n\
                     Pages active:                      205479.\n\
                     Pages inactive:                     32417.\n\
                     Pages speculative:                 134461.\n\
                     Pages wired down:                   61009.\n";
        assert_eq!(vm_stat(older), Some((90518 + 134461) * 4096));
    }

    #[test]
    fn meminfo_available_memory_is_free() {
        let linux = "MemTotal:       65536000 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(linux), Some(2 << 20));
    }

    #[test]
    fn text_of_another_form_has_no_result() {
        for nonsense in [
            "",
            "page size of x bytes",
            "MemAvailable: many kB",
            "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n",
        ] {
            assert_eq!((available(nonsense), vm_stat(nonsense)), (None, None));
        }
    }

    #[test]
    fn this_machine_reports_its_free_memory() {
        assert!(free().is_some_and(|bytes| bytes > 1 << 20));
    }
}
