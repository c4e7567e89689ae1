//! Which files of a checkpoint or an adapter are loaded, so that a manifest must list them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Bytes;

/// The chat template for requests with tools, in a folder as transformers has it.
pub const TOOL_USE_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";

/// Names that the loader opens, weights aside.
const SETTINGS: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    TOOL_USE_TEMPLATE,
    "adapter_config.json",
];

/// Whether the loader reads a file of this name where there is one: settings, tokenizer, template, weights.
pub fn is_loaded(name: &str) -> bool {
    let weights = [".safetensors", ".safetensors.index.json"];
    SETTINGS.contains(&name)
        || !name.contains('/') && weights.iter().any(|ending| name.ends_with(ending))
}

/// The files of a folder that a manifest lists and the loader reads.
#[derive(Debug)]
pub struct VerifiedFiles {
    /// The folder, for messages.
    pub folder: PathBuf,
    /// The manifest, for messages.
    pub manifest: PathBuf,
    /// The files, by name.
    pub files: BTreeMap<String, Bytes>,
}
