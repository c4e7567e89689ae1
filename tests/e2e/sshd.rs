//! A real sshd on loopback, through which another host's commands reach a host of a test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sanctum_tests::skipped;
use tempfile::TempDir;

use crate::host::SOON;

/// The program.
pub(crate) const SSHD: &str = "/usr/sbin/sshd";

/// An sshd that accepts one key, and a program to use instead of ssh. Dropping it ends it.
pub(crate) struct Sshd {
    child: Child,
    folder: TempDir,
}

impl Sshd {
    /// Starts it; sessions have this home and environment. None, and the reason is printed, if that is not possible here.
    pub(crate) fn start(home: &Path, environment: &[(String, String)]) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::start_at(("127.0.0.1", port), Command::new(SSHD), home, environment)
    }

    /// The same at an address. `sshd` executes the program at [`SSHD`], in the network of that address.
    pub(crate) fn start_at(
        (address, port): (&str, u16),
        mut sshd: Command,
        home: &Path,
        environment: &[(String, String)],
    ) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return skipped("root, for sshd");
        }
        for (program, package) in [
            (SSHD, "openssh-server"),
            ("/usr/bin/ssh", "openssh-client"),
            ("/usr/bin/ssh-keygen", "openssh-client"),
        ] {
            if !Path::new(program).exists() {
                return skipped(&format!("{program} (Debian: {package})"));
            }
        }
        let folder = TempDir::new().unwrap();
        let at = folder.path().display();
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status();
            assert!(made.unwrap().success());
        }
        let mut variables = format!("\"HOME={}\"", home.display());
        for (name, value) in environment {
            variables.push_str(&format!(" \"{name}={value}\""));
        }
        let config = format!(
            "ListenAddress {address}:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/client.pub\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             UsePAM no\nStrictModes no\nPidFile none\nSetEnv {variables}\n"
        );
        fs::write(folder.path().join("sshd_config"), config).unwrap();
        let client = format!(
            "Host *\nHostName {address}\nPort {port}\nUser root\nIdentityFile {at}/client\nIdentitiesOnly yes\n\
             UserKnownHostsFile {at}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        );
        fs::write(folder.path().join("config"), client).unwrap();
        let host = fs::read_to_string(folder.path().join("host.pub")).unwrap();
        // ssh omits its standard port.
        let known = format!("[{address}]:{port} {host}{address} {host}");
        fs::write(folder.path().join("known_hosts"), known).unwrap();
        let program = folder.path().join("ssh");
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {at}/config \"$@\"\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // The folder that sshd changes its root to before login; the system creates it when it starts the service.
        fs::create_dir_all("/run/sshd").unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = sshd
            .args(["-D", "-e", "-f"])
            .arg(folder.path().join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { child, folder };
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(sshd.folder.path().join("log")).unwrap_or_default();
            if log.contains("Server listening on") {
                return Some(sshd);
            }
            assert!(begun.elapsed() < SOON, "sshd does not listen: {log}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The program to use instead of ssh: `SANCTUM_SSH`.
    pub(crate) fn client(&self) -> PathBuf {
        self.folder.path().join("ssh")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
