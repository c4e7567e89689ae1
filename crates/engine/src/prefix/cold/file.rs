//! The format of a cold prefix's file.
//!
//! All numbers are little-endian. A header of fixed size, then the tokens behind the parent (4 bytes each), then the payload:
//!
//! | Offset | Bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | magic `SNCTPRFX` |
//! | 8 | 4 | version of the format |
//! | 12 | 4 | zero |
//! | 16 | 32 | fingerprint |
//! | 48 | 16 | scope |
//! | 64 | 32 | key: the name of the file |
//! | 96 | 32 | the parent's key; zeros: no parent |
//! | 128 | 8 | tokens of the parent |
//! | 136 | 8 | tokens of the prefix |
//! | 144 | 8 | bytes of the payload |
//! | 152 | 32 | SHA-256 of tokens and payload |
//! | 184 | 32 | SHA-256 of bytes 0 to 184 |
//!
//! The header has its own checksum, so that a start reads headers only.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use sanctum_config::{atomic, files};
use sha2::{Digest, Sha256};

use super::key::{ColdKey, KeyHasher, ScopeBytes};

const MAGIC: &[u8; 8] = b"SNCTPRFX";
/// Of the format. Raise it with any change of it: files of another version are removed.
const VERSION: u32 = 1;
/// Bytes of a header.
pub(super) const HEADER: usize = 216;
/// Bytes that its checksum covers.
const COVERED: usize = HEADER - 32;
/// More tokens are no prefix.
const MOST_TOKENS: u64 = 1 << 31;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fingerprint: [u8; 32],
    pub(super) scope: ScopeBytes,
    pub(super) key: ColdKey,
    /// The key and the tokens of the prefix that this one continues.
    pub(super) parent: Option<(ColdKey, usize)>,
    /// Tokens of the prefix.
    pub(super) len: usize,
    pub(super) payload: u64,
    digest: [u8; 32],
}

/// Why a file is not a usable prefix.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFile {
    #[error("it is no file of this cache")]
    Foreign,
    #[error("its format has version {0}, not {VERSION}")]
    Version(u32),
    #[error("its header is damaged")]
    Header,
    #[error("its contents are damaged")]
    Contents,
    #[error("it has {found} bytes, not {expected}")]
    Size { found: u64, expected: u64 },
    #[error("it holds another prefix than its name says")]
    Name,
    /// It is no regular file, or other users could read it.
    #[error("{0}")]
    Kind(String),
    /// The system did not open or read it. It may be whole: the next attempt may succeed.
    #[error(transparent)]
    Unread(#[from] io::Error),
}

impl Header {
    /// The header of `payload` for the prefix `key`, whose tokens behind its parent are `tokens`.
    pub(super) fn new(
        (fingerprint, scope): (&[u8; 32], &ScopeBytes),
        key: ColdKey,
        parent: Option<(ColdKey, usize)>,
        tokens: &[u32],
        payload: &[u8],
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(token_bytes(tokens));
        hash.update(payload);
        Self {
            fingerprint: *fingerprint,
            scope: *scope,
            key,
            parent,
            len: parent.map_or(0, |(_, len)| len) + tokens.len(),
            payload: payload.len() as u64,
            digest: hash.finalize().into(),
        }
    }

    /// Tokens of the parent.
    pub(super) fn from(&self) -> usize {
        self.parent.map_or(0, |(_, len)| len)
    }

    /// Bytes of the whole file.
    pub(super) fn file_bytes(&self) -> u64 {
        file_bytes(self.len - self.from(), self.payload)
    }

    fn encode(&self) -> [u8; HEADER] {
        let (parent, from) = self.parent.unwrap_or((ColdKey([0; 32]), 0));
        let fields: [&[u8]; 11] = [
            MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 4],
            &self.fingerprint,
            &self.scope,
            &self.key.0,
            &parent.0,
            &(from as u64).to_le_bytes(),
            &(self.len as u64).to_le_bytes(),
            &self.payload.to_le_bytes(),
            &self.digest,
        ];
        let mut bytes = [0; HEADER];
        let (covered, checksum) = bytes.split_at_mut(COVERED);
        covered.copy_from_slice(&fields.concat());
        checksum.copy_from_slice(&Sha256::digest(&*covered));
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Result<Self, BadFile> {
        let mut rest = &bytes[..];
        if take::<8>(&mut rest) != *MAGIC {
            return Err(BadFile::Foreign);
        }
        let version = u32::from_le_bytes(take(&mut rest));
        if version != VERSION {
            return Err(BadFile::Version(version));
        }
        if bytes[COVERED..] != *Sha256::digest(&bytes[..COVERED]) {
            return Err(BadFile::Header);
        }
        let zero = u32::from_le_bytes(take(&mut rest));
        let fingerprint = take(&mut rest);
        let scope = take(&mut rest);
        let key = ColdKey(take(&mut rest));
        let parent = ColdKey(take(&mut rest));
        let [from, len, payload] = [(); 3].map(|()| u64::from_le_bytes(take(&mut rest)));
        let digest = take(&mut rest);
        let has_parent = parent != ColdKey([0; 32]);
        if zero != 0 || has_parent != (from > 0) || from >= len || len > MOST_TOKENS {
            return Err(BadFile::Header);
        }
        let length = |tokens: u64| usize::try_from(tokens).map_err(|_| BadFile::Header);
        let from = length(from)?;
        Ok(Self {
            fingerprint,
            scope,
            key,
            parent: has_parent.then_some((parent, from)),
            len: length(len)?,
            payload,
            digest,
        })
    }
}

