use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::Label;

/// The example in docs/.
const EXAMPLE: &str = include_str!("../../../../docs/fleet.toml");

fn parse(text: &str) -> Result<Fleet, String> {
    Fleet::parse(text, Path::new("fleet.toml")).map_err(|error| error.to_string())
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

#[test]
fn example_in_docs_is_valid() {
    let fleet = parse(EXAMPLE).unwrap();
    let server = &fleet.servers[&label("server")];
    assert_eq!(server.listen[1].to_string(), "100.64.0.25:1337");
    assert_eq!(server.tls_listen.len(), 1);
    assert_eq!(server.models[0].id.as_str(), "council");
    assert_eq!(server.models[0].adapter, None);
    assert!(server.models[0].manifest.is_some());
    assert_eq!(server.memory.limit_mb, Some(40960));
    assert_eq!(server.auth.loopback, Loopback::Bypass);
    let shadow = &fleet.servers[&label("shadow")];
    assert_eq!(shadow.models[0].id, server.models[0].id);
    let guardian = &fleet.watch[&label("guardian")];
    assert_eq!(guardian.every, Some(Duration::from_secs(60)));
    assert_eq!(guardian.stall_after, Some(Duration::from_secs(120)));
    assert_eq!(
        fleet.watch[&label("parity")].at.as_deref(),
        Some("0 3 * * *")
    );
    assert_eq!(fleet.hosts[&label("laptop")].agents.len(), 3);
}

#[test]
fn an_empty_file_is_a_fleet_with_the_usual_name_and_home() {
    let fleet = parse("").unwrap();
    assert_eq!(fleet.fleet.name, label("sanctum"));
    assert_eq!(fleet.fleet.home.as_str(), "~/.sanctum");
}

#[test]
fn misspelt_key_is_named_with_its_line_and_the_fix() {
    let text =
        "[hosts.mini]\naddress = \"10.0.0.1\"\n\n[servers.server]\nhost = \"mini\"\nlisen = []\n";
    let error = parse(text).unwrap_err();
    assert!(
        error.starts_with("fleet.toml, line 6: unknown key `lisen`; did you mean `listen`?"),
        "{error}"
    );
    let error = parse("[hots.mini]\n").unwrap_err();
    assert!(error.contains("did you mean `hosts`?"), "{error}");
}

#[test]
fn a_value_that_breaks_its_rule_is_named_with_its_line() {
    let cases = [
        ("[watch.x]\nevery = \"60\"", "line 2", "\"60s\""),
        ("[watch.x]\nevery = 60", "line 2", "expected a string"),
        ("[fleet]\nname = \"a.b\"", "line 2", "not a label"),
        ("[hosts.\"a b\"]\naddress = \"x\"", "line 1", "not a label"),
        (
            "[servers.s]\nhost = \"m\"\nlisten = [\"1337\"]",
            "line 3",
            "socket address",
        ),
        (
            "[servers.s]\nhost = \"m\"\nlisten = [\"[fe80::1]:1\"]",
            "line 3",
            "fe80::1%en0",
        ),
        ("[servers.s]\nlisten = []", "line 1", "`host` is missing"),
        (
            "[servers.s]\nhost = \"m\"\nthreads = 0",
            "line 3",
            "1 or more",
        ),
        (
            "[servers.s]\nhost = \"m\"\nbackend = \"cuda\"",
            "line 3",
            "`mlx`",
        ),
        (
            "[servers.s]\nhost = \"m\"\nkv_cache = \"v2\"",
            "line 3",
            "`v8`",
        ),
        (
            "[servers.s]\nhost = \"m\"\nprefix_cache = \"per_client\"",
            "line 3",
            "`per-client`",
        ),
        (
            "[servers.s]\nhost = \"m\"\nprefix_cache_limit_gb = 0",
            "line 3",
            "above 0",
        ),
        (
            "[servers.s]\nhost = \"m\"\ncache_check = 2",
            "line 3",
            "from 0",
        ),
        (
            "[servers.s]\nhost = \"m\"\ncache_dir_limit = 2",
            "line 3",
            "did you mean `cache_dir_limit_gb`?",
        ),
        (
            "[servers.s]\nhost = \"m\"\naudit = { rotate_mb = 0 }",
            "line 3",
            "1 or more",
        ),
        ("a = [", "line 1", ""),
    ];
    for (text, line, words) in cases {
        let error = parse(text).unwrap_err();
        assert!(
            error.contains(line) && error.contains(words),
            "{text}: {error}"
        );
    }
}

#[test]
fn names_of_other_sections_must_exist() {
    let hosts = "[hosts.mini]\naddress = \"a\"\n";
    let cases = [
        (
            "[servers.s]\nhost = \"mini\"\n[watch.g]\ntarget = \"t\"",
            "[watch.g]: `target` names `t`",
        ),
        ("[servers.s]\nhost = \"minni\"", "did you mean `mini`?"),
        (
            "[watch.g]\nalert = [\"pager\"]",
            "[watch.g]: `alert` names `pager`",
        ),
        (
            "[hosts.b]\naddress = \"b\"\nagents = [\"ghost\"]",
            "[hosts.b]: `agents` names `ghost`",
        ),
        (
            "[agents.e]\nhost = \"mini\"\nprogram = [\"/bin/e\"]\nstandby_for = \"s\"",
            "`standby_for` names `s`",
        ),
        ("[servers.s]\nhost = \"mini\"\n[watch.s]", "used in two of"),
        (
            "[servers.a]\nhost = \"mini\"\ncache_dir = \"/c\"\n[servers.b]\nhost = \"mini\"\ncache_dir = \"/c\"",
            "`a` uses the `cache_dir` /c too",
        ),
        (
            "[hosts.b]\naddress = \"fe80::1%en0\"",
            "[hosts.b]: `address` is the link-local address fe80::1%en0",
        ),
    ];
    for (text, words) in cases {
        let error = parse(&format!("{hosts}{text}")).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn server_that_contradicts_itself_is_an_error() {
    let head = "[hosts.m]\naddress = \"a\"\n[servers.s]\nhost = \"m\"\n";
    let cases = [
        (
            "listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "127.0.0.1:1 is listed twice",
        ),
        ("listen = []", "one address at least"),
        (
            "models = [{ id = \"a\", path = \"x\" }, { id = \"a\", path = \"y\" }]",
            "two models have the id `a`",
        ),
        ("cache_dir_limit_gb = 3", "there is no `cache_dir`"),
    ];
    for (text, words) in cases {
        let error = parse(&format!("{head}{text}")).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn alias_that_names_two_models_is_an_error_with_its_line() {
    let head = "[hosts.m]\naddress = \"a\"\n[servers.s]\nhost = \"m\"\n";
    let model = |id: &str, aliases: &str| {
        format!("[[servers.s.models]]\nid = \"{id}\"\npath = \"x\"\naliases = [{aliases}]\n")
    };
    let good = model("a", "\"gpt-4o\", \"claude-*\"") + &model("b", "\"gpt-*\"");
    let fleet = parse(&format!("{head}{good}")).unwrap();
    let aliases = &fleet.servers[&label("s")].models[0].aliases;
    assert_eq!(
        aliases.iter().map(|a| a.as_str()).collect::<Vec<_>>(),
        ["gpt-4o", "claude-*"]
    );
    for (models, error) in [
        (
            model("a", "\"x\"") + &model("b", "\n  \"y\",\n  \"x\""),
            "fleet.toml, line 14: `aliases` of the model `b`: `x`: it is an alias of `a` too; remove one",
        ),
        (
            model("a", "\"x-*\", \"x-*\""),
            "fleet.toml, line 8: `aliases` of the model `a`: `x-*`: it is listed twice; remove one",
        ),
        (
            model("a", "\"b\"") + &model("b", ""),
            "fleet.toml, line 8: `aliases` of the model `a`: `b`: the model `b` has this id itself; remove one",
        ),
    ] {
        assert_eq!(parse(&format!("{head}{models}")).unwrap_err(), error);
    }
    let error = parse(&format!("{head}{}", model("a", "\"*\""))).unwrap_err();
    assert!(
        error.starts_with("fleet.toml, line 8: `*` is not an alias"),
        "{error}"
    );
}

#[test]
fn origin_or_host_that_no_browser_sends_is_an_error_with_its_line() {
    let head = "[hosts.m]\naddress = \"a\"\n[servers.s]\nhost = \"m\"\n";
    let good = "allow_origins = [\"https://chat.example\", \"null\"]\nallow_hosts = [\"host.docker.internal\"]\n";
    assert_eq!(
        parse(&format!("{head}{good}")).unwrap().servers[&label("s")]
            .allow_origins
            .len(),
        2
    );
    for (key, words) in [
        (
            "allow_origins = [\"https://chat.example/\"]",
            "line 5: `https://chat.example/` is not an origin",
        ),
        ("allow_origins = [\"null\", \"null\"]", "null twice"),
        (
            "allow_hosts = [\"a:80\"]",
            "line 5: `a:80` is not a host name",
        ),
        ("any_model = 1", "line 5"),
        ("strict_field = true", "did you mean `strict_fields`?"),
    ] {
        let error = parse(&format!("{head}{key}\n")).unwrap_err();
        assert!(error.contains(words), "{key}: {error}");
    }
}

#[test]
fn agent_or_watchdog_that_contradicts_itself_is_an_error() {
    let head = "[hosts.m]\naddress = \"a\"\n[servers.s]\nhost = \"m\"\n";
    let cases = [
        (
            "[agents.e]\nhost = \"m\"\nprogram = []",
            "`program` is empty",
        ),
        (
            "[agents.e]\nhost = \"m\"\nprogram = [\"python3\"]",
            "write its absolute path",
        ),
        (
            "[hosts.n]\naddress = \"b\"\n[agents.e]\nhost = \"n\"\nprogram = [\"/e\"]\nstandby_for = \"s\"",
            "must be on the same host",
        ),
        (
            "[watch.g]\nevery = \"1m\"\nat = \"0 3 * * *\"",
            "two schedules",
        ),
        (
            "[hosts.n]\naddress = \"b\"\nagents = [\"s\"]",
            "its own section says `host = \"m\"`",
        ),
        (
            "[pages.s]\nhost = \"m\"",
            "used in two of [servers], [agents], [watch] and [pages]",
        ),
        (
            "[pages.p]\nhost = \"n\"",
            "`host` names `n`, and there is no such section in hosts",
        ),
        (
            "[pages.p]\nhost = \"m\"\nlisten = \"0.0.0.0:1340\"",
            "0.0.0.0:1340 is no loopback address",
        ),
        (
            "[pages.p]\nhost = \"m\"\n[pages.q]\nhost = \"m\"",
            "`p` listens on port 1340 of `m` too; write another one: listen = \"127.0.0.1:1341\"",
        ),
        (
            "[watch.g]\n[hosts.n]\naddress = \"b\"\nagents = [\"g\"]\n[hosts.o]\naddress = \"c\"\nagents = [\"g\"]",
            "is an agent of `n` too",
        ),
        (
            "[watch.g]\nspec = \"../x.json\"\n[hosts.n]\naddress = \"b\"\nagents = [\"g\"]",
            "outside of the fleet's home",
        ),
    ];
    for (text, words) in cases {
        let error = parse(&format!("{head}{text}")).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn host_has_the_agents_that_it_lists_and_the_programs_that_name_it() {
    let fleet = parse(EXAMPLE).unwrap();
    let mini = label("mini");
    let names: Vec<&str> = fleet
        .agents_of(&mini)
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "server",
        "guardian",
        "canary",
        "drift",
        "parity",
        "escape-hatch",
    ];
    assert_eq!(names, expected);
    assert!(matches!(
        fleet.role(&label("shadow")),
        Some(Role::Server(_))
    ));
    assert_eq!(
        fleet.host_of(&label("drift-offbox")),
        Some(&label("laptop"))
    );
    assert_eq!(fleet.launchd_label(&label("canary")), "com.sanctum.canary");
    assert_eq!(
        fleet.companions(&mini),
        [
            PathBuf::from("parity-smoke.json"),
            PathBuf::from("qwen3.5-27b-4bit.sha256")
        ]
    );
    let offbox = &fleet.watch[&label("drift-offbox")];
    assert_eq!(offbox.check(&label("drift-offbox")), &label("drift"));
}

#[test]
fn deep_nesting_is_an_error_with_its_line() {
    let deep = 100_000;
    let cases = [
        format!("x = {}", "[".repeat(deep)),
        format!("x = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("x = {}", "{ a = ".repeat(deep)),
        format!("[{}]", vec!["a"; deep].join(".")),
        format!("{} = 1", vec!["a"; deep].join(".")),
        format!("[fleet]\nname = {}", "[".repeat(deep)),
    ];
    for text in cases {
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with("fleet.toml, line "), "{error}");
        assert!(error.len() < 1000, "{}", error.len());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "(?s).{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_edit_of_a_valid_file_causes_a_panic(at in 0..EXAMPLE.len(), with in "[\\[\\]\"={}\n a-z0-9]{0,4}") {
        if EXAMPLE.is_char_boundary(at) {
            let _ = parse(&format!("{}{with}{}", &EXAMPLE[..at], &EXAMPLE[at..]));
        }
    }
}

/// A fleet of one host with a server, an agent and a watchdog, with these keys.
fn with_keys(host: &str, agent: &str, watch: &str) -> Result<Fleet, String> {
    parse(&format!(
        "[hosts.mini]\n{host}\n[servers.server]\nhost = \"mini\"\n[agents.a]\nhost = \"mini\"\n{agent}\n[watch.canary]\n{watch}\n"
    ))
}

#[test]
fn value_that_no_program_can_use_is_an_error_with_its_key_and_fix() {
    let host = "address = \"mini.local\"";
    let agent = "program = [\"/bin/true\"]";
    with_keys(host, agent, "").unwrap();
    for address in ["", "a b", "http://x", "x:22", "-x", "fe80::%"] {
        let error = with_keys(&format!("address = \"{address}\""), agent, "").unwrap_err();
        assert!(
            error.contains("`address` is") && error.contains("write one"),
            "{error}"
        );
    }
    for ssh in ["", "-oProxyCommand=x", "a b"] {
        let error = with_keys(&format!("{host}\nssh = \"{ssh}\""), agent, "").unwrap_err();
        assert!(error.contains("`ssh` is"), "{error}");
    }
    for (watch, words) in [
        ("question = \"what?\"", "`question` needs `expect`"),
        ("question = \" \"\nexpect = \"4\"", "`question` is empty"),
        ("expect = \"\"", "`expect` is empty"),
        ("misses = 0", "`misses` is 0"),
        ("every = \"1ns\"", "`every` = 1ns is too short"),
        ("timeout = \"300y\"", "longer than ten years"),
    ] {
        let error = with_keys(host, agent, watch).unwrap_err();
        assert!(error.contains(words), "{watch}: {error}");
    }
}

#[test]
fn text_that_no_property_list_has_is_an_error() {
    let host = "address = \"mini.local\"";
    for (agent, words) in [
        ("program = [\"/bin/a\", \"\\u0001\"]", "U+0001"),
        ("program = [\"/bin/a\\u0000\"]", "U+0000"),
        (
            "program = [\"/bin/a\"]\nenvironment = { A = \"\\uFFFE\" }",
            "U+FFFE",
        ),
        (
            "program = [\"/bin/a\"]\nenvironment = { A = \"\\u001b\" }",
            "U+001B",
        ),
        (
            "program = [\"/bin/a\"]\nenvironment = { \"\" = \"x\" }",
            "variable name \"\"",
        ),
        (
            "program = [\"/bin/a\"]\nenvironment = { \"A=B\" = \"x\" }",
            "variable name \"A=B\"",
        ),
    ] {
        let error = with_keys(host, agent, "").unwrap_err();
        assert!(error.contains(words), "{agent}: {error}");
        assert!(!error.contains(['\u{1}', '\0', '\u{1b}']), "{error:?}");
    }
    let fine = "program = [\"/bin/a\", \"tab\\tand ü\"]\nenvironment = { A_1 = \"x=y\" }";
    with_keys(host, fine, "").unwrap();
}

#[test]
fn two_servers_of_a_host_cannot_listen_at_one_address() {
    let server = |name: &str, host: &str, keys: &str| {
        format!("[servers.{name}]\nhost = \"{host}\"\n{keys}\n")
    };
    let hosts = "[hosts.a]\naddress = \"a\"\n[hosts.b]\naddress = \"b\"\n";
    let fleet = |second: String| parse(&format!("{hosts}{}{second}", server("one", "a", "")));
    let error = fleet(server("two", "a", "")).unwrap_err();
    assert!(error.contains("`one` listens at 127.0.0.1:1337"), "{error}");
    let tls = "listen = []\ntls_listen = [\"127.0.0.1:1337\"]";
    assert!(fleet(server("two", "a", tls)).is_err());
    // Every address of the host is this one too.
    let all = fleet(server("two", "a", "listen = [\"0.0.0.0:1337\"]")).unwrap_err();
    assert!(all.contains("`one` listens at 127.0.0.1:1337"), "{all}");
    fleet(server("two", "a", "listen = [\"[::]:1337\"]")).unwrap_err();
    fleet(server("two", "b", "")).unwrap();
    for address in [
        "127.0.0.1:1338",
        "0.0.0.0:1338",
        "192.0.2.5:1337",
        "[::1]:1337",
    ] {
        fleet(server("two", "a", &format!("listen = [\"{address}\"]"))).unwrap();
    }
}

#[test]
fn page_and_server_of_a_host_may_have_one_port_at_different_addresses() {
    let fleet = |listen: &str| {
        parse(&format!(
            "[hosts.a]\naddress = \"a\"\n[servers.s]\nhost = \"a\"\nlisten = [\"{listen}\"]\n[pages.p]\nhost = \"a\"\n"
        ))
    };
    fleet("192.0.2.5:1340").unwrap();
    for taken in ["127.0.0.1:1340", "0.0.0.0:1340", "[::]:1340"] {
        let error = fleet(taken).unwrap_err();
        assert!(error.contains("`s` listens on port 1340"), "{error}");
    }
}
