//! A command as text.

use std::process::Command;

/// The command as typed into a shell, with its environment variables in front.
pub(crate) fn command_line(command: &Command) -> String {
    let quoted = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,".contains(c);
        match word.chars().all(plain) && !word.is_empty() {
            true => word.into_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, quoted(value?))));
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted);
    environment.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_quotes_like_a_shell() {
        let mut command = Command::new("g++");
        command.args(["-DX=1", "two words", "it's"]).env("A", "b c");
        assert_eq!(
            command_line(&command),
            r"A='b c' g++ -DX=1 'two words' 'it'\''s'"
        );
    }
}
