//! The audit file: appended to, put aside when it has grown, never more than so many of them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use super::Place;

/// The file that is written to now.
pub struct AuditFile {
    place: Place,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
    /// The last line in it is not whole.
    torn: bool,
    /// It could not be put aside, and that was said.
    stuck: bool,
}

impl AuditFile {
    /// Opens the file to append to it; makes it, readable for its owner alone, if it is not there.
    pub fn open(place: Place) -> io::Result<Self> {
        if let Some(folder) = place.file.parent()
            && !folder.as_os_str().is_empty()
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&place.file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if metadata.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        let size = metadata.len();
        Ok(Self {
            torn: size > 0 && last_byte(&mut file)? != b'\n',
            identity: (metadata.dev(), metadata.ino()),
            file,
            size,
            stuck: false,
            place,
        })
    }

    /// Appends whole lines, each with its newline. What could not be written is lost, and the next line begins anew.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + lines.len() as u64 > self.place.rotate_bytes.get() {
            match self.rotate() {
                Ok(()) => self.stuck = false,
                Err(error) if !self.stuck => {
                    tracing::error!(%error, "the audit log cannot be put aside and grows past its size");
                    self.stuck = true;
                }
                Err(_) => {}
            }
        }
        if self.torn {
            self.put(b"\n")?;
        }
        self.put(lines)
    }

    /// Opens the file anew if somebody has moved or deleted it.
    pub fn find_again(&mut self) -> io::Result<()> {
        let there = fs::metadata(&self.place.file).map(|is| (is.dev(), is.ino()));
        if there.is_ok_and(|identity| identity == self.identity) {
            return Ok(());
        }
        *self = Self::open(self.place.clone())?;
        Ok(())
    }

    /// Sees to it that what was appended survives a loss of power.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.size += written as u64;
                    self.torn = bytes[..written].last() != Some(&b'\n');
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `file` becomes `file.1`, `file.1` becomes `file.2`, and the last is deleted.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let there = |moved: io::Result<()>| match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let keep = self.place.keep;
        there(fs::remove_file(self.aside(keep)))?;
        for older in (1..=keep).rev() {
            there(fs::rename(self.aside(older - 1), self.aside(older)))?;
        }
        *self = Self::open(self.place.clone())?;
        Ok(())
    }

    /// Where the file goes when it has been put aside so many times.
    fn aside(&self, times: usize) -> PathBuf {
        match times {
            0 => self.place.file.clone(),
            _ => {
                let mut name = self.place.file.clone().into_os_string();
                name.push(format!(".{times}"));
                name.into()
            }
        }
    }
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;
    use tempfile::TempDir;

    fn place(dir: &TempDir, keep: usize) -> Place {
        Place {
            file: dir.path().join("logs/audit.jsonl"),
            rotate_bytes: NonZeroU64::new(10).unwrap(),
            keep,
        }
    }

    fn listing(dir: &TempDir) -> Vec<(String, String)> {
        let mut all: Vec<_> = fs::read_dir(dir.path().join("logs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn it_is_put_aside_before_it_grows_too_large_and_the_oldest_goes() {
        let dir = TempDir::new().unwrap();
        let mut file = AuditFile::open(place(&dir, 2)).unwrap();
        for line in [
            "1111\n",
            "2222\n",
            "3333\n",
            "44444444444444\n",
            "5\n",
            "6\n",
        ] {
            file.append(line.as_bytes()).unwrap();
        }
        let named = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(
            listing(&dir),
            [
                named("audit.jsonl", "5\n6\n"),
                named("audit.jsonl.1", "44444444444444\n"),
                named("audit.jsonl.2", "3333\n"),
            ]
        );
        let mut file = AuditFile::open(place(&dir, 0)).unwrap();
        file.append(b"777777777\n").unwrap();
        assert_eq!(listing(&dir)[0], named("audit.jsonl", "777777777\n"));
    }

    #[test]
    fn nobody_else_may_read_it() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, 1);
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
        AuditFile::open(place.clone()).unwrap();
        assert_eq!(mode(&place.file), 0o600);
        assert_eq!(mode(place.file.parent().unwrap()), 0o700);
        fs::set_permissions(&place.file, Permissions::from_mode(0o644)).unwrap();
        AuditFile::open(place.clone()).unwrap();
        assert_eq!(mode(&place.file), 0o600);
    }

    #[test]
    fn after_half_a_line_a_new_one_begins() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, 1);
        AuditFile::open(place.clone()).unwrap();
        fs::write(&place.file, "{\"ti").unwrap();
        let mut file = AuditFile::open(place.clone()).unwrap();
        file.append(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&place.file).unwrap(), "{\"ti\n{}\n");
    }

    #[test]
    fn a_file_that_was_taken_away_is_made_anew() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, 1);
        let mut file = AuditFile::open(place.clone()).unwrap();
        file.append(b"1\n").unwrap();
        fs::rename(&place.file, dir.path().join("elsewhere")).unwrap();
        file.find_again().unwrap();
        file.append(b"2\n").unwrap();
        file.find_again().unwrap();
        file.append(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(&place.file).unwrap(), "2\n3\n");
    }
}
