//! The manifest's text: what `shasum -a 256` and `sha256sum` write, read strictly.
//!
//! A line is 64 hex digits, two spaces (or a space and `*`, "binary", which means the same on every system of today)
//! and the name. Lines that begin with `#` and blank lines are ignored; lines may end in CR LF. GNU's tools put a
//! backslash before the digits of a name in which they escaped a backslash; that is understood and written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::hex::hex_32;
use crate::{Digest, FileName, NameError};

/// Which files a folder must hold, each with its digest: one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(BTreeMap<FileName, Digest>);

/// A line that is not a manifest's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not begin with a digest and its separator.
    #[error(
        "line {line}: it is not `DIGEST  NAME` as `shasum -a 256` writes it (64 hex digits, two spaces, the name)"
    )]
    Form {
        /// Counted from 1.
        line: usize,
    },
    /// It is in the format of `shasum --tag` or BSD's `sha256`.
    #[error(
        "line {line}: this is the format of `--tag`; write the manifest with `shasum -a 256` without it"
    )]
    Tagged {
        /// Counted from 1.
        line: usize,
    },
    /// A backslash in an escaped name is followed by something that GNU's tools do not write.
    #[error("line {line}: the name has an escape other than \\\\")]
    Escape {
        /// Counted from 1.
        line: usize,
    },
    /// The name is not allowed in a manifest.
    #[error("line {line}: {source}")]
    Name {
        /// Counted from 1.
        line: usize,
        /// Why not.
        source: NameError,
    },
    /// A file is listed twice.
    #[error("line {line}: {name} is already listed in line {first}; remove one of the lines")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The first line that lists it.
        first: usize,
        /// The file.
        name: FileName,
    },
    /// There is no file in it.
    #[error("it lists no file; list the files of the model's folder: sanctum-pki manifest create")]
    Empty,
}

impl Manifest {
    /// Parses a manifest's bytes.
    ///
    /// # Errors
    /// At the first invalid line, with its number.
    pub fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        let mut files = BTreeMap::new();
        let mut lines = BTreeMap::new();
        for (index, text) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = index + 1;
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.starts_with(b"#") || text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (name, digest) = entry(text, line)?;
            if let Some(&first) = lines.get(&name) {
                return Err(LineError::Twice { line, first, name });
            }
            lines.insert(name.clone(), line);
            files.insert(name, digest);
        }
        Self::from_files(files).ok_or(LineError::Empty)
    }

    /// From files and their digests; none if there are none.
    pub fn from_files(files: BTreeMap<FileName, Digest>) -> Option<Self> {
        (!files.is_empty()).then_some(Self(files))
    }

    /// The digest of a file; none if it is not listed.
    pub fn digest(&self, name: &str) -> Option<Digest> {
        self.0.get(name).copied()
    }

    /// Every file and its digest, by name.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&FileName, Digest)> {
        self.0.iter().map(|(name, digest)| (name, *digest))
    }
}

/// One line, without its end.
fn entry(text: &[u8], line: usize) -> Result<(FileName, Digest), LineError> {
    let (text, escaped) = match text.strip_prefix(b"\\") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let form = || match text.starts_with(b"SHA") {
        true => LineError::Tagged { line },
        false => LineError::Form { line },
    };
    let (digest, rest) = text.split_at_checked(64).ok_or_else(form)?;
    let digest = hex_32(digest).map(Digest::from).ok_or_else(form)?;
    let name = rest
        .strip_prefix(b"  ")
        .or_else(|| rest.strip_prefix(b" *"))
        .ok_or_else(form)?;
    let name_error = |source| LineError::Name { line, source };
    let name = str::from_utf8(name)
        .map_err(|_| name_error(NameError::NotUtf8(String::from_utf8_lossy(name).into())))?;
    let name = match escaped {
        false => Cow::Borrowed(name),
        true => Cow::Owned(unescaped(name).ok_or(LineError::Escape { line })?),
    };
    Ok((name.parse().map_err(name_error)?, digest))
}

