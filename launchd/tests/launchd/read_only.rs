//! Commands that change nothing: check, render, status.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::host::{Host, executable};

/// The annotated example of the manual.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fleet.toml");

fn run_on_example(line: &[&str]) -> (Option<i32>, String) {
    let said = Command::new(env!("CARGO_BIN_EXE_sanctum-launchd"))
        .args(line)
        .args(["--config", EXAMPLE])
        .env("HOME", "/u/ada")
        .output()
        .unwrap();
    let text = [said.stdout, said.stderr].concat();
    (said.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn example_is_valid() {
    let (code, text) = run_on_example(&["check"]);
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "mini    server         server    council on 127.0.0.1:1337, 100.64.0.25:1337, 100.64.0.25:1338 (mTLS)",
        "mini    escape-hatch   standby   for server: /usr/local/bin/mlx_lm.server --model ~/models/qwen3.5-27b-4bit --port 1337",
        "laptop  canary-offbox  canary    server, ",
        "is a fleet of 3 hosts and 10 agents",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn mistake_is_one_line_with_its_fix() {
    let host = Host::new();
    for (more, words) in [
        ("[watch.x]\nevry = \"1m\"\n", "did you mean `every`?"),
        (
            "[hosts.b]\naddress = \"b\"\nagents = [\"x\"]\n[watch.x]\ncheck = \"canry\"\n",
            "did you mean `canary`?",
        ),
        (
            "[hosts.b]\naddress = \"b\"\nagents = [\"canary\"]\n[watch.canary]\nat = \"0 3 * *\"\n",
            "five fields",
        ),
    ] {
        host.fleet(more);
        let said = host.run(&["check"]).fails(1);
        assert!(said.contains(words), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
}

#[test]
fn folder_of_prefixes_that_others_can_enter_or_that_is_not_used_is_noted() {
    let host = Host::new();
    let cache = host.at("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
    let server = |keys: &str| {
        let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
        let folder = cache.display();
        let section = format!("[servers.server]\ncache_dir = \"{folder}\"\n{keys}\n");
        fs::write(
            host.at("fleet.toml"),
            text.replace("[servers.server]\n", &section),
        )
        .unwrap();
        let said = host.run(&["check"]).ok();
        host.fleet("");
        said
    };
    let said = server("cache_dir_limit_gb = 1e9");
    assert!(
        said.contains("note: [servers.server]: `cache_dir`: other users can enter"),
        "{said}"
    );
    assert!(said.contains("lower `cache_dir_limit_gb`"), "{said}");
    let said = server("prefix_cache = \"off\"");
    assert!(said.contains("so `cache_dir` is without effect"), "{said}");
}

#[test]
fn server_that_would_not_start_and_watchdog_without_alert_are_noted() {
    let (_, text) = run_on_example(&["check"]);
    let notes: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("note: "))
        .collect();
    // There is no note about the shadow, which no watchdog checks.
    let [manifest, signature] = notes[..] else {
        panic!("{notes:?}");
    };
    // The operator creates them.
    let make =
        "sanctum-pki manifest create ~/models/qwen3.5-27b-4bit --out qwen3.5-27b-4bit.sha256";
    assert!(
        manifest.contains("is missing") && manifest.ends_with(make),
        "{manifest}"
    );
    assert!(
        signature.ends_with("sanctum-pki manifest sign qwen3.5-27b-4bit.sha256"),
        "{signature}"
    );
    let host = Host::new();
    host.fleet(
        "[hosts.b]\naddress = \"b\"\nagents = [\"wide\", \"quiet\"]\n[servers.wide]\nhost = \"b\"\nlisten = [\"0.0.0.0:9\"]\n\
         [watch.quiet]\ncheck = \"canary\"\ntarget = \"wide\"\nevery = \"10m\"\n",
    );
    let said = host.run(&["check"]).ok();
    assert!(
        said.contains("note: [servers.wide] does not start: other machines reach 0.0.0.0:9"),
        "{said}"
    );
    assert!(
        said.contains("note: [watch.quiet] has no `alert`"),
        "{said}"
    );
    assert!(
        said.contains("quiet     canary    wide, every 10m, no alerts"),
        "{said}"
    );
}

#[test]
fn names_pages_and_hosts_that_a_server_accepts_are_shown() {
    let host = Host::new();
    host.fleet(
        "[hosts.b]\naddress = \"b\"\nagents = [\"open\"]\n[servers.open]\nhost = \"b\"\nany_model = true\nstrict_fields = true\n\
         models = [{ id = \"council\", path = \"/m\", aliases = [\"gpt-4o\", \"claude-*\"] }]\n\
         allow_origins = [\"https://chat.example\", \"*\"]\nallow_hosts = [\"host.docker.internal\"]\n",
    );
    let said = host.run(&["check"]).ok();
    for words in [
        "council (gpt-4o, claude-*), any other name on 127.0.0.1:1337; strict fields; pages of https://chat.example, *; \
         as host.docker.internal\n",
        "note: [servers.open]: `allow_origins` has `*`, whose pages need the token",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    host.fleet(
        "[hosts.b]\naddress = \"b\"\n[servers.open]\nhost = \"b\"\nmodels = [\n  { id = \"a\", path = \"/a\", aliases = [\"x\"] },\n\
         { id = \"x\", path = \"/x\" },\n]\n",
    );
    let said = host.run(&["check"]).fails(1);
    assert!(
        said.contains("`aliases` of the model `a`: `x`: the model `x` has this id itself"),
        "{said}"
    );
    assert!(said.contains(", line "), "{said}");
}

#[test]
fn check_notes_servers_and_watchdogs_that_do_not_start_for_their_addresses() {
    let host = Host::new();
    host.fleet(
        "[hosts.a]\naddress = \"a\"\nagents = [\"far\"]\n[hosts.b]\naddress = \"b\"\nagents = [\"inner\", \"outer\"]\n\
         [servers.inner]\nhost = \"b\"\nlisten = [\"127.0.0.1:9\"]\n\
         [servers.outer]\nhost = \"b\"\nlisten = [\"100.64.0.9:9\"]\n\
         [watch.far]\ncheck = \"canary\"\ntarget = \"inner\"\nevery = \"10m\"\n",
    );
    let said = host.run(&["check"]).ok();
    for note in [
        "note: [servers.outer] does not start: it has no loopback address",
        "note: [watch.far] does not start: it runs on another host, and [servers.inner] listens on loopback",
    ] {
        assert!(said.contains(note), "{note}\n{said}");
    }
}

#[test]
fn watchdog_without_target_checks_the_only_server() {
    let host = Host::new();
    let without_target = |more: &str| {
        host.fleet(more);
        let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
        let text = text.replace("target = \"server\"\n", "");
        fs::write(host.at("fleet.toml"), text).unwrap();
        host.run(&["check"]).ok()
    };
    let eye = "[hosts.far]\naddress = \"far\"\nagents = [\"eye\"]\n\
               [watch.eye]\ncheck = \"canary\"\nevery = \"10m\"\nmisses = 2\nalert = [\"box\"]\n\
               [alerts.box]\nurl = \"http://127.0.0.1:9/notify\"\n";
    let said = without_target(eye);
    for note in [
        "[watch.eye] watches a host from outside and alerts through that same host",
        "it takes [watch.eye] up to 20 minutes to notice that mini",
    ] {
        assert!(said.contains(note), "{note}\n{said}");
    }
    assert!(!said.contains("no watchdog checks"), "{said}");
}

#[test]
fn server_that_no_watchdog_checks_is_noted_unless_it_is_a_shadow() {
    let host = Host::new();
    let second = |models: &str| {
        host.fleet(&format!(
            "[hosts.far]\naddress = \"far\"\nagents = [\"second\"]\n\
             [servers.second]\nhost = \"far\"\nlisten = [\"127.0.0.1:9\"]\n{models}"
        ));
        host.run(&["check"]).ok()
    };
    let note = "note: no watchdog checks [servers.second]";
    let said = second("models = [{ id = \"a\", path = \"/a\" }]\n");
    assert!(said.contains(note), "{said}");
    let said = second("");
    assert!(!said.contains("no watchdog checks"), "{said}");
}

#[test]
fn contradictions_in_a_fleet_are_noted() {
    let host = Host::new();
    host.fleet(
        "[hosts.far]\naddress = \"far\"\nagents = [\"shadow\", \"eye\"]\n\
         [servers.shadow]\nhost = \"far\"\nlisten = [\"0.0.0.0:9\"]\n\
         models = [{ id = \"council\", path = \"/m\", manifest = \"m.sha256\" }]\n\
         auth = { token_file = \"~/.sanctum/secrets/shadov.token\" }\n\
         [watch.eye]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"10m\"\nmisses = 2\n",
    );
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let text = text.replace(
        "[watch.guardian]\n",
        "[watch.guardian]\nstartup_grace = \"10s\"\n",
    );
    fs::write(host.at("fleet.toml"), text).unwrap();
    fs::remove_file(host.at("parity.json")).unwrap();
    let said = host.run(&["check"]).ok();
    for note in [
        "[servers.shadow] serves council and [servers.server] serves the built-in model",
        "[watch.guardian] gives a server 10 s to start (`startup_grace`), and launchd waits 30 s",
        "it takes [watch.eye] up to 20 minutes to notice that mini (127.0.0.1) is dead",
        "[watch.parity]: the spec",
        "m.sha256` is missing; sanctum-pki manifest create /m --out m.sha256",
        "there is no server `shadov`",
        "write secrets/shadow.token",
    ] {
        assert!(said.contains(note), "{note}\n{said}");
    }
    // A fleet without these contradictions.
    fs::write(host.at("parity.json"), "{}").unwrap();
    host.fleet(
        "[hosts.far]\naddress = \"far\"\nagents = [\"eye\"]\n\
         [watch.eye]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"5m\"\nmisses = 2\nalert = [\"desk\"]\n\
         [alerts.desk]\nkind = \"desktop\"\nsound = \"Submarine\"\n",
    );
    let said = host.run(&["check"]).ok();
    for words in ["missing", "ThrottleInterval", "notice", "no server"] {
        assert!(!said.contains(words), "{words}\n{said}");
    }
}

#[test]
fn relative_model_path_is_noted() {
    let host = Host::new();
    host.fleet(
        "[servers.second]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1\"]\n\
         models = [{ id = \"a\", path = \"models/a\" }, { id = \"b\", path = \"~/b\" }]\n",
    );
    let said = host.run(&["check"]).ok();
    let note = "[servers.second] reads `models/a` relative to the deployed fleet.toml";
    assert!(said.contains(note) && !said.contains("~/b"), "{said}");
}

#[test]
fn render_prints_property_lists_or_writes_those_that_differ() {
    let (code, text) = run_on_example(&["render", "--host", "laptop", "--agent", "canary-offbox"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("<?xml") && text.contains("<string>com.sanctum.canary-offbox</string>"),
        "{text}"
    );
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let (_, text) = run_on_example(&["render", "--host", "mini", "--out", out]);
    assert!(text.contains("6 of 6 property lists differ"), "{text}");
    let (_, text) = run_on_example(&["render", "--host", "mini", "--out", out]);
    assert!(text.contains("nothing to do"), "{text}");
    let (code, text) = run_on_example(&["render", "--host", "mini", "--agent", "gardian"]);
    assert!(
        code == Some(1) && text.contains("did you mean `guardian`?"),
        "{text}"
    );
    let (code, text) = run_on_example(&["render", "--host", "mni"]);
    assert!(
        code == Some(1) && text.contains("did you mean `mini`?"),
        "{text}"
    );
}

#[test]
fn status_shows_agents_verdicts_and_accepted_requests() {
    let host = Host::new();
    host.install("1").ok();
    let state = host.home().join("state/watch/guardian.json");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    let now = chrono::Utc::now();
    let hour = now.timestamp() / 3600;
    let text = serde_json::json!({
        "agent": "guardian", "heartbeat": now, "checked": now, "due": null,
        "last": { "kind": "ok", "message": "answering", "latency_ms": 3 },
        "misses": 0, "missing_since": null, "busy_since": null, "open": {},
        "hours": [{ "hour": hour, "ok": 99, "miss": 1, "busy": 0, "offline": 0, "latency_ms": 300 }],
    });
    fs::write(&state, text.to_string()).unwrap();
    let text = host.run(&["status"]).ok();
    for words in [
        "release 1",
        "guardian  running                         0            ok",
        "99.0%",
        "hatch     standby",
        "accepted: loopback 7",
        "all is well: 1 host, 4 agents",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    fs::remove_file(host.at("launchd/loaded/com.sanctum.server")).unwrap();
    let said = host.run(&["status"]).fails(1);
    assert!(said.contains("! mini: server is not loaded"), "{said}");
}

#[test]
fn status_with_hostile_texts_prints_no_control_characters() {
    const OSC: &str = "\x1b]0;owned\x07\u{202e}";
    let host = Host::new();
    host.install("1").ok();
    let page = format!("sanctum_auth_total{{method=\"a{OSC}\",outcome=\"granted\"}} 7\n");
    fs::write(host.home().join("bin/other-metrics"), page).unwrap();
    fs::write(host.home().join(format!("certs/b{OSC}.crt")), "").unwrap();
    let path = host.home().join("state/watch/guardian.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let now = chrono::Utc::now();
    let open = serde_json::json!({ "id": "guardian-x", "title": format!("c{OSC}"), "since": now, "alerted": now,
                                   "notified": now, "alerts": 1 });
    let state = serde_json::json!({
        "agent": "guardian", "heartbeat": now, "checked": now, "due": null,
        "last": { "kind": "miss", "message": format!("d{OSC}"), "latency_ms": 3 },
        "misses": 1, "missing_since": now, "busy_since": null, "open": { "outage": open }, "hours": [],
    });
    fs::write(&path, state.to_string()).unwrap();
    let text = host.run(&["status"]).fails(1);
    let is_control = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(is_control), "{text:?}");
    for from in ["a", "b", "c", "d"] {
        let escaped = format!(r"{from}\u{{1b}}]0;owned\u{{7}}\u{{202e}}");
        assert!(text.contains(&escaped), "{escaped}\n{text}");
    }
    // The error of a damaged record may quote it.
    fs::write(&path, format!("{{\"{OSC}")).unwrap();
    fs::write(
        host.home().join("state/active.json"),
        format!("{{\"{OSC}\""),
    )
    .unwrap();
    let text = host.run(&["status"]).fails(1);
    assert!(!text.contains(is_control), "{text:?}");
}

#[test]
fn undelivered_alerts_are_shown_with_the_channels_error() {
    let host = Host::new();
    host.fleet("[alerts.desk]\nurl = \"http://127.0.0.1:9/notify\"\n");
    host.install("1").ok();
    let spool = host.home().join("state/spool/guardian");
    fs::create_dir_all(&spool).unwrap();
    let now = chrono::Utc::now();
    let letter = serde_json::json!({
        "alert": { "id": "guardian-x", "severity": "critical", "source": "guardian", "host": "mini",
                   "title": "server on mini is disabled", "body": "b", "time": now },
        "pending": ["desk"],
        "failures": { "desk": { "error": "connection refused", "since": now } },
    });
    fs::write(spool.join("0000000001-guardian-x.json"), letter.to_string()).unwrap();
    let open = serde_json::json!({ "id": "guardian-x", "title": "server on mini is disabled", "since": now, "alerted": now,
                                   "alerts": 1 });
    let state = serde_json::json!({
        "agent": "guardian", "heartbeat": now, "checked": now, "due": null, "last": null, "misses": 0,
        "missing_since": null, "busy_since": null, "open": { "disabled": open }, "hours": [],
    });
    let path = host.home().join("state/watch/guardian.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, state.to_string()).unwrap();
    let said = host.run(&["status"]).fails(1);
    let undelivered = "guardian 1 alert has not reached the channel `desk` (connection refused)";
    assert!(said.contains(undelivered), "{said}");
    assert!(
        said.contains("raised an alert that no channel has accepted: server on mini"),
        "{said}"
    );
    assert!(!said.contains("was notified"), "{said}");
    let said = host.run(&["verify"]).fails(1);
    assert!(
        said.contains("has not reached the channel `desk` (connection refused)"),
        "{said}"
    );
    assert_eq!(host.findings(), ["undelivered"]);
}

#[test]
fn status_and_verify_ask_other_hosts_over_ssh() {
    let host = Host::new();
    host.install("1").ok();
    let laptop = "[hosts.laptop]\naddress = \"b\"\nssh = \"lap\"\nagents = [\"canary\"]\n\
                  [watch.canary]\ntarget = \"server\"\nevery = \"10m\"\n[hosts.gone]\naddress = \"c\"\nssh = \"gone\"\n";
    host.fleet(laptop);
    let bin = host.at("stand-ins");
    fs::create_dir(&bin).unwrap();
    let answer = host.at("answer.json");
    let told = host.at("told");
    let script = format!(
        "#!/bin/sh\nshift 5\necho \"$*\" >> '{}'\n[ \"$1\" = lap ] || {{ echo 'no route to host' >&2; exit 255; }}\ncat '{}'\n",
        told.display(),
        answer.display()
    );
    executable(&bin.join("ssh"), &script);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    fs::write(
        &answer,
        r#"{"hosts":[{"host":"laptop","problem":null,"release":"1","installed":"2026-04-18T03:00:00Z","maintenance":null,
            "agents":[{"name":"canary","role":"watchdog","state":"running","pid":1,"runs":1,"last_exit":null,"watch":null}],
            "servers":[]}]}"#,
    )
    .unwrap();
    let said = host.run_with(&["status"], &[("PATH", &path)]).fails(1);
    assert!(
        said.contains("canary    running") && said.contains("no route to host"),
        "{said}"
    );
    let told = fs::read_to_string(&told).unwrap();
    assert!(
        told.contains("lap ~/.sanctum/bin/sanctum-launchd status --local --json"),
        "{told}"
    );

    fs::write(
        &answer,
        r#"{"findings":[{"kind":"changed","subject":"/x","problem":"changed","fix":"type this"}]}"#,
    )
    .unwrap();
    let said = host
        .run_with(&["verify", "--host", "laptop"], &[("PATH", &path)])
        .fails(1);
    assert!(said.contains("fix: type this"), "{said}");
}
