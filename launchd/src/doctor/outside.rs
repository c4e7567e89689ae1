//! The checks of a host from another one, which is this host.

use chrono::{DateTime, Utc};
use sanctum_client::{Credentials, ServerEndpoint};
use sanctum_config::fleet::Server;
use sanctum_config::{Fleet, Label};
use sanctum_host::remote_files::is_refusal;
use sanctum_host::{Installation, StoppedAgents, ssh};

use super::report::{DoctorLine, DoctorReport};
use crate::server_probe::{STATE_LIMIT, ServerProbe, ServerState};
use crate::test_question::{AnswerError, test_question};

/// Clocks may differ by so many seconds: certificates and alerts have times.
const CLOCK: i64 = 30;

/// What this host, `here`, finds about `host`.
pub(crate) fn check_from_here(
    installation: &Installation,
    here: &Label,
    host: &Label,
) -> Vec<DoctorLine> {
    let fleet = &installation.fleet;
    let mut lines = Vec::new();
    if let Some(destination) = fleet.hosts[host].ssh.as_deref() {
        lines.extend(over_ssh(destination));
    }
    for (name, server) in &fleet.servers {
        if server.host == *host {
            lines.extend(reached(installation, here, name, server));
        }
    }
    lines
}

/// The hosts that watch a server of `host` and that can be asked over ssh, with their destinations.
pub(crate) fn watchers_elsewhere<'a>(
    fleet: &'a Fleet,
    host: &'a Label,
) -> impl Iterator<Item = (&'a Label, &'a str)> {
    let watches = move |other: &Label| {
        fleet.watch.iter().any(|(name, watch)| {
            let target = fleet.watched_server(watch);
            fleet.host_of(name) == Some(other)
                && target.and_then(|target| fleet.host_of(target)) == Some(host)
        })
    };
    fleet
        .hosts
        .iter()
        .filter(move |(other, _)| *other != host && watches(other))
        .filter_map(|(other, section)| Some((other, section.ssh.as_deref()?)))
}

/// What the host at `destination` finds about the host of `installation`, which is this one.
///
/// # Errors
/// Why it cannot be asked.
pub(crate) fn ask_from_outside(
    installation: &Installation,
    destination: &str,
) -> Result<Vec<DoctorLine>, String> {
    ssh::check_answers(destination)?;
    let command = format!("doctor --outside --host {}", installation.host);
    let answer = ssh::ask_launchd(&installation.fleet, destination, &command)?;
    let lines = answer["sections"][0]["lines"].clone();
    serde_json::from_value(lines)
        .map_err(|error| format!("its sanctum-launchd is of another version: {error}"))
}

/// Whether ssh works without a prompt, and whether the clocks agree.
fn over_ssh(destination: &str) -> Vec<DoctorLine> {
    const LINE: &str = "date -u +%s";
    let by_hand = ssh::by_hand(destination, LINE);
    let before = Utc::now();
    let output = match ssh::run(destination, LINE, ssh::SHORT_LIMIT) {
        Ok(output) => output,
        Err(error) => return vec![no_ssh(destination, &error.to_string())],
    };
    let after = Utc::now();
    if !output.succeeded() {
        let reason = output.reason();
        return vec![match output.code {
            Some(ssh::FAILED) => no_ssh(destination, &reason),
            // ssh has connected.
            _ => DoctorLine::failed(
                "ssh",
                format!("it connects, and the shell there fails: {reason}"),
                format!("{by_hand}, then correct that shell's start-up files"),
            ),
        }];
    }
    let ssh = DoctorLine::passed("ssh", format!("{destination} answers without a prompt"));
    // A login shell may have printed something before it.
    let there = output
        .stdout
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok());
    let clock = match there.and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
        Some(there) => clock(there, before, after),
        None => DoctorLine::not_checkable("clock", "`date -u +%s` printed no number there"),
    };
    vec![ssh, clock]
}

fn no_ssh(destination: &str, reason: &str) -> DoctorLine {
    let fix = match is_refusal(reason) {
        _ if reason.contains("Host key verification failed") => format!(
            "compare that host's key with the one that it shows, and accept it in a terminal: ssh {destination} true. If the key \
             has changed without a reason, do not"
        ),
        true => format!("ssh-copy-id {destination}, then: ssh {destination} true"),
        false => format!("is that host on, and does its sshd run? Try: ssh {destination} true"),
    };
    DoctorLine::failed("ssh", reason, fix)
}

/// The other clock was read between `before` and `after`.
fn clock(there: DateTime<Utc>, before: DateTime<Utc>, after: DateTime<Utc>) -> DoctorLine {
    let difference = match there {
        there if there < before => (before - there).num_seconds(),
        there if there > after => (there - after).num_seconds(),
        _ => 0,
    };
    match difference {
        0..=CLOCK => DoctorLine::passed("clock", "it agrees with this host's"),
        seconds => DoctorLine::failed(
            "clock",
            format!("it differs from this host's by {seconds} s"),
            "turn on the automatic time on both hosts (macOS: System Settings, General, Date & Time)",
        ),
    }
}

