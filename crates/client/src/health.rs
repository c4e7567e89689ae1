//! The page that `GET /health` of a Sanctum server returns.

use std::time::Duration;

use sanctum_config::UntrustedText;
use serde::{Deserialize, Serialize};

/// The page: all models together, and each of them if there are several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Health {
    /// `ok`, `loading` or `draining`.
    pub status: String,
    /// All models together.
    #[serde(flatten)]
    pub together: HeartbeatReading,
    #[serde(default)]
    models: Vec<ModelHeartbeat>,
    /// Models that other servers have.
    #[serde(default)]
    fronts: Vec<FrontReading>,
    /// Requests that no engine has yet; older servers do not report them.
    #[serde(default)]
    preparing: Option<Preparing>,
    /// Older servers do not report it.
    #[serde(default)]
    prefix_cache: PrefixCacheReading,
}

/// Whether computed prefixes of prompts are reused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PrefixCacheReading {
    status: String,
    reason: String,
}

/// A check of reused prefixes that found a difference. The server reuses nothing until it is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPrefixCheck {
    /// The model's id, if the server has several; else empty.
    pub model: String,
    /// What differed and where.
    pub reason: String,
}

/// A model that other servers have.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct FrontReading {
    id: String,
    available: bool,
    #[serde(default)]
    upstreams: Vec<UpstreamReading>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct UpstreamReading {
    name: String,
    problem: Option<String>,
}

/// Requests that are parsed, rendered and tokenized, and those that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Preparing {
    requests: u64,
    /// Grows with every piece of work that is done.
    progress: u64,
    progress_age_seconds: f64,
}

/// The name of the preparation of requests among the heartbeats; no model id has parentheses.
pub const PREPARATION: &str = "(preparation)";

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct ModelHeartbeat {
    id: String,
    #[serde(flatten)]
    reading: HeartbeatReading,
    #[serde(default)]
    prefix_cache: PrefixCacheReading,
}

/// An engine's heartbeat, as one page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct HeartbeatReading {
    /// The engine's phase.
    pub phase: ServerPhase,
    /// Sequences that are computed.
    pub in_flight: u64,
    /// Requests that wait.
    pub queued: u64,
    /// Grows with every tensor that is loaded and every layer that is computed.
    pub progress: u64,
    progress_age_seconds: f64,
}

/// What a server reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerPhase {
    /// It is loading its model.
    Loading,
    /// It accepts requests.
    Ready,
    /// It finishes the requests that it has, and accepts no new ones.
    Draining,
}

impl Health {
    /// Each engine's heartbeat, with its model's id if there are several, and that of the preparation of requests under
    /// [`PREPARATION`]: a server that tokenizes a long prompt is busy, one whose preparation is stuck is hung.
    pub fn heartbeats(&self) -> Vec<(&str, HeartbeatReading)> {
        let mut heartbeats: Vec<(&str, HeartbeatReading)> = match self.models.is_empty() {
            true => vec![("", self.together)],
            false => self
                .models
                .iter()
                .map(|model| (model.id.as_str(), model.reading))
                .collect(),
        };
        heartbeats.extend(self.preparing.map(|preparing| {
            let reading = HeartbeatReading {
                phase: self.together.phase,
                in_flight: preparing.requests,
                queued: 0,
                progress: preparing.progress,
                progress_age_seconds: preparing.progress_age_seconds,
            };
            (PREPARATION, reading)
        }));
        heartbeats
    }

    /// The models that no server has at present, each with the problem of every upstream.
    pub fn models_without_server(&self) -> Vec<String> {
        let gone = self.fronts.iter().filter(|front| !front.available);
        gone.map(|front| {
            let problem = |upstream: &UpstreamReading| match &upstream.problem {
                Some(problem) => format!("{}: {problem}", upstream.name),
                None => upstream.name.clone(),
            };
            let problems: Vec<String> = front.upstreams.iter().map(problem).collect();
            let text = format!("{} ({})", front.id, problems.join("; "));
            UntrustedText::bounded(&text, 600).into()
        })
        .collect()
    }

    /// The models whose reused prefixes failed a check.
    pub fn failed_prefix_checks(&self) -> Vec<FailedPrefixCheck> {
        let readings = match self.models.is_empty() {
            true => vec![("", &self.prefix_cache)],
            false => self
                .models
                .iter()
                .map(|model| (model.id.as_str(), &model.prefix_cache))
                .collect(),
        };
        let failed = readings
            .into_iter()
            .filter(|(_, cache)| cache.status == "disabled-by-check");
        failed
            .map(|(model, cache)| FailedPrefixCheck {
                model: model.to_owned(),
                reason: cache.reason.clone(),
            })
            .collect()
    }
}

