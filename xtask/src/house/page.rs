//! docs/architecture.md, whose fenced blocks hold the rules that the checks read.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::HouseError;

/// The page.
#[derive(Debug)]
pub(super) struct ArchitecturePage {
    file: PathBuf,
    text: String,
}

impl ArchitecturePage {
    /// Reads the page.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read(file: &Path) -> Result<Self, HouseError> {
        let text = fs::read_to_string(file).map_err(|source| HouseError::Read {
            file: file.to_owned(),
            source,
        })?;
        Ok(Self {
            file: file.to_owned(),
            text,
        })
    }

    /// The page of a test.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self {
            file: "page.md".into(),
            text: text.to_owned(),
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The lines of the block that begins with "```" and this name.
    ///
    /// # Errors
    /// If there is no such block.
    pub(super) fn block(&self, name: &str) -> Result<impl Iterator<Item = &str>, HouseError> {
        let fence = format!("```{name}");
        let mut lines = self
            .text
            .lines()
            .skip_while(move |line| line.trim() != fence);
        if lines.next().is_none() {
            return Err(self.error(format!("no block begins with ```{name}; add it")));
        }
        Ok(lines.take_while(|line| !line.starts_with("```")))
    }

    /// A problem of the page itself.
    pub(super) fn error(&self, problem: String) -> HouseError {
        HouseError::Page {
            page: self.file.clone(),
            problem,
        }
    }
}
