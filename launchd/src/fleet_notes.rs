//! Notes about a valid fleet.toml that probably does not do what its author means. `check` prints them; no command refuses
//! the file for them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::fleet::{DISK_LIMIT, PrefixCacheScope, Server, Watch};
use sanctum_config::{Fleet, Label, Origin, Role, TildePath, nearest};
use sanctum_host::prefix_folder;
use sanctum_watch::Policy;

use crate::plist::THROTTLE;

/// A dead host should be noticed within this time.
const MAX_NOTICE: Duration = Duration::from_secs(20 * 60);

/// One sentence for each note. `file` is where `fleet` was read from. `here` is this machine, if it is a host of the fleet:
/// files outside of `file`'s folder are checked for it only.
pub(crate) fn fleet_notes(fleet: &Fleet, file: &Path, here: Option<&Label>) -> Vec<String> {
    let mut notes = Vec::new();
    servers(fleet, &mut notes);
    shadows(fleet, &mut notes);
    watchdogs(fleet, &mut notes);
    late_notice(fleet, &mut notes);
    prefix_caches(fleet, file, here, &mut notes);
    missing_files(fleet, file, here, &mut notes);
    notes
}

fn is_placed(fleet: &Fleet, name: &Label) -> bool {
    let mut hosts = fleet.hosts.values();
    hosts.any(|host| host.agents.contains(name))
}

/// Whether a watchdog other than drift, which compares files, checks a server.
fn is_watched(fleet: &Fleet, server: &Label) -> bool {
    fleet.watch.iter().any(|(name, watch)| {
        watch.check(name).as_str() != "drift" && fleet.watched_server(watch) == Some(server)
    })
}

fn models(server: &Server) -> BTreeSet<String> {
    let ids = server.models.iter().map(|model| model.id.to_string());
    ids.collect()
}

fn servers(fleet: &Fleet, notes: &mut Vec<String>) {
    for (name, server) in &fleet.servers {
        if !is_placed(fleet, name) {
            notes.push(format!(
                "[servers.{name}] is in no host's `agents`, so it is not installed; add it to [hosts.{}]",
                server.host
            ));
        }
        // An upgrade of a watched server asks its shadow.
        let is_shadow = (fleet.servers.iter()).any(|(other, served)| {
            other != name && models(served) == models(server) && is_watched(fleet, other)
        });
        if is_placed(fleet, name) && !is_watched(fleet, name) && !is_shadow {
            notes.push(format!(
                "no watchdog checks [servers.{name}]; write `target = \"{name}\"` in a [watch.NAME]"
            ));
        }
        let listeners = || server.listen.iter().chain(&server.tls_listen);
        let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        if !listeners().any(|address| is_local(address.ip())) {
            notes.push(format!(
                "[servers.{name}] does not start: it has no loopback address, and the watchdogs of its own host need one; add \
                 \"127.0.0.1:1337\" (or another free port) to `listen`"
            ));
        }
        let outside = server.listen.iter().find(|a| !a.ip().is_loopback());
        if let (Some(address), None) = (outside, &server.auth.token_file) {
            notes.push(format!(
                "[servers.{name}] does not start: other machines reach {address}, and there is no token that they must present; write \
                 `auth = {{ token_file = \"~/.sanctum/secrets/server.token\" }}` (sanctum-pki token), or listen on 127.0.0.1"
            ));
        }
        let is_any = server.allow_origins.contains(&Origin::Any);
        if is_any && server.auth.token_file.is_none() {
            notes.push(format!(
                "[servers.{name}]: `allow_origins` has `*`, whose pages need the token, and there is none: they are all \
                 refused; list the origins that you use, or write `auth = {{ token_file = … }}`"
            ));
        }
        let folders = server
            .models
            .iter()
            .flat_map(|model| model.path.iter().chain(&model.adapter))
            .chain(&server.adapters);
        for folder in folders.map(TildePath::as_str) {
            if !folder.starts_with(['/', '~']) {
                notes.push(format!(
                    "[servers.{name}] reads `{folder}` relative to the deployed fleet.toml, in the fleet's home, and models are \
                     not deployed with it; write a path that begins with / or ~/ if the model is elsewhere"
                ));
            }
        }
    }
}

/// Prefix reuse that is off in spite of other keys, and folders of prefixes that a server on this machine cannot use.
fn prefix_caches(fleet: &Fleet, file: &Path, here: Option<&Label>, notes: &mut Vec<String>) {
    for (name, server) in &fleet.servers {
        let keys = [
            (
                "prefix_cache_limit_gb",
                server.prefix_cache_limit_gb.is_some(),
            ),
            ("cache_dir", server.cache_dir.is_some()),
            ("cache_check", server.cache_check.is_some()),
        ];
        let set: Vec<&str> = keys
            .into_iter()
            .filter_map(|(key, is_set)| is_set.then_some(key))
            .collect();
        if server.prefix_cache == PrefixCacheScope::Off && !set.is_empty() {
            notes.push(format!(
                "[servers.{name}] has `prefix_cache = \"off\"`, so {} without effect; conversations that lie in a `cache_dir` stay \
                 there",
                match &set[..] {
                    [one] => format!("`{one}` is"),
                    several => format!("`{}` are", several.join("`, `")),
                }
            ));
            continue;
        }
        let is_here = here == Some(&server.host);
        let Some(folder) = server.cache_dir.as_ref().filter(|_| is_here) else {
            continue;
        };
        let Ok(folder) = folder.beside(file) else {
            continue;
        };
        let limit = server.cache_dir_limit_gb.unwrap_or(DISK_LIMIT).bytes();
        let problems = prefix_folder::problems(&folder, limit);
        notes.extend(
            problems
                .into_iter()
                .map(|problem| format!("[servers.{name}]: `cache_dir`: {problem}")),
        );
    }
}