/// Whether a server of that host is reached and answers: the port, the firewalls, the certificates and the token.
fn reached(
    installation: &Installation,
    here: &Label,
    name: &Label,
    server: &Server,
) -> Vec<DoctorLine> {
    let Installation {
        fleet, file, home, ..
    } = installation;
    let port = format!("port of {name}");
    let mut listeners = server.listen.iter().chain(&server.tls_listen);
    if listeners.all(|address| address.ip().is_loopback()) {
        return vec![DoctorLine::passed(
            port,
            "it listens on loopback only, so no other host has to reach it",
        )];
    }
    let host = &server.host;
    if StoppedAgents::read(&home.stopped()).is_ok_and(|all| all.contains(name)) {
        let start = installation.typed(&format!("start {name} --host {host}"));
        return vec![
            DoctorLine::not_checkable(port, format!("{name} is stopped on purpose")).by_hand(start),
        ];
    }
    let probe = match ServerProbe::from_host(fleet, file, home, here, name) {
        Ok(probe) => probe,
        Err(reason) => return vec![DoctorLine::not_checkable(port, reason)],
    };
    let base = probe.endpoint().base.clone();
    let state = probe.state(STATE_LIMIT);
    if let ServerState::NoAnswer(reason) = &state {
        let line = DoctorLine::failed(port, reason.clone(), unreachable(host, name, reason));
        return vec![line.with_down([name.clone()])];
    }
    let mut lines = vec![DoctorLine::passed(
        port,
        format!("{base} is reached; the server is {state}"),
    )];
    if state != ServerState::Ready {
        return lines;
    }
    let check = match probe.endpoint().credentials {
        Credentials::Mutual { .. } => format!("certificate for {name}"),
        Credentials::Bearer(_) => format!("token for {name}"),
        Credentials::None => format!("answer of {name}"),
    };
    lines.push(match test_question(fleet, name).ask(&probe, STATE_LIMIT) {
        Ok(took) => DoctorLine::passed(
            check,
            format!(
                "it is accepted, and the answer is right (after {:.1} s)",
                took.as_secs_f64()
            ),
        ),
        Err(AnswerError::NoAnswer(reason)) => DoctorLine::failed(
            check,
            reason,
            installation.typed(&format!("logs {name} --host {host}")),
        ),
        Err(wrong) => DoctorLine::failed(
            check,
            wrong.to_string(),
            installation.typed(&format!("verify --host {host}")),
        ),
    });
    lines.extend(token(installation, probe.endpoint(), name, server));
    lines
}

/// What to do about a server that is not reached.
fn unreachable(host: &Label, name: &Label, reason: &str) -> String {
    let on = |command: &str| format!("on {host}: sanctum-launchd {command}");
    let reason = reason.to_ascii_lowercase();
    if reason.contains("no route to host") {
        return "System Settings, Privacy & Security, Local Network: turn the program on; else the host is off".to_owned();
    }
    if reason.contains("refused") {
        return on(&format!("logs {name}"));
    }
    if reason.contains("certificate") || reason.contains("credentials") {
        return format!(
            "on the CA's host: sanctum-pki --config fleet.toml bundle {host}; sanctum-launchd push {host} --config fleet.toml"
        );
    }
    // A firewall drops packets: there is no answer at all.
    on("doctor (its line `firewall` has the fix)")
}

/// The token of a server that has a plain listener for other hosts, where a certificate was used before.
fn token(
    installation: &Installation,
    endpoint: &ServerEndpoint,
    name: &Label,
    server: &Server,
) -> Option<DoctorLine> {
    let path = server
        .auth
        .token_file
        .as_ref()?
        .beside(&installation.file)
        .ok()?;
    let base = endpoint.plain.clone()?;
    if !matches!(endpoint.credentials, Credentials::Mutual { .. }) || !path.exists() {
        return None;
    }
    let probe = ServerProbe::to(ServerEndpoint {
        base,
        credentials: Credentials::Bearer(path),
        ..endpoint.clone()
    });
    let check = format!("token for {name}");
    Some(match probe.models() {
        Ok(()) => DoctorLine::passed(check, "it is accepted"),
        Err(error) => DoctorLine::failed(
            check,
            error.to_string(),
            format!("sanctum-pki token {name}, then copy it to both hosts"),
        ),
    })
}

/// Whether the installed releases are equal.
pub(crate) fn versions(here: &Label, release: Option<&str>, there: &DoctorReport) -> DoctorLine {
    let (check, host) = ("versions", &there.host);
    match (release, there.release.as_deref()) {
        (Some(ours), Some(theirs)) if ours == theirs => {
            DoctorLine::passed(check, format!("{here} and {host} have release {ours}"))
        }
        (Some(ours), Some(theirs)) => DoctorLine::failed(
            check,
            format!("{here} has release {ours}, and {host} has {theirs}"),
            format!(
                "sanctum-launchd push {host} --release FOLDER prints the command that upgrades it"
            ),
        ),
        (None, _) => DoctorLine::not_checkable(check, format!("nothing is installed on {here}")),
        (_, None) => DoctorLine::not_checkable(check, format!("nothing is installed on {host}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::DoctorOutcome;
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn clocks_agree_if_the_other_one_was_read_in_between() {
        let before = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        let after = before + TimeDelta::seconds(20);
        for (there, outcome) in [
            (0, DoctorOutcome::Passed),
            (20, DoctorOutcome::Passed),
            (-30, DoctorOutcome::Passed),
            (-31, DoctorOutcome::Failed),
            (51, DoctorOutcome::Failed),
        ] {
            let line = clock(before + TimeDelta::seconds(there), before, after);
            assert_eq!(line.outcome, outcome, "{there}: {line}");
        }
        let line = clock(before - TimeDelta::hours(1), before, after);
        assert!(line.detail.contains("by 3600 s"), "{line}");
    }

    #[test]
    fn fix_follows_from_the_reason() {
        let [host, name] = ["mini", "server"].map(|name| name.parse::<Label>().unwrap());
        for (reason, fix) in [
            ("No route to host (os error 65)", "Local Network"),
            ("Connection refused", "logs server"),
            ("invalid peer certificate: Expired", "sanctum-pki"),
            ("no connection within 5 s", "firewall"),
        ] {
            let found = unreachable(&host, &name, reason);
            assert!(found.contains(fix), "{reason}: {found}");
        }
    }
}
