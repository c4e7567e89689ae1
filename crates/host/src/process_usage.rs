//! How long processes have been running and how much memory they take, as `ps` prints it on Linux and macOS.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command;

/// How long `ps` may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    /// How long it has been running.
    pub uptime: Duration,
    /// Its resident memory, in bytes. What it shares with others counts in full.
    pub resident_bytes: u64,
}

/// The usage of these processes, by number. Those that have ended are missing, and all if `ps` fails.
pub fn process_usage(pids: &[u32]) -> BTreeMap<u32, ProcessUsage> {
    if pids.is_empty() {
        return BTreeMap::new();
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let pids = pids.join(",");
    let words = ["-o", "pid=", "-o", "rss=", "-o", "etime=", "-p", &pids];
    // Its exit code is 1 if one of them has ended.
    let output = command::run("ps", &words, LIMIT).unwrap_or_default();
    output.stdout.lines().filter_map(parse).collect()
}

/// A line of `ps -o pid= -o rss= -o etime=`: ` 4711  51200 3-04:05:06`.
fn parse(line: &str) -> Option<(u32, ProcessUsage)> {
    let mut words = line.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let kib: u64 = words.next()?.parse().ok()?;
    let uptime = elapsed(words.next()?)?;
    let resident_bytes = kib.checked_mul(1024)?;
    Some((
        pid,
        ProcessUsage {
            uptime,
            resident_bytes,
        },
    ))
}

/// `[[dd-]hh:]mm:ss`, as ps(1) has it.
fn elapsed(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let days: u64 = days.parse().ok()?;
    let mut seconds = 0;
    for part in clock.split(':') {
        let part: u64 = part.parse().ok()?;
        seconds = seconds * 60 + part;
    }
    let seconds = days.checked_mul(86_400)?.checked_add(seconds)?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ps_on_both_systems_are_parsed() {
        for (line, pid, mib, seconds) in [
            // procps
            ("   1234  51200       05:12", 1234, 50, 312),
            ("   1234  51200    01:02:03", 1234, 50, 3723),
            // macOS
            (" 4711 2097152 3-04:05:06", 4711, 2048, 273_906),
        ] {
            let (found, usage) = parse(line).unwrap();
            assert_eq!(found, pid, "{line}");
            assert_eq!(usage.resident_bytes, mib << 20, "{line}");
            assert_eq!(usage.uptime, Duration::from_secs(seconds), "{line}");
        }
        for bad in ["", "PID RSS ELAPSED", "1 2", "1 2 x", "1 2 1-"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
