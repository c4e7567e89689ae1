use std::num::NonZeroUsize;
use std::path::Path;

use super::models::BUILT_IN;
use super::*;
use crate::args::Args;
use crate::tls::CrlPath;
use clap::Parser;
use sanctum_config::fleet::{Loopback, PrefixCacheScope};
use sanctum_engine::backend::KvMode;
use sanctum_engine::launch::BackendChoice;
use sanctum_engine::load::ModelSource;

/// What is served, and where it lies.
fn ids(settings: &Settings) -> Vec<(String, ModelSource)> {
    let models = settings.models.iter();
    models
        .map(|model| (model.id.to_string(), model.source.clone()))
        .collect()
}

/// Resolves a command line beside a fleet.toml.
fn resolve(fleet: &str, args: &[&str]) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.toml");
    let mut line = vec!["sanctum-server"];
    if !fleet.is_empty() {
        std::fs::write(&file, format!("[hosts.m]\naddress = \"a\"\n{fleet}")).unwrap();
        line.extend(["--config", file.to_str().unwrap()]);
    }
    line.extend(args);
    let args = Args::try_parse_from(line).unwrap().serve;
    Settings::resolve(&args).map_err(|error| error.to_string())
}

fn listens(settings: &Settings) -> Vec<String> {
    settings.listen.iter().map(ToString::to_string).collect()
}

#[test]
fn built_in_model_is_served_on_1337_by_default() {
    let settings = resolve("", &[]).unwrap();
    assert_eq!(listens(&settings), ["127.0.0.1:1337"]);
    assert_eq!(
        ids(&settings),
        [(BUILT_IN.to_owned(), ModelSource::Embedded)]
    );
    assert_eq!(settings.drain, DRAIN);
}

#[test]
fn flags_override_fleet_toml() {
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:9\"]\nthreads = 3\ndrain = \"5s\"\n\
                 models = [{ id = \"a\", path = \"/models/a\" }]\nlimits = { max_slots = 2, queue = 0 }\n";
    let from_file = resolve(fleet, &[]).unwrap();
    assert_eq!(listens(&from_file), ["127.0.0.1:9"]);
    assert_eq!(
        from_file.models[0].source,
        ModelSource::Folder("/models/a".into())
    );
    assert_eq!(from_file.options.threads, NonZeroUsize::new(3));
    assert_eq!(
        (from_file.options.max_slots.get(), from_file.options.queue),
        (2, 0)
    );
    assert_eq!(from_file.drain, Duration::from_secs(5));

    let flags = [
        "--port",
        "0",
        "--host",
        "::1",
        "--host",
        "localhost",
        "--model",
        "b=/models/b",
        "--threads",
        "1",
    ];
    let from_flags = resolve(fleet, &flags).unwrap();
    assert_eq!(listens(&from_flags), ["[::1]:0", "127.0.0.1:0"]);
    assert_eq!(
        ids(&from_flags),
        [("b".to_owned(), ModelSource::Folder("/models/b".into()))]
    );
    assert_eq!(from_flags.options.threads, NonZeroUsize::new(1));
    assert_eq!(from_flags.options.max_slots.get(), 2);
}

#[test]
fn address_that_other_machines_can_reach_is_refused_without_a_token() {
    for host in ["0.0.0.0", "::", "192.168.1.2", "::ffff:10.0.0.1"] {
        let error = resolve("", &["--host", host]).unwrap_err();
        assert!(error.contains("from other machines"), "{host}: {error}");
    }
    assert!(resolve("", &["--host", "::ffff:127.0.0.1"]).is_ok());
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:1\", \"10.0.0.1:1\"]";
    assert!(resolve(fleet, &[]).unwrap_err().contains("10.0.0.1:1"));
}

#[test]
fn address_that_other_machines_can_reach_is_accepted_with_a_token() {
    let settings = resolve("", &["--host", "0.0.0.0", "--auth-token-file", "/s/t"]).unwrap();
    let token = settings.rules.token.unwrap();
    assert_eq!((token.file, token.shown.as_str()), ("/s/t".into(), "/s/t"));
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:1\", \"10.0.0.1:1\"]\n\
                 auth = { token_file = \"s/t\", loopback = \"required\" }\nlimits = { max_requests_per_client = 3 }";
    let rules = resolve(fleet, &[]).unwrap().rules;
    let token = rules.token.unwrap();
    assert!(
        token.file.is_absolute() && token.file.ends_with("s/t"),
        "{token:?}"
    );
    assert_eq!(token.shown, "s/t");
    assert_eq!(rules.loopback, Loopback::Required);
    assert_eq!(rules.per_client.get(), 3);
    let flags = [
        "--auth-token-file",
        "/o",
        "--loopback",
        "bypass",
        "--max-requests-per-client",
        "5",
    ];
    let rules = resolve(fleet, &flags).unwrap().rules;
    assert_eq!(rules.token.unwrap().shown, "/o");
    assert_eq!(rules.loopback, Loopback::Bypass);
    assert_eq!(rules.per_client.get(), 5);
}

