//! Words and paths in commands that are printed for an operator, quoted for the shell.

use std::path::Path;

/// A word quoted for any shell; without quotes where it needs none.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A path quoted for the shell.
pub fn quoted_file(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_that_a_shell_would_divide_or_expand_is_quoted() {
        assert_eq!(quoted_file(Path::new("/a/b.c")), "/a/b.c");
        assert_eq!(quoted_file(Path::new("/a b/~c")), "'/a b/~c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
