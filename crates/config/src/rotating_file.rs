//! A file that grows by whole lines and is rotated by size: `FILE` becomes `FILE.1`, `FILE.1` becomes `FILE.2`, and the
//! oldest is deleted. The logs of all programs and the server's audit log are such files.
//!
//! No published crate does what these logs need. `tracing-appender` rotates by time only
//! (tokio-rs/tracing 858); `file-rotate` assumes that no other process moves
//! its files, panics when a rotated file was deleted (kstrafe/file-rotate 17), splits lines, and drops lines silently when
//! its file cannot be opened; `rolling-file` and its fork keep lines in memory
//! until they are flushed; `logroller` makes a file with the umask's mode before it changes it. All of them block on
//! a FIFO.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;

/// When a file is rotated, and how many rotated ones are kept: at most `keep + 1` files of `max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The size that a file may grow to. One write that is larger makes a larger file.
    pub max_bytes: NonZeroU64,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// The file that is written to now. It is never buffered: what was appended is with the system.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
    /// The last line in it is not whole.
    torn: bool,
    /// Why it could not be rotated, until that was asked for.
    stuck: Option<io::Error>,
    /// The last rotation failed.
    is_stuck: bool,
}

impl RotatingFile {
    /// Opens the file to append to it. Makes it, and its folder, readable for its owner alone if it is not there.
    ///
    /// # Errors
    /// As [`files::open_log`].
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let mut file = files::open_log(path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        Ok(Self {
            torn: size > 0 && last_byte(&mut file)? != b'\n',
            identity: (metadata.dev(), metadata.ino()),
            path: path.to_owned(),
            rotation,
            file,
            size,
            stuck: None,
            is_stuck: false,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines, each with its newline, after rotating the file if they would make it too large. If they
    /// cannot be written they are lost, and the next lines begin on a new line. A file that cannot be rotated grows;
    /// see [`Self::rotation_error`].
    ///
    /// # Errors
    /// If the system refuses to write.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + lines.len() as u64 > self.rotation.max_bytes.get() {
            match self.rotate() {
                Ok(()) => self.is_stuck = false,
                Err(error) if !self.is_stuck => {
                    self.stuck = Some(error);
                    self.is_stuck = true;
                }
                Err(_) => {}
            }
        }
        if self.torn {
            self.put(b"\n")?;
        }
        self.put(lines)
    }

    /// Why the file could not be rotated: once, until a rotation succeeds and another fails.
    pub fn rotation_error(&mut self) -> Option<io::Error> {
        self.stuck.take()
    }

    /// Opens the file again if it was moved or deleted.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reopen_if_moved(&mut self) -> io::Result<()> {
        let there = fs::metadata(&self.path).map(|about| (about.dev(), about.ino()));
        if there.is_ok_and(|identity| identity == self.identity) {
            return Ok(());
        }
        *self = Self::open(&self.path, self.rotation)?;
        Ok(())
    }

    /// Makes what was appended survive a loss of power.
    ///
    /// # Errors
    /// If the system refuses.
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

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // The new file first: where it cannot be made, nothing has been moved or deleted.
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        remove(&beside)?;
        let next = Self::open(&beside, self.rotation)?;
        let keep = self.rotation.keep;
        if keep > 0 {
            remove(&self.rotated(keep))?;
        }
        // Left from when more were kept.
        let mut beyond = keep + 1;
        while remove(&self.rotated(beyond))? {
            beyond += 1;
        }
        for older in (1..=keep).rev() {
            match fs::rename(self.rotated(older - 1), self.rotated(older)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&beside, &self.path)?;
        let path = std::mem::take(&mut self.path);
        *self = Self { path, ..next };
        Ok(())
    }

    /// The file after it was rotated so many times.
    fn rotated(&self, times: usize) -> PathBuf {
        match times {
            0 => self.path.clone(),
            _ => {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{times}"));
                name.into()
            }
        }
    }
}

