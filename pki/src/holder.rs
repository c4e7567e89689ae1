//! The holder of a certificate: a server or a client.

use std::fmt;

use clap::ValueEnum;
use sanctum_config::Label;
use serde::{Deserialize, Serialize, Serializer};

use crate::PkiError;

/// Names that would be the CA's own files, on file systems that ignore case too.
const RESERVED: [&str; 2] = ["ca", "ca-old"];

/// The side of TLS that a certificate is for, never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HolderKind {
    /// The end that listens (EKU serverAuth).
    Server,
    /// The end that connects (EKU clientAuth).
    Client,
}

/// A server or client by its name, which is the certificate's common name and the files' name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Server or client.
    pub kind: HolderKind,
    /// The name.
    #[serde(serialize_with = "as_text")]
    pub name: Label,
}

impl Holder {
    /// A holder of that name.
    ///
    /// # Errors
    /// If the name is the CA's own.
    pub fn new(kind: HolderKind, name: Label) -> Result<Self, PkiError> {
        match RESERVED
            .iter()
            .any(|own| name.as_str().eq_ignore_ascii_case(own))
        {
            true => Err(PkiError::NameTaken {
                name: name.to_string(),
                why: "it is the name of the CA's own files; choose another name".into(),
            }),
            false => Ok(Self { kind, name }),
        }
    }

    /// The holder of the same name on the other side of TLS.
    pub fn counterpart(&self) -> Self {
        let kind = match self.kind {
            HolderKind::Server => HolderKind::Client,
            HolderKind::Client => HolderKind::Server,
        };
        Self {
            kind,
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for HolderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// `client canary`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

fn as_text<S: Serializer>(name: &Label, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_ca_are_reserved() {
        let new = |name: &str| Holder::new(HolderKind::Server, name.parse().unwrap());
        assert_eq!(new("server").unwrap().to_string(), "server server");
        for own in ["ca", "CA", "Ca-Old"] {
            let error = new(own).unwrap_err().to_string();
            assert!(error.contains("choose another name"), "{error}");
        }
    }
}