#[test]
fn required_loopback_without_a_token_is_refused() {
    let error = resolve("", &["--loopback", "required"]).unwrap_err();
    assert!(error.contains("sanctum-pki token server"), "{error}");
    assert!(resolve("", &["--loopback", "required", "--auth-token-file", "t"]).is_ok());
}

#[test]
fn audit_log_is_in_the_fleets_home_by_default() {
    assert_eq!(resolve("", &[]).unwrap().audit, None);
    let place = |fleet: &str, args: &[&str]| resolve(fleet, args).unwrap().audit;
    let flag = place("", &["--audit-log", "/logs/a"]).unwrap();
    assert_eq!(flag.path, Path::new("/logs/a"));
    assert_eq!(
        (flag.rotation.max_bytes.get(), flag.rotation.keep),
        (64 << 20, 5)
    );

    let fleet =
        |line: &str| format!("[fleet]\nhome = \"/srv/home\"\n[servers.s]\nhost = \"m\"\n{line}");
    let usual = place(&fleet(""), &[]).unwrap();
    assert_eq!(usual.path, Path::new("/srv/home/logs/s.audit.jsonl"));
    let said = place(
        &fleet("audit = { file = \"a/b\", rotate_mb = 1, keep = 0 }"),
        &[],
    )
    .unwrap();
    assert!(
        said.path.is_absolute() && said.path.ends_with("a/b"),
        "{said:?}"
    );
    assert_eq!(
        (said.rotation.max_bytes.get(), said.rotation.keep),
        (1 << 20, 0)
    );
    assert_eq!(place(&fleet("audit = { enabled = false }"), &[]), None);
}

#[test]
fn server_must_be_named_if_there_are_several() {
    let two =
        "[servers.one]\nhost = \"m\"\nlisten = [\"127.0.0.1:1\"]\n[servers.two]\nhost = \"m\"\n";
    assert_eq!(
        listens(&resolve(two, &["--server", "one"]).unwrap()),
        ["127.0.0.1:1"]
    );
    let error = resolve(two, &[]).unwrap_err();
    assert!(
        error.contains("2 servers; choose one with --server: one, two"),
        "{error}"
    );
    let error = resolve(two, &["--server", "tow"]).unwrap_err();
    assert!(error.contains("no [servers.tow]; did you mean"), "{error}");
    assert!(resolve("[fleet]\n", &[]).unwrap_err().contains("no server"));
}

#[test]
fn adapter_flags_override_fleet_toml() {
    let line = "models = [{ id = \"a\", path = \"/a\", adapter = \"lora\" }]\nadapters = \"more\"";
    let file = format!("[servers.s]\nhost = \"m\"\n{line}");
    let adapter = |settings: &Settings| settings.models[0].adapter.clone().unwrap();
    let settings = resolve(&file, &[]).unwrap();
    assert_eq!(adapter(&settings).name.as_str(), "lora");
    // Relative paths begin at the file's folder.
    let beside = adapter(&settings).folder;
    assert_eq!(settings.adapters, Some(beside.with_file_name("more")));
    let flags = ["--adapter-path", "/b/other", "--adapter-dir", "/b"];
    let settings = resolve(&file, &flags).unwrap();
    assert_eq!(adapter(&settings).folder, Path::new("/b/other"));
    assert_eq!(settings.adapters.as_deref(), Some(Path::new("/b")));
    let error = resolve(&file, &["--adapter-path", "/b/two words"]).unwrap_err();
    assert!(error.contains("rename the folder"), "{error}");
    let two = ["--model", "/a", "--model", "/b", "--adapter-path", "/c"];
    let error = resolve("", &two).unwrap_err();
    assert!(
        error.contains("exactly one model, and there are 2"),
        "{error}"
    );
}