/// Before an upgrade of a server, another server with the same models is asked.
fn shadows(fleet: &Fleet, notes: &mut Vec<String>) {
    let words = |server: &Server| match server.models.is_empty() {
        true => "the built-in model".to_owned(),
        false => models(server).into_iter().collect::<Vec<_>>().join(", "),
    };
    for (name, server) in &fleet.servers {
        let others = || fleet.servers.iter().filter(|(other, _)| *other != name);
        let alone = others().all(|(_, other)| models(other) != models(server));
        // A watched server has its own clients.
        let Some((other, served)) = others()
            .next()
            .filter(|_| alone && !is_watched(fleet, name))
        else {
            continue;
        };
        notes.push(format!(
            "[servers.{name}] serves {} and [servers.{other}] serves {}, so an upgrade of the one does not ask the other \
             first; if `{name}` is its shadow, give both the same `models`",
            words(server),
            words(served)
        ));
    }
}

fn watchdogs(fleet: &Fleet, notes: &mut Vec<String>) {
    for (name, watch) in &fleet.watch {
        if !is_placed(fleet, name) {
            notes.push(format!(
                "[watch.{name}] is in no host's `agents`, so it does not run"
            ));
        }
        if watch.alert.is_empty() {
            notes.push(format!(
                "[watch.{name}] has no `alert`, so what it finds is only logged; name one of [alerts.NAME]"
            ));
        }
        let through = |channel| {
            fleet
                .alerts
                .get(channel)
                .and_then(|channel| channel.url.as_deref())
        };
        let watched = fleet
            .watched_server(watch)
            .and_then(|target| fleet.host_of(target));
        let away = watched.is_some() && fleet.host_of(name) != watched;
        let address = watched
            .and_then(|host| fleet.hosts.get(host))
            .map(|host| host.address.as_str());
        let same_box = |channel| {
            through(channel)
                .zip(address)
                .is_some_and(|(url, host)| url.contains(host))
        };
        if away && watch.alert.iter().any(same_box) {
            notes.push(format!(
                "[watch.{name}] watches a host from outside and alerts through that same host"
            ));
        }
        let server = watch
            .target
            .as_ref()
            .and_then(|target| fleet.servers.get_key_value(target));
        if let Some((target, server)) = server.filter(|_| away) {
            let mut listeners = server.listen.iter().chain(&server.tls_listen);
            if listeners.all(|address| address.ip().is_loopback()) {
                notes.push(format!(
                    "[watch.{name}] does not start: it runs on another host, and [servers.{target}] listens on loopback \
                     addresses only; add an address that other hosts reach to its `tls_listen`"
                ));
            }
        }
        let is_guardian = watch.check(name).as_str() == "guardian";
        let throttle = Duration::from_secs(THROTTLE);
        if let Some(grace) = watch
            .startup_grace
            .filter(|grace| is_guardian && *grace < throttle)
        {
            notes.push(format!(
                "[watch.{name}] gives a server {} s to start (`startup_grace`), and launchd waits {THROTTLE} s between two \
                 starts (ThrottleInterval), so one that launchd is about to start counts as dead; write 60s or more",
                grace.as_secs()
            ));
        }
    }
}

/// Only a canary on another host notices that a host is dead.
fn late_notice(fleet: &Fleet, notes: &mut Vec<String>) {
    for (host, section) in &fleet.hosts {
        let canaries = fleet.watch.iter().filter(|(name, watch)| {
            let target = fleet
                .watched_server(watch)
                .and_then(|target| fleet.host_of(target));
            watch.check(name).as_str() == "canary"
                && target == Some(host)
                && is_placed(fleet, name)
                && fleet.host_of(name) != Some(host)
        });
        let notices = canaries.map(|(name, watch)| {
            // The times of `at` are hours apart.
            let every = watch.every.unwrap_or(Duration::MAX);
            (every.saturating_mul(Policy::of(watch).misses), name)
        });
        let Some((after, name)) = notices.min().filter(|(after, _)| *after >= MAX_NOTICE) else {
            continue;
        };
        let after = match after.as_secs() / 60 {
            minutes @ ..1440 => format!("up to {minutes} minutes"),
            _ => "a day or more".to_owned(),
        };
        notes.push(format!(
            "it takes [watch.{name}] {after} to notice that {host} ({}) is dead (`every` times `misses`), and no other canary \
             on another host is faster; write `every = \"5m\"`",
            section.address
        ));
    }
}

