//! What became of the requests.

use std::collections::BTreeSet;
use std::time::Duration;

use sanctum_tests::Answer;
use serde_json::Value;

/// The limit of a connection to an upstream, as it is by default, and what may come on top of it.
const LIMIT: Duration = Duration::from_millis(2050);

/// The head of the table.
pub(crate) const HEAD: &str = "\
| First upstream | Requests | Answered | Errors | No answer | Twice | Tried elsewhere | p50 | p99 | max |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

/// What became of one request.
#[derive(Debug, PartialEq)]
pub(crate) enum ClientOutcome {
    /// It was answered.
    Answered {
        /// The answer's own id.
        id: String,
        /// How long it took, if the first upstream was asked before the second answered.
        elsewhere: Option<Duration>,
    },
    /// It got an error that says why.
    Refused,
    /// It got neither.
    Unanswered,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    requests: usize,
    answered: usize,
    refused: usize,
    unanswered: usize,
    ids: BTreeSet<String>,
    elsewhere: Vec<Duration>,
}

impl ClientOutcome {
    /// `was_open`: nothing was sent to the first upstream at that time.
    pub(crate) fn of(
        answer: Option<&Answer>,
        took: Duration,
        second: &str,
        was_open: bool,
    ) -> Self {
        let Some(answer) = answer else {
            return Self::Unanswered;
        };
        let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let choices = body["choices"].as_array().map(Vec::len);
        match (answer.status, body["id"].as_str(), choices) {
            (200, Some(id), Some(1)) => Self::Answered {
                id: id.to_owned(),
                elsewhere: answer
                    .headers
                    .get("sanctum-served-by")
                    .is_some_and(|name| name == second && !was_open)
                    .then_some(took),
            },
            (429 | 502 | 503, ..) if body["error"]["message"].is_string() => Self::Refused,
            _ => Self::Unanswered,
        }
    }
}

impl FromIterator<ClientOutcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = ClientOutcome>>(all: I) -> Self {
        let mut outcomes = Self::default();
        for one in all {
            outcomes.requests += 1;
            match one {
                ClientOutcome::Answered { id, elsewhere } => {
                    outcomes.answered += 1;
                    outcomes.ids.insert(id);
                    outcomes.elsewhere.extend(elsewhere);
                }
                ClientOutcome::Refused => outcomes.refused += 1,
                ClientOutcome::Unanswered => outcomes.unanswered += 1,
            }
        }
        outcomes.elsewhere.sort();
        outcomes
    }
}

impl Outcomes {
    /// Answers that two requests have got.
    fn twice(&self) -> usize {
        self.answered - self.ids.len()
    }

    /// The row of the table.
    pub(crate) fn row(&self, fault: &str) -> String {
        let at = |share: f64| {
            let last = self.elsewhere.len().checked_sub(1);
            last.map_or("".to_owned(), |last| {
                let time = self.elsewhere[(last as f64 * share).round() as usize];
                format!("{} ms", time.as_millis())
            })
        };
        format!(
            "| {fault} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.requests,
            self.answered,
            self.refused,
            self.unanswered,
            self.twice(),
            self.elsewhere.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }

    /// What must not be.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.unanswered > 0 {
            problems.push(format!(
                "{} requests without an answer or a reason",
                self.unanswered
            ));
        }
        if self.twice() > 0 {
            problems.push(format!(
                "{} answers were sent to two requests",
                self.twice()
            ));
        }
        if let Some(longest) = self.elsewhere.last().filter(|longest| **longest > LIMIT) {
            problems.push(format!(
                "a request that was tried elsewhere took {} ms, more than {} ms",
                longest.as_millis(),
                LIMIT.as_millis()
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, text: &str, by: &'static str) -> Answer {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("sanctum-served-by", by.parse().unwrap());
        Answer {
            status,
            headers,
            text: text.to_owned(),
        }
    }

    #[test]
    fn outcomes_are_counted_and_limits_are_checked() {
        let whole = r#"{"id":"a","choices":[{}]}"#;
        let of = |answer: Option<&Answer>, seconds: u64, was_open: bool| {
            ClientOutcome::of(answer, Duration::from_secs(seconds), "second", was_open)
        };
        let second = answer(200, whole, "second");
        let outcomes: Outcomes = [
            of(Some(&second), 1, false),
            of(Some(&second), 3, false),
            of(
                Some(&answer(200, r#"{"id":"b","choices":[{}]}"#, "second")),
                9,
                true,
            ),
            of(
                Some(&answer(503, r#"{"error":{"message":"gone"}}"#, "")),
                1,
                false,
            ),
            of(Some(&answer(200, "{}", "second")), 1, false),
            of(None, 1, false),
        ]
        .into_iter()
        .collect();
        let row = outcomes.row("x");
        assert_eq!(
            row,
            "| x | 6 | 3 | 1 | 2 | 1 | 2 | 3000 ms | 3000 ms | 3000 ms |"
        );
        assert_eq!(outcomes.problems().len(), 3);
    }
}
