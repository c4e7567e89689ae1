//! An agent's property list as it is on disk: the keys of launchd.plist(5) that are compared or used here.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::Value;
use sanctum_config::files;

/// A larger file is not an agent's property list.
const MAX_BYTES: u64 = 1 << 20;

/// The keys that are used of a property list. A key that is missing or has another type is empty here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyList {
    /// `ProgramArguments`: the program and its arguments.
    pub arguments: Option<Vec<String>>,
    /// `ExitTimeOut`: from SIGTERM to SIGKILL.
    pub exit_timeout: Option<Duration>,
    /// `WorkingDirectory`: for an agent of a fleet, the fleet's home.
    pub working_directory: Option<PathBuf>,
}

impl PropertyList {
    /// Reads a file; none if it cannot be read or is not a property list.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&files::read(path, MAX_BYTES).ok()?)
    }

    /// Parses XML or binary; none if it is neither.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let value = Value::from_reader(Cursor::new(bytes)).ok()?;
        let keys = value.as_dictionary()?;
        let arguments = keys.get("ProgramArguments").and_then(Value::as_array);
        let text = |value: &Value| value.as_string().map(str::to_owned);
        Some(Self {
            arguments: arguments.and_then(|all| all.iter().map(text).collect()),
            exit_timeout: keys
                .get("ExitTimeOut")
                .and_then(Value::as_unsigned_integer)
                .map(Duration::from_secs),
            working_directory: keys
                .get("WorkingDirectory")
                .and_then(text)
                .map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_list_has_its_keys_and_skips_those_of_another_type() {
        let text = |keys: &str| format!("<plist version=\"1.0\"><dict>{keys}</dict></plist>");
        let whole = text(
            "<key>ProgramArguments</key><array><string>/bin/x</string><string>-v</string></array>\
             <key>ExitTimeOut</key><integer>45</integer>\
             <key>WorkingDirectory</key><string>/u/ada/.sanctum</string>",
        );
        let expected = PropertyList {
            arguments: Some(vec!["/bin/x".into(), "-v".into()]),
            exit_timeout: Some(Duration::from_secs(45)),
            working_directory: Some("/u/ada/.sanctum".into()),
        };
        assert_eq!(PropertyList::parse(whole.as_bytes()), Some(expected));
        let odd = text(
            "<key>ProgramArguments</key><array><integer>1</integer></array>\
             <key>ExitTimeOut</key><string>45</string>",
        );
        let none = Some(PropertyList::default());
        assert_eq!(PropertyList::parse(odd.as_bytes()), none);
        assert_eq!(PropertyList::parse(b"{"), None);
        assert_eq!(PropertyList::read(Path::new("/no/such.plist")), None);
    }
}
