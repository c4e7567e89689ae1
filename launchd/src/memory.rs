//! How much memory models need, as far as their folders tell.

use std::path::Path;

/// The bytes of the files in a folder, as far as they can be seen.
pub fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries
        .flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok());
    sizes
        .filter(|about| about.is_file())
        .map(|about| about.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [0; 100]).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        assert_eq!(size_of(folder.path()), 100);
        assert_eq!(size_of(&folder.path().join("none")), 0);
    }
}
