//! Source texts that a compiler in this process can include.

use std::ffi::CStr;
use std::io;

/// A text in memory with a path of its own.
pub(crate) struct SourceFile {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
}

#[cfg(target_os = "linux")]
impl SourceFile {
    /// Writes `text` to a file that no folder lists. It exists until this value is dropped.
    ///
    /// # Errors
    /// If the system allows no such file.
    pub(crate) fn new(name: &CStr, text: &str) -> io::Result<Self> {
        use std::io::Write as _;

        use rustix::fs::MemfdFlags;

        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes())?;
        Ok(Self { file })
    }

    /// The line that includes it.
    pub(crate) fn include(&self) -> String {
        use std::os::fd::AsRawFd as _;

        format!("#include \"/proc/self/fd/{}\"\n", self.file.as_raw_fd())
    }
}

/// Only Linux has MLX's CUDA device.
#[cfg(not(target_os = "linux"))]
impl SourceFile {
    /// Always fails.
    pub(crate) fn new(_name: &CStr, _text: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing: there is no file.
    pub(crate) fn include(&self) -> String {
        String::new()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn included_path_reads_the_text() {
        let file = SourceFile::new(c"text.cuh", "int a;\n").unwrap();
        let line = file.include();
        let path = line
            .strip_prefix("#include \"")
            .and_then(|rest| rest.strip_suffix("\"\n"))
            .unwrap();
        for _ in 0..2 {
            assert_eq!(std::fs::read_to_string(path).unwrap(), "int a;\n");
        }
    }
}