/// A name without GNU's escapes; none if there is one that is none of theirs. A line break comes out as itself, for
/// the rules of names to refuse.
fn unescaped(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            char => char,
        });
    }
    Some(plain)
}

/// The text of the file, sorted by name; parsing it gives this manifest again.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, digest) in self.files() {
            match name.as_str().contains('\\') {
                false => writeln!(f, "{digest}  {name}")?,
                true => writeln!(f, "\\{digest}  {}", name.as_str().replace('\\', "\\\\"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn names(text: &str) -> Result<Vec<String>, String> {
        let manifest = Manifest::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(manifest.files().map(|(name, _)| name.to_string()).collect())
    }

    #[test]
    fn what_shasum_writes_is_read() {
        let text = format!(
            "# council, 4-bit\r\n\n{A}  b.json\r\n{A} *sub/a.safetensors\n   \n\\{A}  c\\\\d\n{}   two  spaces",
            A.to_uppercase()
        );
        let expected = [" two  spaces", "b.json", "c\\d", "sub/a.safetensors"];
        assert_eq!(names(&text).unwrap(), expected);
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.digest("b.json"), Some(Digest::from([0xAA; 32])));
        assert_eq!(manifest.digest("b"), None);
        let printed =
            format!("{A}   two  spaces\n{A}  b.json\n\\{A}  c\\\\d\n{A}  sub/a.safetensors\n");
        assert_eq!(manifest.to_string(), printed);
    }

    #[test]
    fn what_it_does_not_write_is_an_error_with_its_line() {
        for (text, says) in [
            (format!("{A} a"), "line 1: it is not"),
            (format!("{A}\ta"), "line 1: it is not"),
            (format!("{}  a", &A[1..]), "line 1: it is not"),
            (format!("#\n{A}  a\nnonsense"), "line 3: it is not"),
            (format!("\u{feff}{A}  a"), "line 1: it is not"),
            (format!("SHA256 (a) = {A}"), "--tag"),
            (format!("{A}  "), "name is missing"),
            (format!("{A}  /a"), "absolute"),
            (format!("{A}  ../a"), "component"),
            (format!("{A}  a/./b"), "component"),
            (format!("{A}  a\0b"), "control character"),
            (format!("{A}  a\rb"), "control character"),
            (format!("\\{A}  a\\nb"), "control character"),
            (format!("\\{A}  a\\tb"), "escape"),
            (format!("\\{A}  a\\"), "escape"),
            (
                format!("{A}  a\n# x\n{A} *a"),
                "line 3: a is already listed in line 1",
            ),
            (String::new(), "no file"),
            ("# nothing\n\n".to_owned(), "no file"),
        ] {
            let error = names(&text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let latin = [A.as_bytes(), b"  caf\xe9"].concat();
        let error = Manifest::parse(&latin).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.contains("UTF-8"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&bytes);
        }

        #[test]
        fn no_line_that_is_nearly_right_panics(
            lines in prop::collection::vec(
                ("\\\\{0,2}", "[0-9a-fA-F]{63,65}", "[ *\t]{0,3}", "[ab./\\\\nr\r\0é]{0,8}"), 0..6,
            ),
        ) {
            let lines: Vec<String> = lines.into_iter().map(|(a, b, c, d)| a + &b + &c + &d).collect();
            if let Ok(manifest) = Manifest::parse(lines.join("\n").as_bytes()) {
                prop_assert_eq!(Manifest::parse(manifest.to_string().as_bytes()), Ok(manifest));
            }
        }

        #[test]
        fn what_is_printed_is_read_back(
            files in prop::collection::btree_map("[a-z .\\\\#*é]{1,6}(/[a-z\\\\]{1,4}){0,2}", any::<[u8; 32]>(), 1..8),
        ) {
            let files: BTreeMap<FileName, Digest> = files
                .into_iter()
                .filter_map(|(name, digest)| Some((name.parse().ok()?, Digest::from(digest))))
                .collect();
            if let Some(manifest) = Manifest::from_files(files) {
                prop_assert_eq!(Manifest::parse(manifest.to_string().as_bytes()), Ok(manifest));
            }
        }
    }
}
