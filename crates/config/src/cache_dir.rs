//! The names of the files that a server writes into its `cache_dir`.
//!
//! The server, and the commands that remove its files, touch files with these names only: what else is in the folder
//! belongs to its user.

use crate::atomic;

/// Locked by the process that serves from the folder.
pub const LOCK: &str = "sanctum.lock";
/// Has the number of that process.
pub const PROCESS: &str = "sanctum.pid";
/// The end of a prefix's name, behind its key.
const SUFFIX: &str = ".prefix";
/// Digits of a key.
const DIGITS: usize = 64;

/// The name of the prefix with this key, which is 64 lower-case hexadecimal digits.
pub fn prefix_name(key: &str) -> String {
    format!("{key}{SUFFIX}")
}

/// The key of the prefix with this name; none if it is no prefix's name.
pub fn prefix_key(name: &str) -> Option<&str> {
    let key = name.strip_suffix(SUFFIX)?;
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    (key.len() == DIGITS && key.bytes().all(is_digit)).then_some(key)
}

/// Whether a file with this name is one that a server was writing when it was killed.
pub fn is_staged(name: &str) -> bool {
    atomic::staged_for(name).is_some_and(|name| name == PROCESS || prefix_key(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_server_writes_are_recognized() {
        let key = "0f".repeat(32);
        let name = prefix_name(&key);
        assert_eq!(prefix_key(&name), Some(&key[..]));
        for other in [
            &key[..],
            ".prefix",
            &name[1..],
            &name.to_uppercase(),
            &format!("g{}", &name[1..]),
            &format!("{name}.bak"),
        ] {
            assert_eq!(prefix_key(other), None, "{other}");
        }
        assert!(is_staged(&format!(".{name}.17-0.new")));
        assert!(is_staged(".sanctum.pid.17-0.new"));
        for other in [
            &name[..],
            ".notes.txt.17-0.new",
            ".sanctum.lock.17-0.new",
            &format!("{name}.17-0.new"),
            &format!(".{name}.new"),
            &format!(".{name}.backup.new"),
            &format!(".{name}.17-x.new"),
            &format!(".{name}.+17-0.new"),
            &format!(".{name}.17-00.new"),
        ] {
            assert!(!is_staged(other), "{other}");
        }
    }
}
