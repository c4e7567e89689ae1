//! Records today's answers: shows the differences, asks, writes.

use std::io::{BufRead, Write};

use chrono::Utc;
use sanctum_watch::WatchdogConfig;

use crate::ask;
use crate::check::{Compare, Parity};
use crate::recorded_answers::RecordedAnswers;
use crate::spec::Spec;

/// The operator's consent to recording today's answers.
pub enum Consent {
    /// Given on the command line.
    Given,
    /// To be read from here.
    Ask(Box<dyn BufRead>),
    /// There is no terminal.
    Impossible,
}

/// Asks all questions, shows how the answers differ from the recorded ones, and records them with the operator's consent.
///
/// # Errors
/// If the server gives no answers, they do not satisfy the spec, there is no consent, or the file cannot be written.
pub async fn record(
    config: &WatchdogConfig,
    consent: Consent,
    out: &mut dyn Write,
    prompt: &mut dyn Write,
) -> Result<(), String> {
    let parity = Parity::new(config, Compare::Spec)?;
    let path = RecordedAnswers::path(&config.home, &config.name);
    let before = RecordedAnswers::read(&path).map_err(|error| error.to_string())?;
    let spec = Spec::read(&parity.spec).map_err(|error| error.to_string())?;
    let replies = ask::all(&parity.watched, &spec).await;
    let (replies, _) = replies.map_err(|verdict| verdict.message)?;
    let outcomes = parity.judge(&spec, &replies)?;
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    let mut print = |line: String| writeln!(out, "{line}").map_err(|error| error.to_string());
    for outcome in &failed {
        print(format!("fails the spec: {outcome}"))?;
    }
    let rejected = failed.iter().any(|outcome| outcome.refused.is_some());
    if rejected || failed.len() > parity.max_failures {
        return Err(format!(
            "nothing is recorded: {} of {} answers do not satisfy {}; fix the server or the spec",
            failed.len(),
            outcomes.len(),
            parity.spec.display()
        ));
    }
    let today = RecordedAnswers::of(&parity.watched, &spec, &replies, Utc::now());
    let nothing = RecordedAnswers {
        answers: Default::default(),
        ..today.clone()
    };
    let differences = before.as_ref().unwrap_or(&nothing).differences(&today);
    if let (Some(before), true) = (&before, differences.is_empty()) {
        return print(format!(
            "nothing to record: all {} answers are those of {}",
            today.answers.len(),
            before.time.format("%Y-%m-%d %H:%M UTC")
        ));
    }
    for difference in &differences {
        print(difference.to_string())?;
    }
    agreed(consent, differences.len(), prompt)?;
    today.write(&path).map_err(|error| error.to_string())?;
    print(format!(
        "recorded {} answers in {}",
        today.answers.len(),
        path.display()
    ))
}

fn agreed(consent: Consent, differences: usize, prompt: &mut dyn Write) -> Result<(), String> {
    let mut from = match consent {
        Consent::Given => return Ok(()),
        Consent::Impossible => {
            return Err(
                "nothing is recorded: there is no terminal for the confirmation; check the differences, then add --yes"
                    .to_owned(),
            );
        }
        Consent::Ask(from) => from,
    };
    let asked = write!(prompt, "Record these {differences} differences? [y/N] ")
        .and_then(|()| prompt.flush());
    asked.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    from.read_line(&mut answer)
        .map_err(|error| error.to_string())?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err("nothing is recorded".to_owned()),
    }
}
