//! Signing through stand-ins for Apple's tools.

use std::fs;

use crate::host::{Host, executable};

const CODESIGN: &str = r#"#!/bin/sh
echo "codesign $*" >> "$TOLD"
case $1 in
--display) printf 'CodeDirectory v=20500 flags=0x10000(runtime) hashes=1\nTimestamp=18 Apr 2026\n' >&2 ;;
--force) [ "$KEYCHAIN" = locked ] && { echo "$9: errSecInternalComponent" >&2; exit 1; } ;;
esac
exit 0
"#;

const XCRUN: &str = r#"#!/bin/sh
echo "xcrun $*" >> "$TOLD"
case $2 in
submit)
    [ "$NOTARY" = expired ] && { echo 'Error: HTTP status code: 403. A required agreement is missing or has expired.' >&2; exit 1; }
    echo '{"id":"0000-4","status":"Accepted","message":"Processing complete"}' ;;
log)
    issues=null; [ "$NOTARY" = picky ] && issues='[{"path":"sanctum-server","message":"not signed"}]'
    echo "{\"jobId\":\"0000-4\",\"status\":\"Accepted\",\"statusSummary\":\"Ready for distribution\",\"issues\":$issues}" ;;
esac
"#;

#[test]
fn release_is_signed_and_notarised() {
    let host = Host::new();
    let bin = host.at("stand-ins");
    fs::create_dir(&bin).unwrap();
    executable(&bin.join("codesign"), CODESIGN);
    executable(&bin.join("xcrun"), XCRUN);
    executable(&bin.join("zip"), "#!/bin/sh\ntouch \"$3\"\n");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let told = host.at("told");
    let release = host.release("1");
    let release = release.to_str().unwrap();
    let sign = |circumstance: (&str, &str), more: &[&str]| {
        let line: Vec<&str> = ["sign", release].iter().chain(more).copied().collect();
        host.run_with(
            &line,
            &[
                ("PATH", &path),
                ("TOLD", told.to_str().unwrap()),
                circumstance,
            ],
        )
    };

    let dry = sign(("NOTARY", ""), &["--dry-run"]).ok();
    assert!(
        dry.contains("notarytool submit") && dry.contains("--options runtime"),
        "{dry}"
    );
    assert!(!told.exists(), "a dry run runs nothing");

    let said = sign(("NOTARY", ""), &[]).ok();
    assert!(said.contains("notarised: submission 0000-4"), "{said}");
    let lines = fs::read_to_string(&told).unwrap();
    assert_eq!(lines.matches("codesign --force").count(), 3, "{lines}");
    assert!(!host.release("1").join(".entitlements.plist").exists());

    let said = sign(("NOTARY", "expired"), &[]).fails(1);
    assert!(said.contains("/agreements"), "{said}");
    let said = sign(("NOTARY", "picky"), &[]).fails(1);
    assert!(said.contains("sanctum-server: not signed"), "{said}");
    let said = sign(("KEYCHAIN", "locked"), &[]).fails(1);
    assert!(
        said.contains("set-key-partition-list") && !said.contains(" -k "),
        "{said}"
    );
}
