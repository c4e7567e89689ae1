//! Words and paths for the shell of this host or of another one.

pub use sanctum_config::{quoted, quoted_file};

/// The command that an operator can type to do the same as [`super::run`].
pub fn by_hand(destination: &str, line: &str) -> String {
    format!("ssh {destination} {}", quoted(line))
}

/// A path of fleet.toml, quoted for the other host's shell. A `~` stays unquoted: it means that host's home folder.
pub fn quoted_path(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("~/{}", quoted(rest)),
        None => quoted(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_quoted_for_the_shell_that_reads_it() {
        // The local shell must not expand `~`.
        assert_eq!(by_hand("mini", "ls ~/.sanctum"), "ssh mini 'ls ~/.sanctum'");
        assert_eq!(quoted_path("~/my fleet"), "~/'my fleet'");
    }
}
