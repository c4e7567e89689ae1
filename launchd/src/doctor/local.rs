//! The checks of a host from inside.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_client::{Credentials, ServerEndpoint};
use sanctum_config::fleet::{Loopback, Server, Watch};
use sanctum_config::{Label, Role};
use sanctum_host::firewall::{self, FirewallRule};
use sanctum_host::journal::is_command_running;
use sanctum_host::{Installation, Journal, Receipt, StoppedAgents, command, ssh};
use sanctum_watch::certificates::on_host;
use sanctum_watch::{Schedule, VerdictKind, WatchdogState};

use super::macos;
use super::report::{DoctorLine, DoctorReport, one_failure_for_each_cause};
use crate::server_probe::ServerProbe;
use crate::wait::Wait;

/// Less free space is too little for another release and the logs.
const MIN_FREE: u64 = 5 << 30;
/// Days before the expiry of a certificate at which a renewal is due.
const RENEWAL: i64 = 30;

/// What is found on this host. The check of a model reads all of it, and takes `patience` at most for each server.
pub(crate) fn check_here(installation: &Installation, patience: Duration) -> DoctorReport {
    let receipt = installation.receipt();
    let now = Utc::now();
    let install = installation.typed_to_deploy(sanctum_host::INSTALL_RELEASE);
    let missing = |why: String| DoctorLine::failed("installation", why, install.clone());
    let mut lines = vec![match &receipt {
        Ok(Some(receipt)) => DoctorLine::passed(
            "installation",
            format!("release {} since {}", receipt.release, receipt.installed),
        ),
        Ok(None) => missing("nothing is installed here".to_owned()),
        Err(error) => missing(error.to_string()),
    }];
    let receipt = receipt.ok().flatten();
    if receipt.is_some() {
        lines.push(interruption(installation));
    }
    lines.push(disk(installation));
    lines.extend(certificates(installation, now));
    let agents = installation.fleet.agents_of(&installation.host);
    // A server without its model does not run, and one that does not run accepts no token.
    for (name, role) in &agents {
        if let Role::Server(server) = role {
            lines.push(model(installation, name, server, patience));
        }
    }
    if let Some(receipt) = &receipt {
        let agents_run = agents_run(installation, receipt);
        // A server that runs has read its model before the model was damaged.
        for line in &mut lines {
            line.down.retain(|name| agents_run.down.contains(name));
        }
        lines.push(agents_run);
    }
    for (name, role) in &agents {
        match role {
            Role::Server(server) => lines.push(token(installation, name, server)),
            Role::Watch(watch) => lines.extend(local_network(installation, name, watch, now)),
            Role::Agent(_) | Role::Page(_) => {}
        }
    }
    if agents
        .iter()
        .any(|(_, role)| matches!(role, Role::Server(_)))
    {
        lines.push(firewall(installation));
        lines.extend(macos::unattended());
    }
    lines.extend(notifications(installation));
    DoctorReport {
        host: installation.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        release: receipt.map(|receipt| receipt.release),
        time: Utc::now(),
        lines: one_failure_for_each_cause(lines, &[]),
    }
}

/// A command that was interrupted: what runs may be half of an upgrade.
fn interruption(installation: &Installation) -> DoctorLine {
    let fix = installation.typed("verify") + ", which names the command that finishes it";
    let is_running = is_command_running(&installation.home);
    match Journal::read(&installation.home.journal()) {
        Ok(Some(journal)) if !is_running => {
            DoctorLine::failed("interruption", journal.interruption(), fix)
        }
        Ok(_) => DoctorLine::passed("interruption", "no command was interrupted"),
        Err(error) => DoctorLine::failed("interruption", error.to_string(), fix),
    }
}

/// Whether all agents run that should.
fn agents_run(installation: &Installation, receipt: &Receipt) -> DoctorLine {
    let stopped = StoppedAgents::read(&installation.home.stopped()).unwrap_or_default();
    let (mut idle, mut down) = (Vec::new(), Vec::new());
    let wanted = receipt.agents.iter().filter(|agent| agent.enabled);
    for agent in wanted.filter(|agent| !stopped.contains(&agent.name)) {
        match installation.launchctl.print(&agent.label) {
            Ok(Some(service)) if service.is_running() => continue,
            Ok(Some(_)) => idle.push(format!("{} is loaded and does not run", agent.name)),
            Ok(None) => idle.push(format!("{} is not loaded", agent.name)),
            Err(error) => return DoctorLine::not_checkable("agents", error.to_string()),
        }
        down.push(agent.name.clone());
    }
    match idle.is_empty() {
        true => DoctorLine::passed("agents", "all agents run that are not stopped"),
        false => DoctorLine::failed(
            "agents",
            idle.join(", "),
            format!(
                "{}, which has the fix for each; or: {}",
                installation.typed("verify"),
                installation.typed("logs AGENT")
            ),
        )
        .with_down(down),
    }
}