/// Removes a file; whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn path(dir: &TempDir) -> PathBuf {
        dir.path().join("logs/audit.jsonl")
    }

    fn open(dir: &TempDir, keep: usize) -> RotatingFile {
        let max_bytes = NonZeroU64::new(10).unwrap();
        RotatingFile::open(&path(dir), Rotation { max_bytes, keep }).unwrap()
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

    fn named(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn append_beyond_the_size_rotates_and_deletes_the_oldest() {
        let dir = TempDir::new().unwrap();
        let mut file = open(&dir, 2);
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
        assert_eq!(
            listing(&dir),
            [
                named("audit.jsonl", "5\n6\n"),
                named("audit.jsonl.1", "44444444444444\n"),
                named("audit.jsonl.2", "3333\n"),
            ]
        );
        // Fewer are kept from now on.
        let mut file = open(&dir, 0);
        file.append(b"777777777\n").unwrap();
        assert_eq!(listing(&dir), [named("audit.jsonl", "777777777\n")]);
    }

    /// Six hours of 10 MB each, in lines as the server writes them.
    #[test]
    fn sixty_megabytes_of_lines_stay_within_size_times_count() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("server.log");
        let max_bytes = NonZeroU64::new(4 << 20).unwrap();
        let mut file = RotatingFile::open(&path, Rotation { max_bytes, keep: 2 }).unwrap();
        let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(285)).into_bytes();
        let lines = 60_000_000 / line.len();
        for _ in 0..lines {
            file.append(&line).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|&size| size <= 4 << 20), "{sizes:?}");
        let last = fs::read_to_string(path).unwrap();
        assert!(last.lines().all(|one| one.len() + 1 == line.len()));
    }

    #[test]
    fn file_and_folder_are_private() {
        let dir = TempDir::new().unwrap();
        let path = path(&dir);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        open(&dir, 1);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open(&dir, 1);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn line_after_half_a_line_begins_on_a_new_line() {
        let dir = TempDir::new().unwrap();
        open(&dir, 1);
        fs::write(path(&dir), "{\"ti").unwrap();
        open(&dir, 1).append(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(path(&dir)).unwrap(), "{\"ti\n{}\n");
    }

    #[test]
    fn file_that_was_moved_is_made_again() {
        let dir = TempDir::new().unwrap();
        let mut file = open(&dir, 1);
        file.append(b"1\n").unwrap();
        fs::rename(path(&dir), dir.path().join("elsewhere")).unwrap();
        for line in [b"2\n", b"3\n"] {
            file.reopen_if_moved().unwrap();
            file.append(line).unwrap();
        }
        assert_eq!(fs::read_to_string(path(&dir)).unwrap(), "2\n3\n");
    }

    /// A folder in place of a rotated file: the log is still written, and the reason is reported once.
    #[test]
    fn file_that_cannot_be_rotated_grows_and_reports_that_once() {
        let dir = TempDir::new().unwrap();
        let mut file = open(&dir, 1);
        let blocked = dir.path().join("logs/audit.jsonl.1");
        fs::create_dir(&blocked).unwrap();
        for _ in 0..3 {
            file.append(b"12345678\n").unwrap();
        }
        assert!(file.rotation_error().is_some() && file.rotation_error().is_none());
        assert_eq!(fs::metadata(path(&dir)).unwrap().len(), 27);
        fs::remove_dir(&blocked).unwrap();
        file.append(b"1\n").unwrap();
        assert_eq!(fs::metadata(path(&dir)).unwrap().len(), 2);
    }

    /// A folder in place of the new file stands for every reason why it cannot be made, such as too many open files.
    #[test]
    fn file_whose_successor_cannot_be_made_keeps_all_older_ones() {
        let dir = TempDir::new().unwrap();
        let mut file = open(&dir, 2);
        for line in [b"11111111\n", b"22222222\n", b"33333333\n"] {
            file.append(line).unwrap();
        }
        let blocked = dir.path().join("logs/audit.jsonl.new");
        fs::create_dir(&blocked).unwrap();
        for _ in 0..4 {
            file.append(b"44444444\n").unwrap();
        }
        assert!(file.rotation_error().is_some());
        fs::remove_dir(&blocked).unwrap();
        let logged = format!("33333333\n{}", "44444444\n".repeat(4));
        let before = [
            named("audit.jsonl", &logged),
            named("audit.jsonl.1", "22222222\n"),
            named("audit.jsonl.2", "11111111\n"),
        ];
        assert_eq!(listing(&dir), before);
        file.append(b"5\n").unwrap();
        let after = [
            named("audit.jsonl", "5\n"),
            named("audit.jsonl.1", &logged),
            named("audit.jsonl.2", "22222222\n"),
        ];
        assert_eq!(listing(&dir), after);
    }
}
