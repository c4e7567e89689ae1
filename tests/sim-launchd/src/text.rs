//! The output of `launchctl`, in the form of public transcripts.

use std::collections::BTreeMap;

use crate::job::{Job, KeepAlive};
use crate::wire::Status;

/// `print gui/<uid>/<label>`.
pub fn service(
    domain: &str,
    job: &Job,
    status: &Status,
    session: &BTreeMap<String, String>,
) -> String {
    let mut text = format!("{domain}/{} = {{\n", job.label);
    let mut line = |name: &str, value: String| text.push_str(&format!("\t{name} = {value}\n"));
    line("active count", u8::from(status.pid.is_some()).to_string());
    line("path", job.path.display().to_string());
    line("type", "LaunchAgent".into());
    line("state", state(status).into());
    text.push('\n');
    let mut line = |name: &str, value: String| text.push_str(&format!("\t{name} = {value}\n"));
    line("program", job.program.display().to_string());
    text.push_str(&block("arguments", job.arguments.iter().cloned()));
    let mut line = |name: &str, path: &Option<std::path::PathBuf>| {
        if let Some(path) = path {
            text.push_str(&format!("\t{name} = {}\n", path.display()));
        }
    };
    line("working directory", &job.folder);
    line("stdout path", &job.out);
    line("stderr path", &job.err);
    let pairs = |map: &BTreeMap<String, String>| -> Vec<String> {
        map.iter()
            .map(|(name, value)| format!("{name} => {value}"))
            .collect()
    };
    if !session.is_empty() {
        text.push_str(&block("inherited environment", pairs(session)));
    }
    let usual = ["PATH => /usr/bin:/bin:/usr/sbin:/sbin".to_owned()];
    text.push_str(&block("default environment", usual));
    let mut own = pairs(&job.environment);
    own.push(format!("XPC_SERVICE_NAME => {}", job.label));
    text.push_str(&block("environment", own));
    let mut line = |name: &str, value: String| text.push_str(&format!("\t{name} = {value}\n"));
    line("domain", format!("{domain} [100005]"));
    line("minimum runtime", job.throttle.as_secs().to_string());
    line("exit timeout", job.exit_timeout.as_secs().to_string());
    line("runs", status.runs.to_string());
    if let Some(pid) = status.pid {
        line("pid", pid.to_string());
        line("immediate reason", "speculative".into());
    }
    match (status.last_code, status.last_signal) {
        (_, Some(signal)) => line("last terminating signal", signal_text(signal)),
        (Some(78), None) => line("last exit code", "78: EX_CONFIG".into()),
        (Some(code), None) => line("last exit code", code.to_string()),
        (None, None) => line("last exit code", "(never exited)".into()),
    }
    let mut properties = Vec::new();
    if job.keep_alive == KeepAlive::Always {
        properties.push("keepalive");
    }
    if job.run_at_load {
        properties.push("runatload");
    }
    properties.push("inferred program");
    text.push_str(&format!(
        "\n\tproperties = {}\n}}\n",
        properties.join(" | ")
    ));
    text
}

fn state(status: &Status) -> &'static str {
    match (status.pid, status.scheduled) {
        (Some(_), _) if status.leaving => "SIGTERMed",
        (Some(_), _) => "running",
        (None, true) => "spawn scheduled",
        (None, false) => "not running",
    }
}

fn signal_text(signal: i32) -> String {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        6 => "Abort trap",
        9 => "Killed",
        11 => "Segmentation fault",
        15 => "Terminated",
        _ => "Signal",
    };
    format!("{name}: {signal}")
}

fn block(name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines: String = lines
        .into_iter()
        .map(|line| format!("\t\t{line}\n"))
        .collect();
    format!("\t{name} = {{\n{lines}\t}}\n\n")
}

/// `print gui/<uid>`, with its services only.
pub fn domain(domain: &str, services: impl Iterator<Item = Status>) -> String {
    let lines: String = services
        .map(|service| {
            let last = last(&service);
            format!(
                "\t\t{:>8} {last:>6} \t{}\n",
                service.pid.unwrap_or(0),
                service.label
            )
        })
        .collect();
    format!("{domain} = {{\n\ttype = login\n\n\tservices = {{\n{lines}\t}}\n}}\n")
}

/// `print-disabled gui/<uid>`.
pub fn disabled(overrides: &BTreeMap<String, bool>) -> String {
    let lines: String = overrides
        .iter()
        .map(|(label, disabled)| {
            let word = if *disabled { "disabled" } else { "enabled" };
            format!("\t\t\"{label}\" => {word}\n")
        })
        .collect();
    format!("\n\tdisabled services = {{\n{lines}\t}}\n\n\tlogin item associations = {{\n\t}}\n")
}

/// `list`.
pub fn list(services: impl Iterator<Item = Status>) -> String {
    let lines = services.map(|service| {
        let pid = service.pid.map_or("-".to_owned(), |pid| pid.to_string());
        format!("{pid}\t{}\t{}\n", last(&service), service.label)
    });
    std::iter::once("PID\tStatus\tLabel\n".to_owned())
        .chain(lines)
        .collect()
}

/// The last exit code, or the signal as a negative number.
fn last(service: &Status) -> i32 {
    let signal = service.last_signal.map(|signal| -signal);
    signal.or(service.last_code).unwrap_or(0)
}

/// `list <label>`.
pub fn listed(job: &Job, status: &Status) -> String {
    // The raw status of wait(2): the code in the second byte, the signal in the first.
    let raw = status.last_signal.unwrap_or(0) | (status.last_code.unwrap_or(0) << 8);
    let mut text = String::from("{\n");
    let mut line = |name: &str, value: String| text.push_str(&format!("\t\"{name}\" = {value};\n"));
    if let Some(path) = &job.out {
        line("StandardOutPath", format!("\"{}\"", path.display()));
    }
    line("LimitLoadToSessionType", "\"Aqua\"".into());
    if let Some(path) = &job.err {
        line("StandardErrorPath", format!("\"{}\"", path.display()));
    }
    line("Label", format!("\"{}\"", job.label));
    line(
        "OnDemand",
        (job.keep_alive != KeepAlive::Always).to_string(),
    );
    line("LastExitStatus", raw.to_string());
    if let Some(pid) = status.pid {
        line("PID", pid.to_string());
    }
    line("Program", format!("\"{}\"", job.program.display()));
    let arguments: String = job
        .arguments
        .iter()
        .map(|word| format!("\t\t\"{word}\";\n"))
        .collect();
    text.push_str(&format!(
        "\t\"ProgramArguments\" = (\n{arguments}\t);\n}};\n"
    ));
    text
}
