//! Recording today's answers: shown first, blessed by somebody, written then.

use std::io::{BufRead, Write};

use chrono::Utc;
use sanctum_watch::Setting;

use crate::recorded::Recorded;
use crate::spec::Spec;
use crate::{Compare, Parity, ask};

/// Who says that today's answers are right.
pub enum Consent {
    /// It was said on the command line.
    Given,
    /// Somebody can be asked.
    Ask(Box<dyn BufRead>),
    /// Nobody is there.
    Impossible,
}

/// Asks all questions, shows how the answers differ from the recorded ones, and records them if that is agreed to.
///
/// # Errors
/// If the server cannot be asked, its answers do not even fit the spec, nobody agrees, or the file cannot be written.
pub async fn record(
    setting: &Setting,
    consent: Consent,
    out: &mut dyn Write,
    prompt: &mut dyn Write,
) -> Result<(), String> {
    let parity = Parity::new(setting, Compare::Spec)?;
    let path = Recorded::path(&setting.home, &setting.name);
    let before = Recorded::read(&path).map_err(|error| error.to_string())?;
    let spec = Spec::read(&parity.spec).map_err(|error| error.to_string())?;
    let replies = ask::all(&parity.watched, &spec)
        .await
        .map_err(|report| report.verdict.said)?;
    let outcomes = parity.judge(&spec, &replies)?;
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    let mut say = |line: String| writeln!(out, "{line}").map_err(|error| error.to_string());
    for outcome in &failed {
        say(format!("not as the spec expects: {outcome}"))?;
    }
    let refused = failed.iter().any(|outcome| outcome.refused.is_some());
    if refused || failed.len() > parity.max_failures {
        return Err(format!(
            "nothing is recorded: {} of {} answers are not what {} expects; mend the server, or the spec",
            failed.len(),
            outcomes.len(),
            parity.spec.display()
        ));
    }
    let today = Recorded::of(&parity.watched, &spec, &replies, Utc::now());
    let nothing = Recorded {
        answers: Default::default(),
        ..today.clone()
    };
    let differences = before.as_ref().unwrap_or(&nothing).differences(&today);
    if let (Some(before), true) = (&before, differences.is_empty()) {
        return say(format!(
            "nothing to record: all {} answers are those of {}",
            today.answers.len(),
            before.time.format("%Y-%m-%d %H:%M UTC")
        ));
    }
    for difference in &differences {
        say(difference.to_string())?;
    }
    agreed(consent, differences.len(), prompt)?;
    today.write(&path).map_err(|error| error.to_string())?;
    say(format!(
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
                "nothing is recorded: nobody can be asked here; look at the difference, then add --yes"
                    .to_owned(),
            );
        }
        Consent::Ask(from) => from,
    };
    let asked = write!(
        prompt,
        "Are these {differences} right, and to be recorded? [y/N] "
    )
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
