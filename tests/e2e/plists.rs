//! The property lists of agents, as other programs read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::host::{Host, said};

const AGENTS: [&str; 4] = ["server", "guardian", "canary", "hatch"];

/// Runs a program of the system; none if this machine does not have it.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let (code, text) = said(output);
            assert_eq!(code, Some(0), "{program} {arguments:?}: {text}");
            Some(text)
        }
        Err(_) => {
            eprintln!("{program} is absent: not compared with it");
            None
        }
    }
}

/// A file as Python's plistlib parses it, in either format.
fn by_python(path: &Path) -> Option<Value> {
    let script =
        "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let text = tool("python3", &["-c", script, path.to_str().unwrap()])?;
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn property_lists_are_valid_elsewhere_and_have_known_keys_only() {
    let host = Host::new();
    let sections = "[agents.hatch]\nhost = \"here\"\nstandby_for = \"server\"\nprogram = [\"/bin/echo\", \"<&>\", \"ü\"]\n\
         environment = { LANG = \"C\" }\n\
         [watch.guardian]\ntarget = \"server\"\nevery = \"60s\"\n[watch.canary]\ntarget = \"server\"\nevery = \"10m\"\n";
    host.fleet(&["server", "guardian", "canary"], "", sections);
    host.must(&["render", "--out", "plists"]);
    let place =
        |agent: &str| -> PathBuf { host.path(&format!("plists/com.sanctum.{agent}.plist")) };
    assert_eq!(
        fs::read_dir(host.path("plists")).unwrap().count(),
        AGENTS.len()
    );
    for agent in AGENTS {
        let path = place(agent);
        let path = path.to_str().unwrap();
        // Two other implementations: one reads the text, the other turns it into the binary form for the first.
        if let Some(read) = by_python(path.as_ref()) {
            assert_eq!(read["Label"], format!("com.sanctum.{agent}"));
            assert_eq!(
                (&read["KeepAlive"], &read["ThrottleInterval"]),
                (&true.into(), &30.into())
            );
            let binary = format!("{path}.bin");
            if tool("plistutil", &["-i", path, "-f", "bin", "-o", &binary]).is_some() {
                assert_eq!(by_python(binary.as_ref()), Some(read), "{agent}");
            }
        }
        // launchd silently ignores unknown keys. The simulated one lists those that launchd.plist(5) does not have.
        let load = ["bootstrap", &host.launchd.domain(), path];
        assert_eq!(host.launchd.run(&load).unwrap().code, 0, "{agent}");
        let label = format!("com.sanctum.{agent}");
        let unknown = host.launchd.run(&["sim-unknown-keys", &label]).unwrap();
        assert_eq!((unknown.code, unknown.out.as_str()), (0, ""), "{agent}");
    }
}
