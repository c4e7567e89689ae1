//! Files that are opened and read, and what else could be in their place.

use std::fs;
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn read_of_what_is_no_regular_file_fails_at_once_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success());
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    for (path, kind) in [
        (fifo.as_path(), "a FIFO"),
        (&link, "a FIFO"),
        (folder.path(), "a folder"),
        (&socket, "a socket"),
        (Path::new("/dev/null"), "a device"),
    ] {
        let error = read(path, 10).unwrap_err().to_string();
        assert!(error.contains(kind), "{}: {error}", path.display());
        assert!(read_secret(path, 10).is_err());
        let error = open_log(path).unwrap_err().to_string();
        assert!(error.contains(kind), "{}: {error}", path.display());
    }
    let absent = read(&folder.path().join("absent"), 10).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
}

#[test]
fn open_no_follow_refuses_links_and_opens_files() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "text").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(open(&link).is_ok() && open_no_follow(&file).is_ok());
    let error = open_no_follow(&link).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("a symbolic link"), "{error}");
}

#[test]
fn open_lock_of_what_is_no_regular_file_fails_at_once_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success());
    for (path, kind) in [(fifo.as_path(), "a FIFO"), (folder.path(), "a folder")] {
        let error = open_lock(path).unwrap_err().to_string();
        assert!(error.contains(kind), "{}: {error}", path.display());
    }
}

#[test]
fn open_lock_makes_a_private_file_under_any_umask() {
    let folder = tempfile::tempdir().unwrap();
    // The umask belongs to the whole process, so another one tries it.
    if let Some(path) = std::env::var_os("SANCTUM_LOCK_TEST") {
        drop(open_lock(Path::new(&path)).unwrap());
        return;
    }
    for umask in ["000", "777"] {
        let path = folder.path().join(umask).join("a.lock");
        let status = std::process::Command::new("sh")
            .args([
                "-c",
                "umask \"$1\" && exec \"$2\" open_lock_makes",
                "sh",
                umask,
            ])
            .arg(std::env::current_exe().unwrap())
            .env("SANCTUM_LOCK_TEST", &path)
            .status()
            .unwrap();
        assert!(status.success(), "{umask}");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        drop(open_lock(&path).unwrap());
    }
}

#[test]
fn refusal_of_a_file_names_its_owner_or_its_mode() {
    let about = fs::metadata("/etc/passwd").unwrap();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let said = explained(denied(), &about).to_string();
    match rustix::process::geteuid().is_root() {
        true => assert!(said.contains("its mode is 0644"), "{said}"),
        false => assert!(said.contains("it belongs to user 0"), "{said}"),
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
        let said = explained(denied(), &fs::metadata(&path).unwrap()).to_string();
        assert!(said.contains("it belongs to user 12345"), "{said}");
    }
    let other = io::Error::from(io::ErrorKind::NotFound);
    assert_eq!(explained(other, &about).kind(), io::ErrorKind::NotFound);
}

#[test]
fn read_beyond_its_limit_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "1234").unwrap();
    assert_eq!(read(&path, 4).unwrap(), b"1234");
    assert!(read(&path, 3).unwrap_err().to_string().contains("3 bytes"));
    assert_eq!(read_text(&path, 4).unwrap(), "1234");
    fs::write(&path, b"\xff").unwrap();
    assert!(read_text(&path, 4).is_err());
}

#[test]
fn read_secret_that_others_may_read_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "secret").unwrap();
    for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let read = read_secret(&path, 100);
        assert_eq!(read.is_ok(), accepted, "{mode:o}: {read:?}");
    }
}

#[test]
fn read_of_a_record_or_a_certificate_that_others_may_write_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my receipt.json");
    fs::write(&path, "{}").unwrap();
    for (mode, is_trusted, is_own) in [
        (0o600, true, true),
        (0o644, true, true),
        (0o664, true, false),
        (0o646, false, false),
        (0o666, false, false),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for (read, accepted) in [
            (read_trusted(&path, 100), is_trusted),
            (read_own(&path, 100), is_own),
        ] {
            assert_eq!(read.is_ok(), accepted, "{mode:o}: {read:?}");
            let Err(error) = read else { continue };
            let error = error.to_string();
            let fix = format!("type: chmod go-w '{}'", path.display());
            assert!(
                error.contains(&format!("its mode is {mode:04o}")) && error.ends_with(&fix),
                "{error}"
            );
        }
    }
}

#[test]
fn read_secret_of_another_user_fails() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away; `read_secret` is then tried on a file of root's instead.
        assert!(read_secret(Path::new("/etc/passwd"), 1 << 20).is_err());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "secret").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    for error in [
        read_secret(&path, 100).unwrap_err(),
        read_trusted(&path, 100).unwrap_err(),
        open_log(&path).unwrap_err(),
    ] {
        assert!(error.to_string().contains("12345"), "{error}");
    }
}