fn disk(installation: &Installation) -> DoctorLine {
    let home = installation.home.path();
    // The home need not exist yet.
    let path = home.ancestors().find(|path| path.exists()).unwrap_or(home);
    let volume = match rustix::fs::statvfs(path) {
        Ok(volume) => volume,
        Err(error) => {
            return DoctorLine::not_checkable("disk", format!("{}: {error}", path.display()));
        }
    };
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let detail = format!(
        "{:.1} of {:.1} GiB are free on the volume of {}",
        gib(free),
        gib(volume.f_blocks.saturating_mul(volume.f_frsize)),
        path.display()
    );
    match free >= MIN_FREE {
        true => DoctorLine::passed("disk", detail),
        false => DoctorLine::failed(
            "disk",
            detail,
            format!("du -sh {}/*", ssh::quoted_file(home)),
        ),
    }
}

fn certificates(installation: &Installation, now: DateTime<Utc>) -> Vec<DoctorLine> {
    let Installation {
        fleet,
        file,
        home,
        host,
        ..
    } = installation;
    let check = "certificates";
    let mut lines = Vec::new();
    let mut fewest = None;
    for validity in on_host(fleet, file, home, host) {
        match validity {
            Ok(validity) => {
                let days = validity.days_left(now);
                if days.is_some_and(|days| days < RENEWAL) {
                    let problem = validity
                        .problem(now)
                        .unwrap_or_else(|| validity.to_string());
                    lines.push(DoctorLine::failed(check, problem, validity.renewal(host)));
                }
                fewest = fewest.into_iter().chain(days).min();
            }
            Err(error) => lines.push(DoctorLine::failed(
                check,
                error.to_string(),
                format!("on the CA's host: sanctum-pki --config fleet.toml bundle {host}"),
            )),
        }
    }
    if let (true, Some(days)) = (lines.is_empty(), fewest) {
        lines.push(DoctorLine::passed(
            check,
            format!("the first one expires in {days} days"),
        ));
    }
    lines
}

/// The installed program reads the whole model, and its manifest if it has one.
fn model(
    installation: &Installation,
    name: &Label,
    server: &Server,
    patience: Duration,
) -> DoctorLine {
    let check = format!("model of {name}");
    if server.models.is_empty() {
        return DoctorLine::passed(check, "it is built into the program");
    }
    let program = installation.home.bin().join("sanctum-server");
    if !program.is_file() {
        let why = format!("{} is missing", program.display());
        let install = installation.typed(sanctum_host::INSTALL_RELEASE);
        return DoctorLine::not_checkable(check, why).by_hand(install);
    }
    let config = installation.file.to_string_lossy().into_owned();
    let arguments = [
        "check-model",
        "--config",
        &config,
        "--server",
        name.as_str(),
    ];
    let wait = Wait::new(patience);
    wait.show(&format!("checking the models of {name}"));
    let output = command::run(&program.to_string_lossy(), &arguments, wait.left());
    drop(wait);
    match output {
        Ok(output) if output.succeeded() => {
            let lines: Vec<&str> = output.stdout.lines().collect();
            DoctorLine::passed(check, lines.join("; "))
        }
        Ok(output) => {
            let fix = "copy the model again; docs/manifest.md says how models are verified";
            DoctorLine::failed(check, output.reason(), fix).with_down([name.clone()])
        }
        Err(error) => DoctorLine::failed(check, error.to_string(), "doctor --patience SECONDS"),
    }
}

/// The server must accept the token that its clients have.
fn token(installation: &Installation, name: &Label, server: &Server) -> DoctorLine {
    let Installation {
        fleet,
        file,
        home,
        host,
        ..
    } = installation;
    let check = format!("token of {name}");
    let Some(path) = &server.auth.token_file else {
        return DoctorLine::passed(check, "it needs none");
    };
    let is_stopped = StoppedAgents::read(&home.stopped()).is_ok_and(|all| all.contains(name));
    if is_stopped {
        return DoctorLine::not_checkable(check, format!("{name} is stopped on purpose"))
            .by_hand(installation.typed(&format!("start {name}")));
    }
    let endpoint = ServerEndpoint::from_host(fleet, file, home, host, name);
    let path = path.beside(file);
    let (endpoint, path) = match (endpoint, path) {
        (Ok(endpoint), Ok(path)) => (endpoint, path),
        (Err(error), _) => return DoctorLine::not_checkable(check, error.to_string()),
        (_, Err(error)) => return DoctorLine::not_checkable(check, error.to_string()),
    };
    let Some(base) = endpoint.plain.clone() else {
        return DoctorLine::not_checkable(check, "the server has no plain listener on this host");
    };
    let probe = ServerProbe::to(ServerEndpoint {
        base,
        credentials: Credentials::Bearer(path),
        ..endpoint
    });
    match probe.models() {
        Ok(()) if server.auth.loopback == Loopback::Bypass => {
            let why = "it is readable, and loopback accepts requests without it; another host can check it";
            DoctorLine::not_checkable(check, why).by_hand(format!(
                "on that host: sanctum-launchd doctor --host {host}"
            ))
        }
        Ok(()) => DoctorLine::passed(check, "the server accepts it"),
        Err(error) if error.is_answer() => DoctorLine::failed(
            check,
            error.to_string(),
            format!("sanctum-pki token {name}, then copy it to the hosts that use it"),
        ),
        Err(error) => DoctorLine::failed(
            check,
            error.to_string(),
            installation.typed(&format!("logs {name}")),
        )
        .with_down([name.clone()]),
    }
}

