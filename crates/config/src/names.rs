//! The names that stand in `fleet.toml`: labels of sections, and model ids and their aliases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest label, in bytes.
const LONGEST_LABEL: usize = 63;

/// The name of a host, server, agent, watchdog or alert channel. It ends up in launchd labels (`com.<fleet>.<agent>`),
/// file names and log lines, so it holds ASCII letters, digits, `-` and `_` only, and begins with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Label(String);

/// A request's `model` field: any printable ASCII without spaces, quotes or backslashes, so that it can
/// stand in a URL, a log line and a metric as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelId(String);

/// Another name by which requests may name a model: a [`ModelId`], or the beginning of one with `*` after it, which stands
/// for any end.
///
/// ```
/// use sanctum_config::ModelAlias;
///
/// let alias: ModelAlias = "claude-*".parse()?;
/// assert!(alias.matches("claude-small") && !alias.matches("gpt-4o"));
/// # Ok::<(), sanctum_config::BadName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelAlias(String);

/// A name that breaks the rule of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a [`Label`].
    #[error(
        "`{0}` is not a label: 1 to 63 letters, digits, `-` or `_`, the first a letter or a digit"
    )]
    Label(String),
    /// Not a [`ModelId`].
    #[error(
        "`{0}` is not a model id: 1 to 200 printable ASCII characters without spaces, quotes or backslashes"
    )]
    ModelId(String),
    /// Not a [`ModelAlias`].
    #[error(
        "`{0}` is not an alias: 1 to 200 printable ASCII characters without spaces, quotes or backslashes, the last of \
         which may be `*`; for every name, write any_model = true instead of `*`"
    )]
    ModelAlias(String),
}

impl Label {
    /// The label's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The label with this ending, of the characters that a label may have; its own text is cut where both are too long.
    pub(crate) fn extended(&self, ending: &'static str) -> Self {
        let kept = self.0.len().min(LONGEST_LABEL - ending.len());
        Self(format!("{}{ending}", &self.0[..kept]))
    }
}

impl ModelId {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ModelAlias {
    /// The alias as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a name must begin with; none where it must be the whole alias.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        match self.prefix() {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }
}

impl TryFrom<String> for Label {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let begins_well = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        if begins_well && text.len() <= LONGEST_LABEL && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(BadName::Label(text))
        }
    }
}

impl TryFrom<String> for ModelId {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'`');
        if (1..=200).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(BadName::ModelId(text))
        }
    }
}

impl TryFrom<String> for ModelAlias {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let name = text.strip_suffix('*').unwrap_or(&text);
        match name.parse::<ModelId>() {
            Ok(_) if !name.contains('*') => Ok(Self(text)),
            _ => Err(BadName::ModelAlias(text)),
        }
    }
}

impl FromStr for ModelAlias {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for ModelAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        text.to_owned().try_into()
    }
}

impl FromStr for ModelId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_fit_for_a_launchd_label_and_a_file_name() {
        for good in ["server", "canary-offbox", "8ball", "a_b"] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", "a.b", "../x", "a b", "ü", &"x".repeat(64)] {
            assert_eq!(bad.parse::<Label>(), Err(BadName::Label(bad.into())));
        }
    }

    #[test]
    fn model_ids_may_look_like_hub_names() {
        for good in ["council", "Qwen/Qwen3.5-27B", "tiny:q4"] {
            assert!(good.parse::<ModelId>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a\nb", "é"] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn alias_is_a_name_or_the_beginning_of_one() {
        let alias = |text: &str| text.parse::<ModelAlias>();
        let exact = alias("gpt-4o").unwrap();
        assert!(exact.matches("gpt-4o") && !exact.matches("gpt-4o-mini"));
        let prefix = alias("claude-*").unwrap();
        assert_eq!(prefix.prefix(), Some("claude-"));
        assert!(prefix.matches("claude-x") && prefix.matches("claude-"));
        assert!(!prefix.matches("Claude-x"));
        for bad in ["", "*", "a*b", "a**", "*a", "a b", "a\"b"] {
            assert_eq!(alias(bad), Err(BadName::ModelAlias(bad.into())));
        }
    }
}