impl HeartbeatReading {
    /// A heartbeat whose `progress` last moved `age` ago.
    pub fn new(
        phase: ServerPhase,
        in_flight: u64,
        queued: u64,
        progress: u64,
        age: Duration,
    ) -> Self {
        Self {
            phase,
            in_flight,
            queued,
            progress,
            progress_age_seconds: age.as_secs_f64(),
        }
    }

    /// How long ago `progress` last moved.
    pub fn age(&self) -> Duration {
        Duration::try_from_secs_f64(self.progress_age_seconds).unwrap_or_default()
    }

    /// Whether it has work, so that `progress` must move.
    pub fn has_work(&self) -> bool {
        self.in_flight > 0 || self.queued > 0 || self.phase == ServerPhase::Loading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_of_one_or_several_models_has_a_heartbeat_each() {
        let one = r#"{"status":"ok","phase":"ready","in_flight":1,"queued":0,"progress":77,"progress_age_seconds":0.25}"#;
        let health: Health = serde_json::from_str(one).unwrap();
        let age = Duration::from_millis(250);
        let reading = HeartbeatReading::new(ServerPhase::Ready, 1, 0, 77, age);
        assert_eq!(health.heartbeats(), [("", reading)]);
        assert!(reading.has_work());
        let two = r#"{"status":"loading","phase":"loading","in_flight":0,"queued":0,"progress":3,"progress_age_seconds":1,
            "models":[{"id":"a","phase":"ready","in_flight":0,"queued":0,"progress":1,"progress_age_seconds":1e300},
                      {"id":"b","phase":"loading","in_flight":0,"queued":0,"progress":2,"progress_age_seconds":-1}],"more":1}"#;
        let health: Health = serde_json::from_str(two).unwrap();
        let readings = health.heartbeats();
        assert_eq!(
            (readings[1].0, readings[1].1.phase),
            ("b", ServerPhase::Loading)
        );
        assert_eq!(readings[0].1.age(), Duration::ZERO, "an impossible time");
    }

    #[test]
    fn model_without_server_is_reported_with_the_problem_of_each_upstream() {
        let page = |available: bool| {
            format!(
                r#"{{"status":"ok","phase":"ready","in_flight":0,"queued":0,"progress":0,"progress_age_seconds":0,
                "fronts":[{{"id":"qwen","available":{available},"upstreams":[{{"name":"studio","circuit":"open","problem":"it is loading"}},
                {{"name":"mini","circuit":"open"}}]}}]}}"#
            )
        };
        let gone = |page: &str| {
            serde_json::from_str::<Health>(page)
                .unwrap()
                .models_without_server()
        };
        assert_eq!(gone(&page(false)), ["qwen (studio: it is loading; mini)"]);
        assert_eq!(gone(&page(true)), [""; 0]);
    }

    #[test]
    fn failed_prefix_check_is_reported_for_its_model() {
        let pulse =
            r#""phase":"ready","in_flight":0,"queued":0,"progress":77,"progress_age_seconds":900"#;
        let failed = |page: &str| {
            let health: Health = serde_json::from_str(page).unwrap();
            health.failed_prefix_checks()
        };
        let cache =
            r#""prefix_cache":{"status":"disabled-by-check","reason":"logits differ at 12"}"#;
        let alone = failed(&format!(r#"{{"status":"ok",{pulse},{cache}}}"#));
        let expected = |model: &str| FailedPrefixCheck {
            model: model.to_owned(),
            reason: "logits differ at 12".to_owned(),
        };
        assert_eq!(alone, [expected("")]);
        let several = format!(
            r#"{{"status":"ok",{pulse},{cache},"models":[{{"id":"a",{pulse},"prefix_cache":{{"status":"on"}}}},{{"id":"b",{pulse},{cache}}}]}}"#
        );
        assert_eq!(failed(&several), [expected("b")]);
        for healthy in [
            "",
            r#","prefix_cache":{"status":"on"}"#,
            r#","prefix_cache":{"status":"off"}"#,
        ] {
            assert_eq!(
                failed(&format!(r#"{{"status":"ok",{pulse}{healthy}}}"#)),
                []
            );
        }
    }

    #[test]
    fn preparation_has_its_own_heartbeat() {
        let text = r#"{"status":"ok","phase":"ready","in_flight":0,"queued":0,"progress":77,"progress_age_seconds":900,
            "preparing":{"requests":2,"waiting":1,"bytes":4096,"oldest_seconds":130.5,"progress":5,"progress_age_seconds":130}}"#;
        let health: Health = serde_json::from_str(text).unwrap();
        let readings = health.heartbeats();
        assert_eq!(readings[1].0, PREPARATION);
        assert!(!readings[0].1.has_work() && readings[1].1.has_work());
        assert_eq!(readings[1].1.age(), Duration::from_secs(130));
    }
}
