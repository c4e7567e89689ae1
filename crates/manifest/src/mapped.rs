//! Files mapped into memory.

use std::fs::File;
use std::io;

/// A file mapped into memory, read-only.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

/// Maps a whole file, read-only.
///
/// The file must not be truncated while it is mapped: the system then ends the process with a bus error at the next read
/// beyond the new end. Replace a file in use by renaming another over it, as every tool of this suite does.
///
/// # Errors
/// What the system says if the file cannot be mapped (a folder, a pipe, no memory).
pub fn map_file(file: &File) -> io::Result<MappedFile> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // SAFETY: the mapping is read-only and private to this process's address space. Another process that writes
    // to the file can change bytes under us; they are only ever read as numbers, for which every bit pattern is
    // valid, or parsed by code that copies what it checks. Truncation ends the process, as documented.
    let map = unsafe { memmap2::MmapOptions::new().map(file)? };
    Ok(MappedFile(map))
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
