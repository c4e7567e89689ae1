use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

const EXAMPLE: &str = include_str!("../../../docs/fleet.toml");

/// Those of launchd.plist(5) that an agent of ours may have.
const KNOWN: [&str; 15] = [
    "Label",
    "ProgramArguments",
    "EnvironmentVariables",
    "WorkingDirectory",
    "RunAtLoad",
    "KeepAlive",
    "ThrottleInterval",
    "ExitTimeOut",
    "LimitLoadToSessionType",
    "ProcessType",
    "StandardOutPath",
    "StandardErrorPath",
    "Umask",
    "SoftResourceLimits",
    "HardResourceLimits",
];

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn rendered(text: &str, host: &str) -> Result<Vec<AgentPlist>, String> {
    let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
    let home = Home::new("/u/ada/.sanctum".into(), "/u/ada".into());
    render(&fleet, &home, &label(host)).map_err(|error| error.to_string())
}

fn keys(plist: &AgentPlist) -> Dictionary {
    let value = Value::from_reader(std::io::Cursor::new(&plist.bytes)).unwrap();
    value.into_dictionary().unwrap()
}

#[test]
fn property_list_names_the_program_and_its_section() {
    let plists = rendered(EXAMPLE, "mini").unwrap();
    let lines: Vec<String> = plists.iter().map(|p| p.arguments.join(" ")).collect();
    let ours = "/u/ada/.sanctum/bin/sanctum-";
    let with = "--config /u/ada/.sanctum/fleet.toml";
    let log = |name: &str| format!("{name} --log-file /u/ada/.sanctum/logs/{name}.log");
    assert_eq!(
        lines,
        [
            format!("{ours}server {with} --server {}", log("server")),
            format!("{ours}guardian {with} --name {}", log("guardian")),
            format!("{ours}canary {with} --name {}", log("canary")),
            format!("{ours}drift {with} --name {}", log("drift")),
            format!("{ours}parity {with} --name {}", log("parity")),
            "/usr/local/bin/mlx_lm.server --model /u/ada/models/qwen3.5-27b-4bit --port 1337"
                .to_owned(),
        ]
    );
    assert_eq!(plists[0].label, "com.sanctum.server");
    assert_eq!(
        plists[0].path,
        Path::new("/u/ada/Library/LaunchAgents/com.sanctum.server.plist")
    );
    let offbox = &rendered(EXAMPLE, "laptop").unwrap()[1];
    assert_eq!(offbox.binary.as_deref(), Some("sanctum-canary"));
    let page = &rendered(EXAMPLE, "laptop").unwrap()[3];
    assert_eq!(
        page.arguments.join(" "),
        format!(
            "{ours}launchd status {with} --serve --page fleet-page --log-file /u/ada/.sanctum/logs/fleet-page.log"
        )
    );
    let name = ["--name", "canary-offbox"].map(str::to_owned);
    assert!(offbox.arguments.windows(2).any(|pair| pair == name));
}

#[test]
fn property_list_has_only_known_keys_and_keeps_the_agent_alive() {
    for plist in rendered(EXAMPLE, "mini").unwrap() {
        let keys = keys(&plist);
        for key in keys.keys() {
            assert!(KNOWN.contains(&key.as_str()), "{key}");
        }
        let yes = Some(&Value::Boolean(true));
        assert_eq!((keys.get("KeepAlive"), keys.get("RunAtLoad")), (yes, yes));
        let number = |key: &str| keys.get(key).unwrap().as_unsigned_integer().unwrap();
        assert_eq!(number("ThrottleInterval"), 30);
        assert_eq!(number("Umask"), 63);
        let word = |key: &str| keys.get(key).unwrap().as_string().unwrap();
        assert_eq!(word("LimitLoadToSessionType"), "Aqua");
        assert_eq!(word("ProcessType"), "Interactive");
        let read = sanctum_host::PropertyList::parse(&plist.bytes).unwrap();
        assert_eq!(read.arguments, Some(plist.arguments));
    }
}

/// launchd appends to the file and never rotates it.
#[test]
fn property_list_saves_output_beside_the_programs_own_log() {
    for plist in rendered(EXAMPLE, "mini").unwrap() {
        let keys = keys(&plist);
        let saved = ["StandardOutPath", "StandardErrorPath"].map(|key| keys[key].as_string());
        let file = match plist.binary {
            Some(_) => format!("/u/ada/.sanctum/logs/{}.launchd.log", plist.agent),
            None => format!("/u/ada/.sanctum/logs/{}.log", plist.agent),
        };
        assert_eq!(saved, [Some(file.as_str()); 2]);
    }
}

#[test]
fn exit_timeout_is_longer_than_the_drain() {
    let text =
        "[hosts.m]\naddress = \"a\"\nagents = [\"s\"]\n[servers.s]\nhost = \"m\"\ndrain = \"2m\"\n";
    let plist = &rendered(text, "m").unwrap()[0];
    let wait = keys(plist)
        .get("ExitTimeOut")
        .unwrap()
        .as_unsigned_integer();
    assert_eq!(wait, Some(135));
}

#[test]
fn program_of_others_has_its_environment_and_no_tilde() {
    let text = "[hosts.m]\naddress = \"a\"\n[agents.e]\nhost = \"m\"\nprogram = [\"~/bin/e\", \"--at\", \"~/x\", \"~\"]\n\
                environment = { B = \"<2>\", A = \"1\" }\n";
    let plist = &rendered(text, "m").unwrap()[0];
    assert_eq!(plist.arguments, ["/u/ada/bin/e", "--at", "/u/ada/x", "~"]);
    let keys = keys(plist);
    let environment = keys
        .get("EnvironmentVariables")
        .unwrap()
        .as_dictionary()
        .unwrap();
    assert_eq!(environment.get("B").unwrap().as_string(), Some("<2>"));
}

#[test]
fn unknown_check_is_named_with_the_nearest() {
    let text = "[hosts.m]\naddress = \"a\"\nagents = [\"w\"]\n[watch.w]\ncheck = \"canry\"\n";
    let error = rendered(text, "m").unwrap_err();
    assert!(error.contains("did you mean `canary`?"), "{error}");
}

#[test]
fn same_fleet_gives_the_same_bytes() {
    assert_eq!(rendered(EXAMPLE, "mini"), rendered(EXAMPLE, "mini"));
}

#[test]
fn property_lists_are_read_by_pythons_plistlib() {
    let script =
        "import plistlib, sys, json; print(json.dumps(plistlib.loads(sys.stdin.buffer.read())))";
    for plist in rendered(EXAMPLE, "mini").unwrap() {
        let python = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut python) = python else {
            eprintln!("python3 is absent: not compared with plistlib");
            return;
        };
        python
            .stdin
            .take()
            .unwrap()
            .write_all(&plist.bytes)
            .unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(read["Label"], plist.label.as_str());
        assert_eq!(read["ProgramArguments"], serde_json::json!(plist.arguments));
        assert_eq!(read["SoftResourceLimits"]["NumberOfFiles"], 8192);
    }
}
