//! Process limits that are set before anything secret is read: no core dumps, and enough file descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors for what is not a connection: listeners, weights, logs, the runtime's own.
const OTHERS: u64 = 64;

/// The maximum on macOS, whatever its hard limit is (`OPEN_MAX`).
const USUAL_MOST: u64 = 10_240;

/// Forbids core dumps, which would write keys and prompts to the disk. On Linux, other processes of the same user are also
/// denied access to the memory of this one.
pub(crate) fn keep_memory_private() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be disabled; a crash may write secrets to the disk");
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "debuggers of the same user can read the memory of this process");
        }
    }
}

/// Raises the limit on file descriptors as far as possible, and returns how many of `connections` it allows.
pub(crate) fn room_for(connections: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None: without limit.
    let Some(current) = current else {
        return connections;
    };
    let wanted = [maximum, Some(maximum.unwrap_or(USUAL_MOST).min(USUAL_MOST))];
    let raised = wanted.into_iter().find(|&wanted| {
        let more = wanted.is_none_or(|wanted| wanted > current);
        let limit = Rlimit {
            current: wanted,
            maximum,
        };
        more && setrlimit(Resource::Nofile, limit).is_ok()
    });
    let files = match raised {
        Some(limit) => limit,
        None => Some(current),
    };
    let room = files.map_or(u64::MAX, |files| files.saturating_sub(OTHERS).max(1));
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < connections {
        tracing::warn!(
            connections = room,
            "fewer connections than configured: raise the limit of open files (ulimit -n)"
        );
    }
    room.min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_asked_for_and_connections_fit_into_them() {
        assert_eq!(room_for(10), 10);
        let limit = getrlimit(Resource::Nofile).current;
        let most = limit.map_or(usize::MAX, |files| (files - OTHERS) as usize);
        assert_eq!(room_for(usize::MAX), most);
    }

    #[test]
    fn core_dumps_are_disabled() {
        keep_memory_private();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }
}
