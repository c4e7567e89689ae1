//! The tiny model that is compiled into the binary, so that the first command answers without a download.

use std::io;
use std::path::Path;

use crate::load::checkpoint::Files;

/// Its files, by name.
pub const FILES: [(&str, &[u8]); 6] = [
    (
        "config.json",
        include_bytes!("../../../../models/tiny/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../../../models/tiny/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../../../models/tiny/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../../../models/tiny/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../../models/tiny/tokenizer_config.json"),
    ),
    (
        "chat_template.jinja",
        include_bytes!("../../../../models/tiny/chat_template.jinja"),
    ),
];

/// Its files as a checkpoint.
pub(crate) fn files() -> Files {
    Files::memory(FILES)
}

/// Writes it as a checkpoint folder. Each file is written under a temporary name and renamed when it is complete.
///
/// # Errors
/// What the system says if the folder or a file cannot be written.
pub fn export(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in FILES {
        let partial = folder.join(format!(".{name}.partial"));
        let mut file = std::fs::File::create(&partial)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, folder.join(name))?;
    }
    Ok(())
}
