//! Sizes that must be there, and how large they may be.

use super::error::{ConfigError, unsupported};
use super::fields::Fields;

/// Sizes beyond this are not models but damage; products of a few of them stay far from overflow.
pub(super) const LARGEST_SIZE: usize = 1 << 20;
/// A recurrent state is heads times key times value dimensions, and no tensor of the file is as large; published models
/// have 64 heads of 128, or 16 of 256.
pub(super) const LARGEST_HEAD: usize = 512;

/// A whole number from 1 to `most` that must be there.
pub(super) fn size(fields: &Fields, key: &str, most: usize) -> Result<usize, ConfigError> {
    let size = fields.required_size(key)?;
    within(key, size, most).map(|()| size)
}

/// Checks that a size is from 1 to `most`.
pub(super) fn within(key: &str, size: usize, most: usize) -> Result<(), ConfigError> {
    if (1..=most).contains(&size) {
        return Ok(());
    }
    let why = match most {
        LARGEST_HEAD => ": a sequence's memory grows with it",
        _ => "",
    };
    let wanted = format!("it must be between 1 and {most}{why}");
    Err(unsupported(key, size, wanted))
}
