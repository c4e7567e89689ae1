//! What an agent has logged since it was started: the part of its logs that is this process's, and not that of the release
//! before.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sanctum_config::{Home, Label, UntrustedText, files};

/// Bytes at the end of a log that are read.
const TAIL: u64 = 16 << 10;
/// What is shown of a line, in characters.
const SHOWN: usize = 300;

/// Where each agent's logs ended before the agent was started.
#[derive(Clone, Debug, Default)]
pub struct LogEnds(BTreeMap<Label, [u64; 2]>);

/// The log that a program writes, and what launchd saves of its output: panics, and why it could not start.
fn logs(home: &Home, agent: &Label) -> [PathBuf; 2] {
    [home.log(agent), home.launchd_log(agent)]
}

impl LogEnds {
    /// Remembers where an agent's logs end now, before it is started.
    pub fn mark(&mut self, home: &Home, agent: &Label) {
        let size = |log: PathBuf| std::fs::metadata(log).map_or(0, |about| about.len());
        self.0.insert(agent.clone(), logs(home, agent).map(size));
    }

    /// The last error that an agent has logged since, else its last line, as the end of a sentence. Empty if it was not
    /// marked: then it is not known which lines are this process's.
    pub fn excerpt(&self, home: &Home, agent: &Label) -> String {
        let Some(ends) = self.0.get(agent) else {
            return String::new();
        };
        let logs = logs(home, agent);
        let texts: Vec<String> = logs
            .iter()
            .zip(ends)
            .map(|(log, end)| tail(log, *end))
            .collect();
        let errors = texts.iter().find_map(|text| last_error(text));
        sentence(errors.or_else(|| texts.iter().find_map(|text| last_line(text))))
    }
}

/// The last error in a log that only one process has written, else its last line, as the end of a sentence.
pub(crate) fn excerpt_of(log: &Path) -> String {
    let text = tail(log, 0);
    sentence(last_error(&text).or_else(|| last_line(&text)))
}

fn sentence(line: Option<String>) -> String {
    line.map_or_else(String::new, |line| {
        format!("; its log ends: {}", UntrustedText::bounded(&line, SHOWN))
    })
}

fn last_line(text: &str) -> Option<String> {
    let mut lines = text.lines().rev();
    lines
        .find(|line| !line.trim().is_empty())
        .map(str::to_owned)
}

/// The last line that speaks of an error; of a panic, the message too, which is on the next line.
fn last_error(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_error = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.contains("error") || line.contains("panicked at")
    };
    let at = lines.iter().rposition(is_error)?;
    let next = lines
        .get(at + 1)
        .filter(|_| lines[at].contains("panicked at"));
    Some(match next {
        Some(message) => format!("{} {message}", lines[at]),
        None => lines[at].to_owned(),
    })
}

/// The end of a log without its first `from` bytes; one that is shorter was begun anew.
fn tail(log: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = files::open(log)?;
        let size = file.metadata()?.len();
        let from = if from > size { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(size.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // A log that cannot be read explains nothing.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn excerpt_shows_only_what_this_process_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().into(), folder.path().into());
        fs::create_dir(home.logs()).unwrap();
        let agent: Label = "server".parse().unwrap();
        let (log, saved) = (home.log(&agent), home.launchd_log(&agent));
        let old = "ERROR of the release before\n";
        fs::write(&log, old).unwrap();
        let mut ends = LogEnds::default();
        assert_eq!(ends.excerpt(&home, &agent), "", "it was not marked");
        ends.mark(&home, &agent);
        assert_eq!(ends.excerpt(&home, &agent), "");
        fs::write(&log, format!("{old}INFO loading\x1b[2J\n\n")).unwrap();
        assert_eq!(
            ends.excerpt(&home, &agent),
            "; its log ends: INFO loading\\u{1b}[2J"
        );
        fs::write(
            &saved,
            "thread 'main' panicked at src/x.rs:1:2:\nno room\nnote: run\n",
        )
        .unwrap();
        assert_eq!(
            ends.excerpt(&home, &agent),
            "; its log ends: thread 'main' panicked at src/x.rs:1:2: no room"
        );
        // Rotated meanwhile.
        fs::write(&log, "ERROR new\nend\n").unwrap();
        assert_eq!(ends.excerpt(&home, &agent), "; its log ends: ERROR new");
        assert_eq!(excerpt_of(&log), "; its log ends: ERROR new");
        assert_eq!(excerpt_of(folder.path()), "");
    }
}
