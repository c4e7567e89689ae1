//! `sanctum-launchd check`: validate fleet.toml and show what it describes.

use std::fmt::Write;

use sanctum_config::fleet::{ModelSection, Server};
use sanctum_config::{Fleet, Home, HostName, Label, ModelAlias, Origin, Role};
use sanctum_host::{read_fleet, this_host};
use sanctum_watch::Schedule;
use serde_json::{Value, json};

use crate::Error;
use crate::args::GlobalArgs;
use crate::console::Console;
use crate::fleet_check::check_fleet;
use crate::fleet_notes::fleet_notes;
use crate::status::count;

/// Runs it.
pub(crate) fn run(args: &GlobalArgs, console: &mut Console) -> Result<(), Error> {
    let (file, fleet) = read_fleet(args.config.as_deref())?;
    let home = Home::for_deployment(&fleet)?;
    check_fleet(&fleet, &file, &home)?;
    let mut rows = Vec::new();
    for host in fleet.hosts.keys() {
        for (name, role) in fleet.agents_of(host) {
            rows.push([
                host.to_string(),
                name.to_string(),
                kind(name, role),
                what(&fleet, name, role)?,
            ]);
        }
    }
    let here = this_host(&fleet, &home).ok().flatten();
    let notes = fleet_notes(&fleet, &file, here.as_ref());
    if !console.is_json() {
        console.raw().write_all(table(&rows).as_bytes())?;
        for note in &notes {
            console.note(&format!("note: {note}"))?;
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
    Ok(console.end(&line, json!({ "agents": agents, "notes": notes }))?)
}

fn kind(name: &Label, role: Role) -> String {
    match role {
        Role::Server(_) => "server".to_owned(),
        Role::Agent(agent) => match agent.standby_for {
            Some(_) => "standby".to_owned(),
            None => "program".to_owned(),
        },
        Role::Watch(watch) => watch.check(name).to_string(),
        Role::Page(_) => "page".to_owned(),
    }
}

/// One line about an agent.
fn what(fleet: &Fleet, name: &Label, role: Role) -> Result<String, Error> {
    Ok(match role {
        Role::Server(server) => {
            let mut models: Vec<String> = server.models.iter().map(named).collect();
            let plain = server.listen.iter().map(ToString::to_string);
            let tls = server
                .tls_listen
                .iter()
                .map(|address| format!("{address} (mTLS)"));
            let listens: Vec<String> = plain.chain(tls).collect();
            if models.is_empty() {
                models.push("the built-in model".to_owned());
            }
            if server.any_model {
                models.push("any other name".to_owned());
            }
            let models = models.join(", ");
            format!("{models} on {}{}", listens.join(", "), options(server))
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
                .map_err(|error| Error::refused(format!("[watch.{name}]: {error}")))?;
            let watched = fleet
                .watched_server(watch)
                .map(|target| format!("{target}, "))
                .unwrap_or_default();
            let alerts: Vec<&str> = watch.alert.iter().map(Label::as_str).collect();
            let alerts = match alerts.is_empty() {
                true => "no alerts".to_owned(),
                false => format!("alerts {}", alerts.join(", ")),
            };
            format!("{watched}{schedule}, {alerts}")
        }
        Role::Page(page) => {
            let address = page
                .address()
                .map_err(|error| Error::refused(format!("[pages.{name}]: {error}")))?;
            format!("the fleet page on http://{address}")
        }
    })
}

/// A model and its other names.
fn named(model: &ModelSection) -> String {
    let aliases: Vec<&str> = model.aliases.iter().map(ModelAlias::as_str).collect();
    match aliases.is_empty() {
        true => model.id.to_string(),
        false => format!("{} ({})", model.id, aliases.join(", ")),
    }
}

/// What clients of a server meet beyond the defaults.
fn options(server: &Server) -> String {
    let strict = server.strict_fields.then(|| "strict fields".to_owned());
    let list = |what: &str, names: Vec<&str>| {
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let origins = server.allow_origins.iter().map(Origin::as_str).collect();
    let hosts = server.allow_hosts.iter().map(HostName::as_str).collect();
    let all = [strict, list("pages of", origins), list("as", hosts)];
    all.into_iter()
        .flatten()
        .map(|option| format!("; {option}"))
        .collect()
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
