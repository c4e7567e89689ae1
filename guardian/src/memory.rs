//! Whether the machine is short of memory, from what the system prints. A server whose machine swaps answers, slowly, and
//! nobody knows why.

use std::time::Duration;

use sanctum_watch::command;

/// Swap that is used up to this share is worth a warning.
const SWAP_SHARE: f64 = 0.8;
/// Swap below this many MiB is not looked at: macOS makes it as it goes.
const SWAP_MIB: f64 = 1024.0;
/// Less free memory than this share is worth a warning.
const FREE_SHARE: f64 = 0.03;

/// What is wrong, in a sentence; none if nothing is, or nothing could be found out.
pub fn shortage() -> Option<String> {
    match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => of_linux(&text),
        Err(_) => {
            let said =
                command::run("sysctl", &["-n", "vm.swapusage"], Duration::from_secs(5)).ok()?;
            of_macos(&said.out)
        }
    }
}

fn of_linux(meminfo: &str) -> Option<String> {
    let mib = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    };
    let (total, available) = (mib("MemTotal:")?, mib("MemAvailable:")?);
    if available < total * FREE_SHARE {
        return Some(format!(
            "{available:.0} of {total:.0} MiB of memory are left"
        ));
    }
    let (swap, free) = (mib("SwapTotal:")?, mib("SwapFree:")?);
    swapping(swap, swap - free)
}

/// `total = 32768.00M  used = 32460.25M  free = 307.75M  (encrypted)`
fn of_macos(swapusage: &str) -> Option<String> {
    let mib = |name: &str| {
        let rest = swapusage.split_once(&format!("{name} = "))?.1;
        rest.split('M').next()?.trim().parse::<f64>().ok()
    };
    swapping(mib("total")?, mib("used")?)
}

fn swapping(total: f64, used: f64) -> Option<String> {
    (total >= SWAP_MIB && used >= total * SWAP_SHARE)
        .then(|| format!("{used:.0} of {total:.0} MiB of swap are in use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_swaps_is_noticed() {
        let full = "total = 32768.00M  used = 32460.25M  free = 307.75M  (encrypted)\n";
        assert_eq!(
            of_macos(full).unwrap(),
            "32460 of 32768 MiB of swap are in use"
        );
        assert_eq!(
            of_macos("total = 2048.00M  used = 700.00M  free = 1348.00M"),
            None
        );
        assert_eq!(of_macos("total = 0.00M  used = 0.00M  free = 0.00M"), None);
        let linux = |available, free| {
            format!(
                "MemTotal: 24000000 kB\nMemAvailable: {available} kB\nSwapTotal: 8000000 kB\nSwapFree: {free} kB\n"
            )
        };
        assert_eq!(of_linux(&linux(9_000_000, 7_000_000)), None);
        assert!(
            of_linux(&linux(100_000, 7_000_000))
                .unwrap()
                .contains("98 of 23438 MiB of memory")
        );
        assert!(
            of_linux(&linux(9_000_000, 100_000))
                .unwrap()
                .contains("of swap")
        );
        assert_eq!(of_linux("rubbish"), None);
    }
}
