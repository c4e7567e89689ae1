//! The page of a recorded run: what was shown, with documentation addresses instead of this machine's paths and ports.

use std::fs;
use std::io;
use std::path::Path;

/// What stands before the run.
const HEAD: &str = "# The demo, as it ran

`cargo xtask demo` starts two simulated hosts on this machine, installs a fleet on them, breaks the server in several ways,
and shows the commands, their output and the alerts as they arrive (lines that begin with `!!`). Everything is in one temporary folder. It
needs no Mac: launchd is [simulated](../tests/sim-launchd/README.md), ssh is a script that changes to the other host's
folder, and watchdogs check every second or two. The programs are the real ones of this workspace, as a debug build, which `cargo test
--workspace` builds too. After the last step it stays up, until Ctrl-C removes everything; `--once`, or output that is no terminal,
ends it there. Each step fails the demo if it does not do what is shown; CI runs it with `--once`.

This page was written by `cargo xtask demo --record docs/demo.md`. Paths and ports of the machine are replaced by those of a
real fleet; all else is as it was shown.

```console
";

/// Replacements in the order in which they are made.
pub(crate) type Replacements = Vec<(String, String)>;

/// Writes the page.
pub(crate) fn write(path: &Path, lines: &[String], replaced: &Replacements) -> io::Result<()> {
    fs::write(path, page(lines, replaced))
}

fn page(lines: &[String], replaced: &Replacements) -> String {
    let mut text = lines.join("\n");
    for (from, to) in replaced {
        text = text.replace(from, to);
    }
    format!("{HEAD}{}\n```\n", text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_no_paths_of_the_machine() {
        let lines = ["", "$ ls", "/tmp/demo/mini/x at 127.0.0.1:4567"].map(str::to_owned);
        let replaced = vec![
            ("/tmp/demo/mini".to_owned(), "~".to_owned()),
            ("127.0.0.1:4567".to_owned(), "192.0.2.25:1337".to_owned()),
        ];
        let page = page(&lines, &replaced);
        assert!(
            page.ends_with("```console\n$ ls\n~/x at 192.0.2.25:1337\n```\n"),
            "{page}"
        );
    }
}
