//! A tar archive (ustar, POSIX.1-1988) of regular files, written as a stream. Every system's `tar` reads it.

use std::io::{self, Read, Write};

/// The size of a block.
const BLOCK: usize = 512;

/// Writes one file. `name` is relative, and `size` is exactly what `from` has.
///
/// # Errors
/// If the name is too long, `from` has another size, or something cannot be read or written.
pub(super) fn file(
    to: &mut dyn Write,
    name: &str,
    mode: u32,
    size: u64,
    from: &mut dyn Read,
) -> io::Result<()> {
    to.write_all(&header(name, mode, size)?)?;
    let copied = io::copy(&mut from.take(size), to)?;
    if copied != size || from.read(&mut [0])? != 0 {
        let why = format!("{name} changed while it was sent; run the command again");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let rest = (BLOCK - size as usize % BLOCK) % BLOCK;
    to.write_all(&[0; BLOCK][..rest])
}

/// Writes the end of the archive.
///
/// # Errors
/// If it cannot be written.
pub(super) fn end(to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

fn header(name: &str, mode: u32, size: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    // A name of up to 100 bytes, after a prefix of up to 155 that ends before a slash.
    let split = match name.len() {
        0..=100 => 0,
        long => {
            let slash = name.as_bytes()[..long.min(156)]
                .iter()
                .rposition(|byte| *byte == b'/');
            slash
                .filter(|slash| long - slash - 1 <= 100)
                .map_or(long, |slash| slash + 1)
        }
    };
    if name.is_empty() || split == name.len() || size >= 1 << 33 {
        let why =
            format!("`{name}` has no place in an archive: its name or its contents are too long");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    put(0, &name[split..]);
    put(100, &format!("{:07o}\0", mode & 0o7777));
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    put(345, &name[..split.saturating_sub(1)]);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn archive_is_unpacked_by_the_systems_tar() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(60));
        let files = [
            ("push/1/sanctum-server", 0o755, vec![7; 1025]),
            ("secrets/server.token", 0o600, b"x".to_vec()),
            ("empty", 0o644, Vec::new()),
            (&long, 0o644, vec![1; 512]),
        ];
        let mut tar = Command::new("tar")
            .args(["-xpf", "-", "-C"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = tar.stdin.take().unwrap();
        for (name, mode, bytes) in &files {
            file(&mut to, name, *mode, bytes.len() as u64, &mut &bytes[..]).unwrap();
        }
        end(&mut to).unwrap();
        drop(to);
        assert!(tar.wait().unwrap().success());
        for (name, mode, bytes) in &files {
            let path = folder.path().join(name);
            assert_eq!(fs::read(&path).unwrap(), *bytes, "{name}");
            let about = fs::metadata(&path).unwrap().permissions();
            assert_eq!(about.mode() & 0o777, *mode, "{name}");
        }
    }

    #[test]
    fn file_of_another_size_or_with_too_long_a_name_is_an_error() {
        let mut to = Vec::new();
        for bytes in [&b"ab"[..], b"abcd"] {
            let error = file(&mut to, "a", 0o644, 3, &mut { bytes }).unwrap_err();
            assert!(error.to_string().contains("changed while"), "{error}");
        }
        assert!(file(&mut to, &"x".repeat(101), 0o644, 0, &mut &[][..]).is_err());
    }
}