fn missing_files(fleet: &Fleet, file: &Path, here: Option<&Label>, notes: &mut Vec<String>) {
    let mut named: BTreeSet<PathBuf> = BTreeSet::new();
    let mut missing = |what: String, path: &TildePath, host: &Label, fix: String| {
        let is_beside = !path.as_str().starts_with(['/', '~']);
        let Ok(path) = path.beside(file) else { return };
        if (is_beside || here == Some(host)) && !path.exists() && named.insert(path.clone()) {
            notes.push(format!("{what} `{}` is missing; {fix}", path.display()));
        }
    };
    for host in fleet.hosts.keys() {
        for (name, role) in fleet.agents_of(host) {
            match role {
                Role::Server(server) => files_of(name, server, host, &mut missing),
                Role::Watch(watch) => {
                    secrets_of(fleet, name, watch, host, &mut missing);
                    if let Some(spec) = &watch.spec {
                        let fix = "put it there, or change `spec`; without it nothing is installed"
                            .to_owned();
                        missing(format!("[watch.{name}]: the spec"), spec, host, fix);
                    }
                }
                Role::Page(_) => {}
                Role::Agent(agent) => {
                    let program = agent.program.first().cloned();
                    if let Some(Ok(program)) = program.map(TildePath::try_from) {
                        let fix = "install that program, or change `program`".to_owned();
                        missing(format!("[agents.{name}]: the program"), &program, host, fix);
                    }
                }
            }
        }
    }
    let tokens = fleet.servers.iter().filter_map(|(name, server)| {
        let token = server.auth.token_file.as_ref()?.as_str();
        let stem = Path::new(token)
            .file_name()?
            .to_str()?
            .strip_suffix(".token")?;
        Some((name, token, stem.to_owned()))
    });
    for (name, token, stem) in tokens {
        let servers = || fleet.servers.keys().map(Label::as_str);
        if token.contains("secrets/") && !servers().any(|server| server == stem) {
            let near = nearest(&stem, servers()).unwrap_or(name.as_str());
            notes.push(format!(
                "[servers.{name}]: `token_file` is {token}, and there is no server `{stem}`: `sanctum-pki token` makes and \
                 `bundle` delivers SERVER.token; write secrets/{near}.token"
            ));
        }
    }
}

/// The files of a watchdog's channels, and of its heartbeat URL.
fn secrets_of(
    fleet: &Fleet,
    name: &Label,
    watch: &Watch,
    host: &Label,
    missing: &mut impl FnMut(String, &TildePath, &Label, String),
) {
    let channels = watch.alert.iter();
    let channels = channels.filter_map(|channel| fleet.alerts.get_key_value(channel));
    for (channel, section) in channels {
        for (key, path) in section.files() {
            let fix = match key {
                "ca_file" => "put the certificate authority there, or remove `ca_file`".to_owned(),
                _ => format!(
                    "write the secret into it on {host}, with mode 600; without it this channel delivers nothing \
                     (sanctum-launchd alert test {channel})"
                ),
            };
            missing(format!("[alerts.{channel}]: the `{key}`"), path, host, fix);
        }
    }
    if let Some(path) = &watch.heartbeat_url_file {
        let fix = format!("write the address into it on {host}, with mode 600");
        missing(
            format!("[watch.{name}]: the `heartbeat_url_file`"),
            path,
            host,
            fix,
        );
    }
}

/// The files that a server reads.
fn files_of(
    name: &Label,
    server: &Server,
    host: &Label,
    missing: &mut impl FnMut(String, &TildePath, &Label, String),
) {
    for (model, path) in server.local_models() {
        // A relative folder has its own note.
        if path.as_str().starts_with(['/', '~']) {
            let fix = "put the model there, or change `path`".to_owned();
            missing(format!("[servers.{name}]: the model"), path, host, fix);
        }
        let Some(manifest) = &model.manifest else {
            continue;
        };
        let make = format!("sanctum-pki manifest create {path} --out {manifest}");
        missing(
            format!("[servers.{name}]: the manifest"),
            manifest,
            host,
            make,
        );
        let signature = TildePath::try_from(format!("{manifest}.sig"));
        if let Some(signature) = signature.ok().filter(|_| !server.manifest_keys.is_empty()) {
            let make = format!("sanctum-pki manifest sign {manifest}");
            missing(
                format!("[servers.{name}]: the signature"),
                &signature,
                host,
                make,
            );
        }
    }
    for key in &server.manifest_keys {
        let make = "sanctum-pki manifest keygen, then sanctum-pki bundle".to_owned();
        missing(
            format!("[servers.{name}]: the manifest key"),
            key,
            host,
            make,
        );
    }
    if let Some(token) = &server.auth.token_file {
        let make = format!("sanctum-pki token {name}");
        missing(format!("[servers.{name}]: the token"), token, host, make);
    }
}
