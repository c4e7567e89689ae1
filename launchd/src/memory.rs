//! How much memory is free: `/proc/meminfo` where there is one, else macOS's `vm_stat`.

use std::path::Path;
use std::time::Duration;

use sanctum_watch::command;

/// Bytes that a new process could have without anything being swapped; none if the system does not say.
pub fn free() -> Option<u64> {
    if let Ok(text) = std::fs::read_to_string("/proc/meminfo") {
        return available(&text);
    }
    let said = command::run("vm_stat", &[] as &[&str], Duration::from_secs(10)).ok()?;
    vm_stat(&said.out)
}

/// proc_meminfo(5): `MemAvailable:   12345 kB`.
fn available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// vm_stat(1): the page size in the first line, then counts of pages. Free, inactive and speculative pages can be had
/// at once.
fn vm_stat(text: &str) -> Option<u64> {
    let (_, size) = text.lines().next()?.split_once("page size of ")?;
    let size: u64 = size.split(' ').next()?.parse().ok()?;
    let pages = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches('.').parse().ok()
    };
    let free = pages("Pages free:")?;
    let rest = pages("Pages inactive:")?.checked_add(pages("Pages speculative:").unwrap_or(0))?;
    free.checked_add(rest)?.checked_mul(size)
}

/// The bytes of the files in a folder, as far as they can be seen.
pub fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries
        .flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok());
    sizes
        .filter(|about| about.is_file())
        .map(|about| about.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_systems_words_are_understood() {
        let linux = "MemTotal:       65536000 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(linux), Some(2 << 20));
        let mac = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n\
                   Pages free:                                5440.\n\
                   Pages active:                           1000000.\n\
                   Pages inactive:                            1000.\n\
                   Pages speculative:                           60.\n";
        assert_eq!(vm_stat(mac), Some(6500 * 16384));
        for nonsense in ["", "page size of x bytes", "MemAvailable: many kB"] {
            assert_eq!((available(nonsense), vm_stat(nonsense)), (None, None));
        }
    }

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [0; 100]).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        assert_eq!(size_of(folder.path()), 100);
        assert_eq!(size_of(&folder.path().join("none")), 0);
    }
}