/// Bytes of a file of so many tokens behind the parent and so many bytes of payload.
pub(super) fn file_bytes(tokens: usize, payload: u64) -> u64 {
    (HEADER as u64 + 4 * tokens as u64).saturating_add(payload)
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, behind) = rest.split_first_chunk().expect("a header has all fields");
    *rest = behind;
    *field
}

fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect()
}

/// Writes a file whole: beside its place, synced, then renamed.
pub(super) fn write(
    path: &Path,
    header: &Header,
    tokens: &[u32],
    payload: &[u8],
) -> io::Result<()> {
    let (head, tokens) = (header.encode(), token_bytes(tokens));
    let mut from = head.chain(&tokens[..]).chain(payload);
    atomic::stage(path, &mut from, 0o600)?.put()
}

/// Opens the file at `path`, which must be a regular file that only this user can read, and reads its header. The time is
/// that of its last use.
pub(super) fn open(path: &Path, key: ColdKey) -> Result<(File, Header, SystemTime), BadFile> {
    let mut file = files::open_no_follow(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => BadFile::Kind(error.to_string()),
        _ => BadFile::Unread(error),
    })?;
    let about = file.metadata()?;
    files::is_private(&about).map_err(|error| BadFile::Kind(error.to_string()))?;
    let mut bytes = [0; HEADER];
    let size = || BadFile::Size {
        found: about.len(),
        expected: HEADER as u64,
    };
    filled(file.read_exact(&mut bytes), size)?;
    let header = Header::decode(&bytes)?;
    if header.key != key {
        return Err(BadFile::Name);
    }
    if header.file_bytes() != about.len() {
        return Err(BadFile::Size {
            found: about.len(),
            expected: header.file_bytes(),
        });
    }
    Ok((file, header, about.modified()?))
}

/// Reads the payload of the prefix `tokens` behind the opened header, and records that it was used. `tokens` are all of its
/// tokens. None if it is no longer wanted, which is asked before each block.
pub(super) fn read(
    mut file: File,
    header: &Header,
    tokens: &[u32],
    is_wanted: impl Fn() -> bool,
) -> Result<Option<Vec<u8>>, BadFile> {
    let own = tokens.get(header.from()..).unwrap_or_default();
    let mut hasher = KeyHasher::new(&header.fingerprint, &header.scope);
    hasher.feed(tokens);
    if hasher.key() != header.key {
        return Err(BadFile::Name);
    }
    let expected = token_bytes(own);
    let mut stored = vec![0; expected.len()];
    filled(file.read_exact(&mut stored), || BadFile::Contents)?;
    if stored != expected {
        return Err(BadFile::Contents);
    }
    let mut hash = Sha256::new();
    hash.update(&stored);
    let size = usize::try_from(header.payload).map_err(|_| BadFile::Header)?;
    let mut payload = vec![0; size];
    // Hashed while it is in the processor's cache.
    for piece in payload.chunks_mut(1 << 18) {
        if !is_wanted() {
            return Ok(None);
        }
        filled(file.read_exact(piece), || BadFile::Contents)?;
        hash.update(&*piece);
    }
    if <[u8; 32]>::from(hash.finalize()) != header.digest {
        return Err(BadFile::Contents);
    }
    // Only the order of eviction after a restart depends on it.
    let _ = file.set_modified(SystemTime::now());
    Ok(Some(payload))
}

/// A file that ends before it should is damaged; all other errors of reading are the system's.
fn filled(read: io::Result<()>, damage: impl FnOnce() -> BadFile) -> Result<(), BadFile> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damage(),
        _ => BadFile::Unread(error),
    })
}
