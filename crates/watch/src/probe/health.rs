//! What `GET /health` of a sanctum-server says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The page: all models together, and each of them where there are several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Health {
    /// `ok`, `loading` or `draining`.
    pub status: String,
    /// All models together.
    #[serde(flatten)]
    pub together: Beat,
    #[serde(default)]
    models: Vec<ModelBeat>,
    /// Requests on their way to an engine; older servers do not report them.
    #[serde(default)]
    preparing: Option<Preparing>,
}

/// Requests that are parsed, rendered and tokenized, and those that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Preparing {
    requests: u64,
    /// Only grows: with every piece of work that is done.
    progress: u64,
    progress_age_seconds: f64,
}

/// The name of the preparation among the heartbeats; no model id has parentheses.
pub const PREPARATION: &str = "(preparation)";

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct ModelBeat {
    id: String,
    #[serde(flatten)]
    beat: Beat,
}

/// An engine's heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Beat {
    /// What it does.
    pub phase: Phase,
    /// Sequences that are computed.
    pub in_flight: u64,
    /// Requests that wait.
    pub queued: u64,
    /// Only grows: with every tensor loaded and every layer computed.
    pub progress: u64,
    progress_age_seconds: f64,
}

/// What an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It reads its model.
    Loading,
    /// It takes requests.
    Ready,
    /// It finishes what it has and takes nothing new.
    Draining,
}

impl Health {
    /// Each engine's heartbeat, with its model's id where there are several, and that of the preparation of requests
    /// under [`PREPARATION`]: a server that tokenizes a long prompt is busy, one whose preparation is stuck is hung.
    pub fn beats(&self) -> Vec<(&str, Beat)> {
        let mut beats: Vec<(&str, Beat)> = match self.models.is_empty() {
            true => vec![("", self.together)],
            false => self
                .models
                .iter()
                .map(|model| (model.id.as_str(), model.beat))
                .collect(),
        };
        beats.extend(self.preparing.map(|preparing| {
            let beat = Beat {
                phase: self.together.phase,
                in_flight: preparing.requests,
                queued: 0,
                progress: preparing.progress,
                progress_age_seconds: preparing.progress_age_seconds,
            };
            (PREPARATION, beat)
        }));
        beats
    }
}

impl Beat {
    /// A heartbeat; `age` is how long ago `progress` moved.
    pub fn new(phase: Phase, in_flight: u64, queued: u64, progress: u64, age: Duration) -> Self {
        Self {
            phase,
            in_flight,
            queued,
            progress,
            progress_age_seconds: age.as_secs_f64(),
        }
    }

    /// How long ago `progress` moved.
    pub fn age(&self) -> Duration {
        Duration::try_from_secs_f64(self.progress_age_seconds).unwrap_or_default()
    }

    /// Whether it has something to do, so that progress must move.
    pub fn has_work(&self) -> bool {
        self.in_flight > 0 || self.queued > 0 || self.phase == Phase::Loading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_or_several() {
        let one = r#"{"status":"ok","phase":"ready","in_flight":1,"queued":0,"progress":77,"progress_age_seconds":0.25}"#;
        let health: Health = serde_json::from_str(one).unwrap();
        let beat = Beat::new(Phase::Ready, 1, 0, 77, Duration::from_millis(250));
        assert_eq!(health.beats(), [("", beat)]);
        assert!(beat.has_work());
        let two = r#"{"status":"loading","phase":"loading","in_flight":0,"queued":0,"progress":3,"progress_age_seconds":1,
            "models":[{"id":"a","phase":"ready","in_flight":0,"queued":0,"progress":1,"progress_age_seconds":1e300},
                      {"id":"b","phase":"loading","in_flight":0,"queued":0,"progress":2,"progress_age_seconds":-1}],"more":1}"#;
        let health: Health = serde_json::from_str(two).unwrap();
        let beats = health.beats();
        assert_eq!((beats[1].0, beats[1].1.phase), ("b", Phase::Loading));
        assert_eq!(beats[0].1.age(), Duration::ZERO, "no time that could be");
    }

    #[test]
    fn preparation_has_a_heartbeat_of_its_own() {
        let text = r#"{"status":"ok","phase":"ready","in_flight":0,"queued":0,"progress":77,"progress_age_seconds":900,
            "preparing":{"requests":2,"waiting":1,"bytes":4096,"oldest_seconds":130.5,"progress":5,"progress_age_seconds":130}}"#;
        let health: Health = serde_json::from_str(text).unwrap();
        let beats = health.beats();
        assert_eq!(beats[1].0, PREPARATION);
        assert!(!beats[0].1.has_work() && beats[1].1.has_work());
        assert_eq!(beats[1].1.age(), Duration::from_secs(130));
    }
}
