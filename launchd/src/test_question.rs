//! A question whose answer shows whether a server works: the canary's, else a default one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use sanctum_config::{Fleet, Label, UntrustedText};

use crate::server_probe::ServerProbe;
use crate::wait::Wait;

/// A question and what its answer must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestQuestion {
    text: String,
    expect: String,
}

/// The question of the canary that watches this server, else the default one.
pub(crate) fn test_question(fleet: &Fleet, server: &Label) -> TestQuestion {
    let canary = fleet.watch.iter().find(|(name, watch)| {
        watch.check(name).as_str() == "canary" && fleet.watched_server(watch) == Some(server)
    });
    let of = |pick: fn(&sanctum_config::fleet::Watch) -> &Option<String>| {
        canary.and_then(|(_, watch)| pick(watch).clone())
    };
    match (of(|watch| &watch.question), of(|watch| &watch.expect)) {
        (Some(text), Some(expect)) => TestQuestion { text, expect },
        _ => TestQuestion {
            text: "What is 2+2? Respond with only the number.".to_owned(),
            expect: "4".to_owned(),
        },
    }
}

impl TestQuestion {
    /// Asks it once, and returns how long the answer took, which is `limit` at most.
    ///
    /// # Errors
    /// If there is no answer, or it does not contain the expected text.
    pub(crate) fn ask(
        &self,
        probe: &ServerProbe,
        limit: Duration,
    ) -> Result<Duration, AnswerError> {
        let begun = Instant::now();
        let answer = probe
            .chat(&self.text, limit)
            .map_err(|error| AnswerError::NoAnswer(error.to_string()))?;
        if sanctum_client::contains_answer(&answer, &self.expect) {
            return Ok(begun.elapsed());
        }
        Err(AnswerError::Wrong {
            asked: self.text.clone(),
            answer: UntrustedText::bounded(answer.trim(), 120).into(),
            expected: self.expect.clone(),
        })
    }

    /// Asks it, and again if there was no answer: right after a start a server may be busy with clients that waited for it.
    /// All attempts end with `wait`.
    ///
    /// # Errors
    /// As [`TestQuestion::ask`].
    pub(crate) fn ask_with_retries(
        &self,
        probe: &ServerProbe,
        wait: &Wait,
    ) -> Result<Duration, AnswerError> {
        const ATTEMPTS: usize = 3;
        const PAUSE: Duration = Duration::from_secs(2);
        wait.show("waiting for an answer");
        for _ in 1..ATTEMPTS {
            match self.ask(probe, wait.left()) {
                Err(AnswerError::NoAnswer(_)) if wait.left() > PAUSE => sleep(PAUSE),
                other => return other,
            }
        }
        self.ask(probe, wait.left())
    }
}

/// Why a question was not answered correctly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// There is no answer, for this reason.
    #[error("{0}")]
    NoAnswer(String),
    /// The answer does not contain the expected text.
    #[error("asked \"{asked}\", it answered \"{answer}\"; \"{expected}\" was expected")]
    Wrong {
        /// The question.
        asked: String,
        /// The beginning of the answer.
        answer: String,
        /// The expected text.
        expected: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_question_is_the_canarys_of_that_server() {
        let head = "[servers.a]\nhost = \"m\"\n[servers.b]\nhost = \"m\"\nlisten = [\"127.0.0.1:1\"]\n[hosts.m]\naddress = \"m\"\n";
        let watch = "[watch.eye]\ncheck = \"canary\"\ntarget = \"b\"\nquestion = \"Capital of France?\"\nexpect = \"Paris\"\n";
        let fleet = Fleet::parse(&format!("{head}{watch}"), "fleet.toml".as_ref()).unwrap();
        let of = |server: &str| test_question(&fleet, &server.parse().unwrap()).expect;
        assert_eq!((of("a").as_str(), of("b").as_str()), ("4", "Paris"));
    }

    #[test]
    fn test_question_of_the_only_server_is_from_a_canary_without_target() {
        let text = "[hosts.m]\naddress = \"m\"\n[servers.a]\nhost = \"m\"\n\
                    [watch.canary]\nquestion = \"Capital of France?\"\nexpect = \"Paris\"\n";
        let fleet = Fleet::parse(text, "fleet.toml".as_ref()).unwrap();
        assert_eq!(test_question(&fleet, &"a".parse().unwrap()).expect, "Paris");
    }
}
