//! A newcomer's first fleet: `init` on one host, `push` to the other, and the installation there.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sanctum_tests::program;

use crate::host::{Host, said};
use crate::laptop::Laptop;

/// Appends a byte to each file that it unpacks, if there is a file `damage`.
const TAR: &str = "#!/bin/sh\n/usr/bin/tar \"$@\" || exit 1\n[ -e \"$HOME/damage\" ] || exit 0\n\
                   for last; do :; done\nfind \"$last\" -type f -exec sh -c 'printf x >> \"$1\"' sh {} \\;\n";

#[test]
fn init_writes_a_fleet_that_passes_its_check_and_overwrites_nothing() {
    let host = Host::new();
    let (code, out) = host.run(&["init"]);
    assert!(
        code == Some(1) && out.contains("--serve NAME=ADDRESS"),
        "{out}"
    );
    let out = host.must(&["init", "--serve", "here=127.0.0.1"]);
    assert!(
        out.contains("sanctum-launchd check --config fleet.toml"),
        "{out}"
    );
    let out = host.must(&["check"]);
    assert!(out.contains("a fleet of 1 host and 4 agents"), "{out}");
    assert!(!out.contains("note:"), "{out}");
    let before = fs::read(host.path("fleet.toml")).unwrap();
    let (code, out) = host.run(&["init", "--serve", "other=127.0.0.1"]);
    assert!(
        code == Some(1) && out.contains("overwrites nothing"),
        "{out}"
    );
    assert_eq!(fs::read(host.path("fleet.toml")).unwrap(), before);
    // The programs that read it agree.
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    let plan = ["install", "--release", "1", "--dry-run", "--host", "here"];
    assert!(host.must(&plan).contains("would bootstrap"));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The fleet.toml of `init` for both hosts, with free ports and short intervals, and the bundle of the host that serves.
/// Returns the port for other hosts.
pub(crate) fn first_fleet(host: &Host, laptop: &Laptop) -> u16 {
    let flags = "init --serve here=here.example --watch laptop=laptop.example --alert log";
    laptop.must(&flags.split(' ').collect::<Vec<_>>());
    let config = host.path("fleet.toml");
    let fleet = fs::read_to_string(&config).unwrap();
    let tls = free_port();
    let fleet = fleet
        .replace("here.example", "localhost")
        .replace("laptop.example", "127.0.0.2")
        .replace("127.0.0.1:1337", &format!("127.0.0.1:{}", host.port()))
        .replace("0.0.0.0:1338", &format!("0.0.0.0:{tls}"))
        .replace("every = \"60s\"", "every = \"500ms\"")
        .replace("every = \"10m\"", "every = \"500ms\"");
    fs::write(&config, fleet).unwrap();
    let out = laptop.must(&["check"]);
    assert!(!out.contains("note:"), "{out}");
    for arguments in ["init", "fleet", "bundle here"] {
        let mut pki = Command::new(program("sanctum-pki"));
        pki.args(["--config", "fleet.toml"])
            .args(arguments.split(' '));
        laptop.here(&mut pki);
        let (code, out) = said(pki.output().unwrap());
        assert_eq!(code, Some(0), "{arguments}: {out}");
    }
    tls
}

#[test]
fn first_fleet_is_pushed_installed_and_upgraded_from_another_host() {
    let host = Host::new();
    let tools = host.path("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("tar"), TAR).unwrap();
    fs::set_permissions(tools.join("tar"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let Some(laptop) = Laptop::of(&host, &[("PATH", &path)]) else {
        return;
    };
    first_fleet(&host, &laptop);
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    host.release_of_scripts("2", "exec \"$SERVER\" \"$@\"");

    // What arrives with another digest is not put in place.
    fs::write(host.path("damage"), "").unwrap();
    let mut damaged = laptop.command(&["push", "here", "--release", "1"]);
    let (code, out) = said(damaged.output().unwrap());
    assert!(
        code == Some(1) && out.contains("nothing was replaced"),
        "{out}"
    );
    assert!(!host.path(".sanctum/push/1").exists() && !host.path(".sanctum/certs").exists());
    fs::remove_file(host.path("damage")).unwrap();

    let out = laptop.must(&["push", "here", "--release", "1"]);
    assert!(out.contains("the same SHA-256 on both hosts"), "{out}");
    assert!(out.contains("rm -r bundle-here"), "{out}");
    for (file, mode) in [
        ("push/1/sanctum-server", 0o755),
        ("push/fleet.toml", 0o600),
        ("certs/server.key", 0o600),
        ("certs", 0o700),
    ] {
        let about = fs::metadata(host.path(".sanctum").join(file)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode, "{file}");
    }
    assert!(!host.path(".sanctum/push/.incoming").exists());
    let again = laptop.must(&["push", "here", "--release", "1"]);
    assert!(again.contains("nothing to do"), "{again}");

    let next = |out: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix("next: "));
        line.expect("it names the next command").to_owned()
    };
    let (code, out) = laptop.shell(&next(&out));
    assert_eq!(code, Some(0), "{out}");
    host.all_well(&["guardian", "canary"]);

    // Interrupted after it has sent everything: nothing there has changed.
    let mut killed = laptop.command(&["push", "here", "--release", "2"]);
    killed.env("SANCTUM_FAULT", "compared");
    assert_eq!(killed.output().unwrap().status.code(), None);
    assert!(!host.path(".sanctum/push/2").exists());
    let out = laptop.must(&["push", "here", "--release", "2"]);
    let line = next(&out);
    assert!(line.contains(" upgrade "), "{line}");
    let (code, out) = laptop.shell(&line);
    assert_eq!(code, Some(0), "{out}");
    host.all_well(&["guardian", "canary"]);
    assert!(host.must(&["status", "--local"]).contains("release 2"));

    // A key that signs certificates is in no bundle.
    fs::write(host.path("bundle-here/certs/ca.key"), "x").unwrap();
    let mut refused = laptop.command(&["push", "here"]);
    let (code, out) = said(refused.output().unwrap());
    assert!(code == Some(1) && out.contains("is in no bundle"), "{out}");
}
