//! What an agent has logged since it was started, for the message that it failed. Lines of its previous process, which may
//! be of another release, do not count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::{Home, Label, UntrustedText};
use sanctum_host::{LogStart, last_error_line, last_line};

/// Where each agent's logs ended before the agent was started.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogEnds(BTreeMap<Label, LogEnd>);

#[derive(Clone, Copy, Debug)]
struct LogEnd {
    time: DateTime<Utc>,
    sizes: [u64; 2],
}

/// The log that a program writes, and the file in which launchd saves its output: panics, and why it could not start.
fn logs(home: &Home, agent: &Label) -> [PathBuf; 2] {
    [home.log(agent), home.launchd_log(agent)]
}

fn size(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |about| about.len())
}

impl LogEnds {
    /// Records where an agent's logs end now, before it is started.
    pub(crate) fn mark(&mut self, home: &Home, agent: &Label) {
        let end = LogEnd {
            time: Utc::now(),
            sizes: logs(home, agent).map(|log| size(&log)),
        };
        self.0.insert(agent.clone(), end);
    }

    /// The last error that an agent has logged since the mark, else its last line, as the end of a sentence. Empty without
    /// a mark.
    pub(crate) fn excerpt(&self, home: &Home, agent: &Label) -> String {
        let Some(end) = self.0.get(agent) else {
            return String::new();
        };
        let logs = logs(home, agent);
        // A log that is shorter than before was rotated: all of it is new.
        let starts = logs.iter().zip(end.sizes).map(|(log, size_before)| {
            let offset = if size(log) < size_before {
                0
            } else {
                size_before
            };
            (log, offset)
        });
        let errors = starts.clone().find_map(|(log, offset)| {
            let time = Some(end.time);
            last_error_line(log, LogStart { time, offset })
        });
        sentence(errors.or_else(|| { starts }.find_map(|(log, offset)| last_line(log, offset))))
    }
}

/// The last error in a log that only one process has written, else its last line, as the end of a sentence.
pub(crate) fn last_lines(log: &Path) -> String {
    let error = last_error_line(log, LogStart::default());
    sentence(error.or_else(|| last_line(log, 0)))
}

fn sentence(line: Option<UntrustedText>) -> String {
    line.map_or_else(String::new, |line| format!("; its log ends: {line}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn excerpt_has_only_lines_of_this_process() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().into(), folder.path().into());
        fs::create_dir(home.logs()).unwrap();
        let agent: Label = "server".parse().unwrap();
        let (log, saved) = (home.log(&agent), home.launchd_log(&agent));
        let old = "ERROR of the previous release\n";
        fs::write(&log, old).unwrap();
        let mut ends = LogEnds::default();
        assert_eq!(ends.excerpt(&home, &agent), "", "without a mark");
        ends.mark(&home, &agent);
        assert_eq!(ends.excerpt(&home, &agent), "");
        fs::write(&log, format!("{old}INFO loading\x1b[2J\n\n")).unwrap();
        assert_eq!(
            ends.excerpt(&home, &agent),
            "; its log ends: INFO loading\\u{1b}[2J"
        );
        fs::write(
            &saved,
            "thread 'main' (7) panicked at src/x.rs:1:2:\nno room\nnote: run\n",
        )
        .unwrap();
        assert_eq!(
            ends.excerpt(&home, &agent),
            "; its log ends: thread 'main' (7) panicked at src/x.rs:1:2: no room"
        );
        // Rotated.
        fs::write(&log, "ERROR new\nend\n").unwrap();
        assert_eq!(ends.excerpt(&home, &agent), "; its log ends: ERROR new");
        assert_eq!(last_lines(&log), "; its log ends: ERROR new");
        assert_eq!(last_lines(folder.path()), "");
    }
}
