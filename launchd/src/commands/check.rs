//! `sanctum-launchd check`: is fleet.toml right, and what does it describe?

use std::fmt::Write;

use sanctum_config::{Fleet, Home, Label, Role, TildePath};
use sanctum_watch::Schedule;
use serde_json::{Value, json};

use crate::Failure;
use crate::args::SiteArgs;
use crate::plist::render;
use crate::report::Report;
use crate::site::fleet_of;
use crate::status::count;

/// Runs it.
pub fn run(args: &SiteArgs, report: &mut Report) -> Result<(), Failure> {
    let (file, fleet) = fleet_of(args.config.as_deref())?;
    let home = Home::of(&fleet)?;
    let mut rows = Vec::new();
    for host in fleet.hosts.keys() {
        render(&fleet, &home, host)?;
        for (name, role) in fleet.agents_of(host) {
            rows.push([
                host.to_string(),
                name.to_string(),
                kind(name, role),
                what(&fleet, name, role)?,
            ]);
        }
    }
    let doubts = doubts(&fleet);
    if !report.is_json() {
        report.raw().write_all(table(&rows).as_bytes())?;
        for doubt in &doubts {
            report.note(&format!("note: {doubt}"))?;
        }
    }
    let agents: Vec<Value> = rows
        .iter()
        .map(|[host, agent, kind, what]| json!({ "host": host, "agent": agent, "kind": kind, "what": what }))
        .collect();
    let line = format!(
        "{} is a fleet of {} and {}",
        file.display(),
        count(fleet.hosts.len(), "host"),
        count(agents.len(), "agent")
    );
    Ok(report.end(&line, json!({ "agents": agents, "notes": doubts }))?)
}

fn kind(name: &Label, role: Role) -> String {
    match role {
        Role::Server(_) => "server".to_owned(),
        Role::Agent(agent) => match agent.standby_for {
            Some(_) => "standby".to_owned(),
            None => "program".to_owned(),
        },
        Role::Watch(watch) => watch.check(name).to_string(),
    }
}

/// One line about an agent.
fn what(fleet: &Fleet, name: &Label, role: Role) -> Result<String, Failure> {
    Ok(match role {
        Role::Server(server) => {
            let models: Vec<&str> = server
                .models
                .iter()
                .map(|model| model.id.as_str())
                .collect();
            let plain = server.listen.iter().map(ToString::to_string);
            let tls = server
                .tls_listen
                .iter()
                .map(|address| format!("{address} (mTLS)"));
            let listens: Vec<String> = plain.chain(tls).collect();
            let models = match models.is_empty() {
                true => "the model that is built in".to_owned(),
                false => models.join(", "),
            };
            format!("{models} on {}", listens.join(", "))
        }
        Role::Agent(agent) => {
            let standby = agent
                .standby_for
                .iter()
                .map(|server| format!("for {server}: "));
            format!("{}{}", standby.collect::<String>(), agent.program.join(" "))
        }
        Role::Watch(watch) => {
            let schedule = Schedule::of(watch)
                .map_err(|error| Failure::Refused(format!("[watch.{name}]: {error}")))?;
            let only = fleet
                .servers
                .keys()
                .next()
                .filter(|_| fleet.servers.len() == 1);
            let target = watch.target.as_ref().or(only);
            let watched = target
                .map(|target| format!("{target}, "))
                .unwrap_or_default();
            let alerts: Vec<&str> = watch.alert.iter().map(Label::as_str).collect();
            let alerts = match alerts.is_empty() {
                true => "tells nobody".to_owned(),
                false => format!("tells {}", alerts.join(", ")),
            };
            format!("{watched}{schedule}, {alerts}")
        }
    })
}

/// What may be meant and probably is not.
fn doubts(fleet: &Fleet) -> Vec<String> {
    let mut doubts = Vec::new();
    let placed = |name: &Label| fleet.hosts.values().any(|host| host.agents.contains(name));
    for (name, server) in &fleet.servers {
        if !placed(name) {
            doubts.push(format!(
                "[servers.{name}] is in no host's `agents`, so it is not installed; add it to [hosts.{}]",
                server.host
            ));
        }
        let watched = fleet
            .watch
            .values()
            .any(|watch| watch.target.as_ref() == Some(name));
        if placed(name) && !watched {
            doubts.push(format!("nobody watches [servers.{name}]"));
        }
        let outside = server.listen.iter().find(|a| !a.ip().is_loopback());
        if let (Some(address), None) = (outside, &server.auth.token_file) {
            doubts.push(format!(
                "[servers.{name}] does not start: other machines reach {address}, and there is no token to ask them for; write \
                 `auth = {{ token_file = \"~/.sanctum/secrets/server.token\" }}` (sanctum-pki token), or listen on 127.0.0.1"
            ));
        }
        let folders = server
            .models
            .iter()
            .flat_map(|model| std::iter::once(&model.path).chain(&model.adapter))
            .chain(&server.adapters);
        for folder in folders.map(TildePath::as_str) {
            if !folder.starts_with(['/', '~']) {
                doubts.push(format!(
                    "[servers.{name}] looks for `{folder}` in the fleet's home, where its fleet.toml is deployed to, and \
                     models are not deployed with it; write a path that begins with / or ~/ if it is elsewhere"
                ));
            }
        }
    }
    for (name, watch) in &fleet.watch {
        if !placed(name) {
            doubts.push(format!(
                "[watch.{name}] is in no host's `agents`, so it does not run"
            ));
        }
        if watch.alert.is_empty() {
            doubts.push(format!(
                "[watch.{name}] has no `alert`, so what it finds is told in its log only; name one of [alerts.NAME]"
            ));
        }
        let through = |channel| {
            fleet
                .alerts
                .get(channel)
                .and_then(|channel| channel.url.as_deref())
        };
        let watched = watch
            .target
            .as_ref()
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
            doubts.push(format!(
                "[watch.{name}] watches a host from outside and alerts through that same host"
            ));
        }
    }
    doubts
}

fn table(rows: &[[String; 4]]) -> String {
    let head = ["HOST", "AGENT", "KIND", "WHAT"].map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        all()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (host, agent, kind) = (width(0), width(1), width(2));
    let mut text = String::new();
    for row in all() {
        let _ = writeln!(
            text,
            "{:host$}  {:agent$}  {:kind$}  {}",
            row[0], row[1], row[2], row[3]
        );
    }
    text
}
