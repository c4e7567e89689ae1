//! A question whose answer shows whether a server does: the canary's, else the usual one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use sanctum_config::{Fleet, Label, UntrustedText};

use crate::ask::Door;
use crate::wait::Wait;

/// A question and what its answer must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// What the answer must contain.
    pub expect: String,
}

/// The question of the canary that watches this server, else the usual one.
pub fn question(fleet: &Fleet, server: &Label) -> Question {
    let canary = fleet.watch.iter().find(|(name, watch)| {
        watch.check(name).as_str() == "canary" && fleet.watched_server(watch) == Some(server)
    });
    let of = |pick: fn(&sanctum_config::fleet::Watch) -> &Option<String>| {
        canary.and_then(|(_, watch)| pick(watch).clone())
    };
    match (of(|watch| &watch.question), of(|watch| &watch.expect)) {
        (Some(text), Some(expect)) => Question { text, expect },
        _ => Question {
            text: "What is 2+2? Respond with only the number.".to_owned(),
            expect: "4".to_owned(),
        },
    }
}

impl Question {
    /// Asks it, and waits for `limit` at most.
    ///
    /// # Errors
    /// If there is no answer, or it does not contain what it must.
    pub fn ask(&self, door: &Door, limit: Duration) -> Result<Duration, NotRight> {
        let begun = Instant::now();
        let answer = door
            .chat(&self.text, limit)
            .map_err(|error| NotRight::Silent(error.to_string()))?;
        if sanctum_client::contains_answer(&answer, &self.expect) {
            return Ok(begun.elapsed());
        }
        Err(NotRight::Wrong {
            asked: self.text.clone(),
            answer: UntrustedText::bounded(answer.trim(), 120).into(),
            expected: self.expect.clone(),
        })
    }

    /// Asks it, and again where there was no answer: right after a start a server may be busy with clients that waited for
    /// it. All of it ends with `wait`.
    ///
    /// # Errors
    /// As [`Question::ask`].
    pub fn ask_patiently(&self, door: &Door, wait: &Wait) -> Result<Duration, NotRight> {
        const TIMES: usize = 3;
        const PAUSE: Duration = Duration::from_secs(2);
        wait.show("waiting for an answer");
        for _ in 1..TIMES {
            match self.ask(door, wait.left()) {
                Err(NotRight::Silent(_)) if wait.left() > PAUSE => sleep(PAUSE),
                other => return other,
            }
        }
        self.ask(door, wait.left())
    }
}

/// Why an answer is not right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRight {
    /// There is none.
    #[error("{0}")]
    Silent(String),
    /// It does not contain what it must.
    #[error("asked \"{asked}\" it answered \"{answer}\", and \"{expected}\" was expected")]
    Wrong {
        /// The question.
        asked: String,
        /// The beginning of the answer.
        answer: String,
        /// What it must contain.
        expected: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_s_question_is_asked_where_there_is_one() {
        let head = "[servers.a]\nhost = \"m\"\n[servers.b]\nhost = \"m\"\nlisten = [\"127.0.0.1:1\"]\n[hosts.m]\naddress = \"m\"\n";
        let watch = "[watch.eye]\ncheck = \"canary\"\ntarget = \"b\"\nquestion = \"Capital of France?\"\nexpect = \"Paris\"\n";
        let fleet = Fleet::parse(&format!("{head}{watch}"), "fleet.toml".as_ref()).unwrap();
        let of = |server: &str| question(&fleet, &server.parse().unwrap()).expect;
        assert_eq!((of("a").as_str(), of("b").as_str()), ("4", "Paris"));
    }

    #[test]
    fn canary_without_target_asks_the_only_server() {
        let text = "[hosts.m]\naddress = \"m\"\n[servers.a]\nhost = \"m\"\n\
                    [watch.canary]\nquestion = \"Capital of France?\"\nexpect = \"Paris\"\n";
        let fleet = Fleet::parse(text, "fleet.toml".as_ref()).unwrap();
        assert_eq!(question(&fleet, &"a".parse().unwrap()).expect, "Paris");
    }
}
