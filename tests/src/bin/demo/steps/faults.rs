//! Faults of the server and of its host, and what the watchdogs do about them.

use sanctum_tests::host::request;
use sanctum_tests::receiver::field;
use sanctum_tests::{SCALES, WeightByte};
use serde_json::{Value, json};

use crate::screen::Shown;
use crate::tour::{StepFailure, Tour};

/// The canary's default question.
const QUESTION: &str = "What is 2+2? Respond with only the number.";

/// SIGKILL: launchd starts the server again.
pub(super) fn kill(tour: &Tour) -> Result<String, StepFailure> {
    let mini = tour.fleet.mini.name;
    let (pid, restarts) = (tour.server()?, tour.fleet.mini.restarts());
    tour.command(&format!("ssh {mini} kill -KILL {pid}"), Shown::All, 0)?;
    let new = tour.server_after(pid)?;
    tour.all_well()?;
    match tour.fleet.mini.restarts() - restarts {
        0 => Ok(format!(
            "launchd has started it again: process {pid} became {new}. The guardian had nothing to do"
        )),
        more => Err(StepFailure::new(
            "launchd alone restarts the server",
            format!("{more} restarts by the guardian"),
        )),
    }
}

/// SIGSTOP: the process exists, so launchd does nothing; the guardian restarts it.
pub(super) fn freeze(tour: &Tour) -> Result<String, StepFailure> {
    let mini = tour.fleet.mini.name;
    let pid = tour.server()?;
    tour.command(&format!("ssh {mini} kill -STOP {pid}"), Shown::All, 0)?;
    let title = format!("server on {mini} was restarted");
    let alert = tour.alert("guardian", &title)?;
    if !field(&alert, "body").contains("launchctl kickstart -k") {
        return Err(StepFailure::new(
            "the alert names the restart",
            alert.to_string(),
        ));
    }
    let new = tour.server_after(pid)?;
    tour.alert("guardian", &format!("recovered: {title}"))?;
    tour.all_well()?;
    Ok(format!(
        "launchd sees a process and is content. The guardian has restarted it: process {pid} became {new}"
    ))
}

/// One bit of the weights flips, and the next start loads it.
pub(super) fn answer_wrong(tour: &Tour) -> Result<String, StepFailure> {
    let mini = &tour.fleet.mini;
    let name = mini.name;
    let restarts = mini.restarts();
    let byte = WeightByte::exponent(&mini.path("models/tiny"), SCALES)
        .map_err(|error| StepFailure::new("the model's weights can be read", error.to_string()))?;
    let write = |value: u8| {
        let (octal, at) = (format!("\\{value:03o}"), byte.offset);
        let file = "models/tiny/model.safetensors";
        format!(
            "ssh {name} \"printf '{octal}' | dd of={file} bs=1 seek={at} conv=notrunc 2>/dev/null\""
        )
    };
    tour.screen.note(&format!(
        "One bit of a weight flips on {name}'s disk, and the server loads it when it is restarted:"
    ));
    tour.command(&write(byte.flipped()), Shown::All, 0)?;
    let pid = tour.server()?;
    tour.command(&format!("ssh {name} kill -KILL {pid}"), Shown::All, 0)?;
    let title = format!("server on {name} fails its check");
    for canary in ["canary", "canary-offbox"] {
        let alert = tour.alert(canary, &title)?;
        if !field(&alert, "body").contains("instead of `4`") {
            return Err(StepFailure::new(
                "the alert has the wrong answer",
                alert.to_string(),
            ));
        }
    }
    if mini.restarts() > restarts {
        return Err(StepFailure::new(
            "the guardian restarts nothing",
            "a restart",
        ));
    }
    let wrong = ask(tour)?;
    tour.screen.note("The right byte again, and a restart:");
    tour.command(&write(byte.value), Shown::All, 0)?;
    let pid = tour.server()?;
    tour.command(&format!("ssh {name} kill -KILL {pid}"), Shown::All, 0)?;
    for canary in ["canary", "canary-offbox"] {
        tour.alert(canary, &format!("recovered: {title}"))?;
    }
    tour.all_well()?;
    Ok(format!(
        "it was alive all the time, and answered {wrong:?} to `{QUESTION}`. Both canaries noticed; a signed model would not have loaded"
    ))
}

/// Nothing on the host that serves can alert any more.
pub(super) fn cut_power(tour: &Tour) -> Result<String, StepFailure> {
    let (mini, studio) = (tour.fleet.mini.name, tour.fleet.studio.name);
    tour.screen.note(&format!(
        "{mini} loses its power: every process on it is gone."
    ));
    tour.fleet.mini.power_off();
    let title = format!("server on {mini} fails its check");
    let alert = tour.alert("canary-offbox", &title)?;
    if field(&alert, "host") != studio {
        return Err(StepFailure::new(
            format!("the alert comes from {studio}"),
            alert.to_string(),
        ));
    }
    tour.command("sanctum-launchd status", Shown::End(4), 1)?
        .says("No route to host")?;
    tour.screen
        .note(&format!("{mini} starts again, and its user is logged in:"));
    tour.fleet.mini.power_on();
    tour.alert("canary-offbox", &format!("recovered: {title}"))?;
    tour.all_well()?;
    Ok(format!(
        "only {studio} could notice; launchd has started all agents of {mini} at the login"
    ))
}

/// The answer of whatever serves, to the canary's question.
pub(super) fn ask(tour: &Tour) -> Result<String, StepFailure> {
    let message = json!({ "role": "user", "content": QUESTION });
    let body = json!({ "messages": [message], "temperature": 0, "max_tokens": 16 }).to_string();
    tour.wait("the server answers a question", || {
        let limit = std::time::Duration::from_secs(10);
        let port = tour.fleet.mini.port();
        let answer = request(port, "POST /v1/chat/completions", &body, limit);
        let (status, text) = answer.ok_or("no answer")?;
        let page: Value = serde_json::from_str(&text).unwrap_or_default();
        let content = page["choices"][0]["message"]["content"].as_str();
        content
            .map(|content| content.trim().to_owned())
            .ok_or_else(|| format!("{status}: {text}"))
    })
}