fn firewall(installation: &Installation) -> DoctorLine {
    let check = "firewall";
    if !firewall::is_needed(&installation.fleet, &installation.host) {
        return DoctorLine::passed(check, "no server here listens for other hosts");
    }
    let program = installation.home.bin().join("sanctum-server");
    let fix = |lines: Vec<sanctum_host::CommandLine>| {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        lines.join(" && ")
    };
    match firewall::rule_for(&program) {
        Some(FirewallRule::Permitted) => DoctorLine::passed(check, "it permits the server"),
        Some(FirewallRule::Off) => DoctorLine::passed(check, "it is off"),
        Some(FirewallRule::Blocked) => DoctorLine::failed(
            check,
            "it blocks other hosts' connections to the server",
            fix(firewall::allow(&program)),
        ),
        Some(FirewallRule::AllBlocked) => DoctorLine::failed(
            check,
            "it blocks connections to every program",
            fix(vec![firewall::unblock_all()]),
        ),
        Some(FirewallRule::Unknown) => {
            let why =
                "it has no rule for the server: the effect depends on the program's signature";
            DoctorLine::not_checkable(check, why).by_hand(fix(firewall::allow(&program)))
        }
        None => DoctorLine::not_checkable(check, "this is not macOS"),
    }
}

/// macOS has no command for this permission. It belongs to a program in launchd's session, so what counts is what the
/// watchdog itself has observed from there.
fn local_network(
    installation: &Installation,
    name: &Label,
    watch: &Watch,
    now: DateTime<Utc>,
) -> Option<DoctorLine> {
    let Installation {
        fleet, home, host, ..
    } = installation;
    let target = fleet.watched_server(watch)?;
    let elsewhere = fleet.host_of(target).filter(|other| *other != host)?;
    if watch.check(name).as_str() == "drift" {
        return None;
    }
    let check = format!("local network of {name}");
    let restart = installation.typed(&format!("restart {name}"));
    let once = format!("{restart}, then: {}", installation.typed("doctor"));
    let state = WatchdogState::read(&home.watch_state(name)).ok().flatten();
    let Some((state, last)) = state
        .as_ref()
        .and_then(|state| Some((state, state.last.as_ref()?)))
    else {
        return Some(DoctorLine::not_checkable(check, "it has not checked yet").by_hand(once));
    };
    let is_old = Schedule::of(watch).is_ok_and(|schedule| state.overdue(&schedule, now).is_some());
    Some(match last.kind {
        _ if is_old => DoctorLine::not_checkable(check, "its last check is too old").by_hand(once),
        VerdictKind::Ok | VerdictKind::Busy => {
            DoctorLine::passed(check, format!("it has reached {elsewhere} from its job"))
        }
        VerdictKind::Miss if last.message.contains("No route to host") => DoctorLine::failed(
            check,
            last.message.clone(),
            format!(
                "System Settings, Privacy & Security, Local Network: turn its program on; then: {restart}"
            ),
        ),
        _ => DoctorLine::not_checkable(check, format!("its last check: {}", last.message))
            .by_hand(once),
    })
}

fn notifications(installation: &Installation) -> Option<DoctorLine> {
    let fleet = &installation.fleet;
    let agents = fleet.agents_of(&installation.host);
    let is_desktop = |channel: &Label| {
        let section = fleet.alerts.get(channel);
        channel.as_str() == "desktop" && section.is_some_and(|section| section.url.is_none())
    };
    let uses = agents.iter().find_map(|(name, role)| match role {
        Role::Watch(watch) => watch.alert.iter().any(is_desktop).then_some(name),
        _ => None,
    })?;
    let why = format!(
        "{uses} alerts on this screen, and no system reports whether notifications are shown; send one and look"
    );
    let by_hand = match cfg!(target_os = "macos") {
        true => {
            "osascript -e 'display notification \"This is a test.\" with title \"Sanctum\" sound name \"Submarine\"'"
        }
        false => "notify-send Sanctum 'This is a test.'",
    };
    Some(DoctorLine::not_checkable("notifications", why).by_hand(by_hand))
}