#[test]
fn backend_and_memory_flags_override_fleet_toml() {
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:9\"]\nbackend = \"mlx\"\n\
                 memory = { limit_mb = 4096, cache_limit_mb = 0 }\n";
    let options = |args: &[&str]| resolve(fleet, args).unwrap().options;
    let file = options(&[]);
    assert_eq!(file.backend, BackendChoice::Mlx);
    assert_eq!(
        (file.memory.total, file.memory.cache),
        (Some(4096 << 20), None)
    );
    let both = ["--metal-memory-limit-mb", "--mlx-memory-limit-mb"];
    for flag in both {
        let said = options(&["--backend", "cpu", flag, "512"]);
        assert_eq!(said.backend, BackendChoice::Cpu);
        assert_eq!(said.memory.total, Some(512 << 20));
    }
}

#[test]
fn kv_cache_flag_overrides_fleet_toml() {
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:9\"]\nkv_cache = \"v8\"\n";
    let kv_cache = |fleet, args: &[&str]| resolve(fleet, args).unwrap().options.kv_cache;
    assert_eq!(kv_cache("", &[]), KvMode::Plain);
    assert_eq!(kv_cache(fleet, &[]), KvMode::V8);
    assert_eq!(kv_cache(fleet, &["--kv-cache", "v4"]), KvMode::V4);
    assert_eq!(kv_cache(fleet, &["--kv-cache", "plain"]), KvMode::Plain);
}

#[test]
fn prefix_flags_override_fleet_toml() {
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:9\"]\nprefix_cache = \"shared\"\n\
                 prefix_cache_limit_gb = 2\ncache_dir = \"cache\"\ncache_dir_limit_gb = 0.5\ncache_check = 0.1\n";
    let prefix = |fleet, args: &[&str]| {
        let settings = resolve(fleet, args).unwrap();
        (settings.sharing, settings.options.prefix)
    };
    let (sharing, usual) = prefix("", &[]);
    assert_eq!(sharing, PrefixCacheScope::PerClient);
    assert!(usual.enabled);
    assert_eq!(
        (usual.limit, usual.cold, usual.check_share),
        (None, None, 0.02)
    );
    let (sharing, file) = prefix(fleet, &[]);
    let disk = file.cold.unwrap();
    assert_eq!((sharing, file.check_share), (PrefixCacheScope::Shared, 0.1));
    assert_eq!((file.limit, disk.limit_bytes), (Some(2 << 30), 1 << 29));
    assert!(disk.folder.is_absolute() && disk.folder.ends_with("cache"));
    let flags = [
        "--prefix-cache",
        "off",
        "--prefix-cache-limit-gb",
        "1.5",
        "--cache-dir",
        "/c",
        "--cache-dir-limit-gb",
        "3",
        "--cache-check",
        "0",
    ];
    let (_, off) = prefix(fleet, &flags);
    let disk = off.cold.unwrap();
    assert!(!off.enabled && off.check_share == 0.0);
    assert_eq!((off.limit, disk.limit_bytes), (Some(3 << 29), 3 << 30));
    assert_eq!(disk.folder, Path::new("/c"));
    let two = ["--model", "a=/m", "--model", "b=/m"];
    assert_eq!(prefix(fleet, &two).1.limit, Some(1 << 30));
    let error = resolve("", &["--cache-dir-limit-gb", "3"]).unwrap_err();
    assert!(error.contains("--cache-dir DIR"), "{error}");
}

#[test]
fn two_models_need_two_ids() {
    let error = resolve("", &["--model", "/x/a", "--model", "/y/a"]).unwrap_err();
    assert!(error.contains("two models have the id `a`"), "{error}");
}

#[test]
fn manifest_flags_override_fleet_toml() {
    use sanctum_manifest::Expected;
    let verified = |settings: &Settings| match settings.models[0].source.clone() {
        ModelSource::Verified { folder, expected } => (folder, expected),
        other => panic!("{other:?}"),
    };
    let fleet = "[servers.s]\nhost = \"m\"\nlisten = [\"127.0.0.1:9\"]\nmanifest_keys = [\"/k/old.pub\", \"new.pub\"]\n\
                 models = [{ id = \"a\", path = \"models/a\", manifest = \"a.sha256\" }]\n";
    let (folder, expected) = verified(&resolve(fleet, &[]).unwrap());
    let home = folder.parent().and_then(|models| models.parent()).unwrap();
    assert!(home.is_absolute() && folder.ends_with("models/a"));
    assert_eq!(
        expected,
        Expected {
            manifest: home.join("a.sha256"),
            keys: vec!["/k/old.pub".into(), home.join("new.pub")],
        }
    );

    let flags = [
        "--model",
        "b=/b",
        "--manifest",
        "b.sha256",
        "--manifest-key",
        "k",
    ];
    let (folder, expected) = verified(&resolve(fleet, &flags).unwrap());
    assert_eq!(folder, std::path::Path::new("/b"));
    assert_eq!(
        expected,
        Expected {
            manifest: "b.sha256".into(),
            keys: vec!["k".into()],
        }
    );
}

