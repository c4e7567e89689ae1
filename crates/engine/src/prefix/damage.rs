//! Damages a snapshot on purpose, so that tests can check that the check of reused prefixes finds it. Debug builds only: in a
//! release build nothing happens here.

use crate::backend::Backend;

/// The snapshot with one bit of a recurrent state flipped if the file exists that the environment variable
/// `SANCTUM_DAMAGE_PREFIX` names, else as it is.
pub(crate) fn damaged<B: Backend>(
    backend: &B,
    slots: &mut B::Slots,
    snapshot: B::Snapshot,
) -> B::Snapshot {
    #[cfg(debug_assertions)]
    if is_wanted() {
        return flipped(backend, slots, snapshot);
    }
    #[cfg(not(debug_assertions))]
    let _ = (backend, slots);
    snapshot
}

#[cfg(debug_assertions)]
fn is_wanted() -> bool {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("SANCTUM_DAMAGE_PREFIX").map(PathBuf::from));
    file.as_ref().is_some_and(|file| file.exists())
}

/// The snapshot with one bit flipped: the highest of the mantissa, of a number in the first recurrent layer.
#[cfg(debug_assertions)]
pub(crate) fn flipped<B: Backend>(
    backend: &B,
    slots: &mut B::Slots,
    snapshot: B::Snapshot,
) -> B::Snapshot {
    /// Both backends begin with the first recurrent layer, in numbers of four bytes.
    const BYTE: usize = 258;
    const BIT: u8 = 0x40;
    let mut bytes = backend.export(slots, &snapshot, 0);
    if let Some(byte) = bytes.get_mut(BYTE) {
        *byte ^= BIT;
    }
    match backend.import(slots, None, &bytes) {
        Ok(damaged) => {
            backend.release(slots, snapshot);
            damaged
        }
        // A backend without bytes.
        Err(_) => snapshot,
    }
}
