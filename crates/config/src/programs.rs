//! The paths of the system's own programs.

use std::path::PathBuf;

/// The program that a daemon starts for `name`, such as `launchctl`.
///
/// On macOS this is the absolute path that the system ships it at: every process that can set the session's
/// environment can change a launchd job's PATH, and a program found through it would run with the daemon's rights. Elsewhere, and for a name
/// that macOS does not ship, it is the name itself, found through PATH.
///
/// The environment variable `SANCTUM_NAME` (`SANCTUM_LAUNCHCTL`, `SANCTUM_OSASCRIPT`) overrides it on every system, for
/// tests and for machines that keep a program elsewhere.
pub fn system_program(name: &str) -> PathBuf {
    let variable = format!(
        "SANCTUM_{}",
        name.to_ascii_uppercase().replace(['-', '.'], "_")
    );
    match std::env::var_os(variable) {
        Some(program) if !program.is_empty() => program.into(),
        _ => shipped(name, cfg!(target_os = "macos")),
    }
}

fn shipped(name: &str, macos: bool) -> PathBuf {
    let folder = match name {
        _ if !macos => return name.into(),
        "launchctl" | "ps" | "sh" => "/bin",
        "sysctl" | "lsof" | "spctl" | "systemsetup" => "/usr/sbin",
        "socketfilterfw" => "/usr/libexec/ApplicationFirewall",
        "caffeinate" | "codesign" | "defaults" | "ditto" | "fdesetup" | "memory_pressure"
        | "osascript" | "pmset" | "rsync" | "security" | "ssh" | "sw_vers" | "tar" | "vm_stat"
        | "xcrun" => "/usr/bin",
        _ => return name.into(),
    };
    PathBuf::from(folder).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_program_on_macos_has_an_absolute_path() {
        assert_eq!(shipped("launchctl", true), PathBuf::from("/bin/launchctl"));
        assert_eq!(shipped("sysctl", true), PathBuf::from("/usr/sbin/sysctl"));
        assert_eq!(
            shipped("mlx_lm.server", true),
            PathBuf::from("mlx_lm.server")
        );
        assert_eq!(shipped("launchctl", false), PathBuf::from("launchctl"));
    }
}