#[test]
fn manifest_or_key_that_would_verify_nothing_is_refused() {
    let two = ["--model", "a=/a", "--model", "b=/b", "--manifest", "m"];
    let error = resolve("", &two).unwrap_err();
    assert!(
        error.contains("exactly one --model, and there are 2"),
        "{error}"
    );
    for args in [
        &["--manifest-key", "k"][..],
        &["--manifest-key", "k", "--model", "a=/a"],
    ] {
        let error = resolve("", args).unwrap_err();
        assert!(error.contains("--manifest FILE"), "{error}");
    }
    let fleet = "[servers.s]\nhost = \"m\"\nmanifest_keys = [\"k\"]\nmodels = [{ id = \"a\", path = \"/a\" }]";
    let error = resolve(fleet, &[]).unwrap_err();
    assert!(error.contains("nothing would be checked"), "{error}");
}

#[test]
fn tls_files_are_in_the_fleets_home_by_default() {
    let fleet = "[fleet]\nhome = \"/srv/fleet\"\n[servers.s]\nhost = \"m\"\ntls_listen = [\"10.0.0.1:99\"]\n\
                 limits = { max_connections = 7 }\n";
    let settings = resolve(fleet, &[]).unwrap();
    assert_eq!(settings.max_connections, 7);
    let tls = settings.tls.unwrap();
    assert_eq!(tls.listen, ["10.0.0.1:99".parse().unwrap()]);
    let certs = |name: &str| std::path::Path::new("/srv/fleet/certs").join(name);
    assert_eq!(tls.files.certificate, certs("s.crt"));
    assert_eq!(tls.files.key, certs("s.key"));
    assert_eq!(tls.files.ca, certs("ca.crt"));
    assert_eq!(tls.files.crl, CrlPath::Usual(certs("ca.crl")));

    let named = format!("{fleet}tls = {{ key = \"own/s.key\", crl = \"/etc/revoked.crl\" }}\n");
    let flags = ["--tls-host", "::1", "--tls-key", "/run/s.key"];
    let tls = resolve(&named, &[]).unwrap().tls.unwrap();
    assert!(tls.files.key.is_absolute() && tls.files.key.ends_with("own/s.key"));
    assert_eq!(tls.files.crl, CrlPath::Named("/etc/revoked.crl".into()));
    let tls = resolve(&named, &flags).unwrap().tls.unwrap();
    assert_eq!(tls.listen, ["[::1]:1338".parse().unwrap()]);
    assert_eq!(tls.files.key, std::path::Path::new("/run/s.key"));
}

#[test]
fn tls_files_without_a_listener_are_refused() {
    let error = resolve("", &["--tls-ca", "ca.crt"]).unwrap_err();
    assert!(
        error.contains("--tls-ca") && error.contains("--tls-host"),
        "{error}"
    );
    assert_eq!(resolve("", &[]).unwrap().tls, None);
}

#[test]
fn addresses_that_conflict_are_refused() {
    let error = resolve("", &["--tls-host", "127.0.0.1:1337"]).unwrap_err();
    assert!(error.contains("127.0.0.1:1337 is given twice"), "{error}");
    let error = resolve("", &["--tls-host", "0.0.0.0:1337"]).unwrap_err();
    assert!(error.contains("includes 127.0.0.1:1337"), "{error}");
    let far = "[servers.s]\nhost = \"m\"\nlisten = []\ntls_listen = [\"10.0.0.1:1338\"]\n";
    let error = resolve(far, &[]).unwrap_err();
    assert!(error.contains("--tls-host 127.0.0.1"), "{error}");
    let near = far.replace("10.0.0.1", "0.0.0.0");
    assert!(resolve(&near, &[]).unwrap().listen.is_empty());
}
