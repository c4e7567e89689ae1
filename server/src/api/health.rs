//! `GET /health`: whether the server is alive, from the engines' heartbeats alone.
//!
//! The guardian reads this to tell a busy engine from a hung one: both have work, and only the hung one's `progress` does
//! not change. Nothing here waits for an engine, so that the response does not hang with one. `preparing` is the same for
//! the threads that parse, render and tokenize.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sanctum_engine::prefix::{PrefixDisk, PrefixState};
use sanctum_engine::schedule::EnginePhase;
use serde::Serialize;

use super::state::AppState;
use crate::front::{FrontModel, UpstreamStatus};
use crate::models::Served;
use crate::prepare::PreparingStatus;

/// The page; the status is 200 when `status` is `ok`, else 503.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct HealthPage {
    /// `ok`, `loading` or `draining`.
    status: &'static str,
    /// All models together: loading if one loads, draining if the server drains. Where there are several,
    /// `progress_age_seconds` is that of the model with work that has not moved for longest, so that one hung engine
    /// among busy ones is visible.
    #[serde(flatten)]
    pulse: Beat,
    /// Requests on their way to an engine, and whether their preparation moves.
    preparing: PreparingStatus,
    /// Whether computed prefixes are reused: of several models, that of the one where a check has turned it off, or else of
    /// one that cannot write them to disk.
    prefix_cache: PrefixHealth,
    /// Each model, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<ModelHealth>,
    /// The models that other servers have. They do not change `status`: this server is well if they are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fronts: Vec<FrontHealth>,
}

/// A model that other servers have.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct FrontHealth {
    id: String,
    /// Whether a server has it at present.
    available: bool,
    upstreams: Vec<UpstreamStatus>,
}

#[derive(Debug, PartialEq, Serialize)]
struct ModelHealth {
    id: String,
    #[serde(flatten)]
    pulse: Beat,
    prefix_cache: PrefixHealth,
}

/// Whether computed prefixes of prompts are reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
enum PrefixHealth {
    /// No: the settings say so, or the model is loading.
    #[default]
    Off,
    /// Yes.
    On {
        /// Why no prefix is written to the `cache_dir` at present, and the fix, without paths: `/status` has them.
        #[serde(skip_serializing_if = "Option::is_none")]
        disk_problem: Option<String>,
    },
    /// No longer: a check found a difference. Nothing is reused until a restart.
    DisabledByCheck {
        /// What differed and where, without any text of a prompt.
        reason: String,
    },
}

/// An engine's heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Beat {
    phase: EnginePhase,
    /// Sequences that hold a slot.
    in_flight: usize,
    /// Requests that wait for a slot.
    queued: usize,
    /// Only grows: with every tensor loaded and every layer computed.
    progress: u64,
    /// Since it last grew.
    progress_age_seconds: f64,
}

/// Answers `GET /health`.
pub(crate) async fn health(State(app): State<Arc<AppState>>) -> (StatusCode, Json<HealthPage>) {
    let each: Vec<ModelHealth> = app.models.iter().map(ModelHealth::of).collect();
    let mut pulse = together(each.iter().map(|model| &model.pulse));
    let prefixes = each.iter().map(|model| model.prefix_cache.clone());
    if app.shutdown.is_draining() {
        pulse.phase = EnginePhase::Draining;
    }
    let code = match pulse.phase {
        EnginePhase::Ready => StatusCode::OK,
        EnginePhase::Loading | EnginePhase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let health = HealthPage {
        status: word(pulse.phase),
        pulse,
        preparing: app.preparing.read(),
        prefix_cache: prefixes.max().unwrap_or_default(),
        models: match each.len() {
            0 | 1 => Vec::new(),
            _ => each,
        },
        fronts: fronts(&app),
    };
    (code, Json(health))
}

/// The phase of all models together.
pub(crate) fn phase(app: &AppState) -> EnginePhase {
    match app.shutdown.is_draining() {
        true => EnginePhase::Draining,
        false => {
            let each: Vec<Beat> = app.models.iter().map(beat).collect();
            together(each.iter()).phase
        }
    }
}

/// The `status` of a server in this phase.
pub(crate) fn word(phase: EnginePhase) -> &'static str {
    match phase {
        EnginePhase::Ready => "ok",
        EnginePhase::Loading => "loading",
        EnginePhase::Draining => "draining",
    }
}

/// The models that other servers have.
pub(crate) fn fronts(app: &AppState) -> Vec<FrontHealth> {
    app.fronts.iter().map(front).collect()
}

impl ModelHealth {
    fn of(served: &Served) -> Self {
        let ready = served.ready().ok();
        let engine = ready.as_ref().map(|ready| &ready.engine);
        Self {
            id: served.id().to_string(),
            pulse: beat(served),
            prefix_cache: engine
                .map(|engine| PrefixHealth::of(engine.prefix_state(), engine.prefix_disk()))
                .unwrap_or_default(),
        }
    }
}

impl PrefixHealth {
    fn of(state: PrefixState, disk: PrefixDisk) -> Self {
        match state {
            PrefixState::Off => Self::Off,
            PrefixState::On => Self::On {
                disk_problem: disk.public_problem,
            },
            PrefixState::DisabledByCheck { reason } => Self::DisabledByCheck { reason },
        }
    }
}

fn front(model: &FrontModel) -> FrontHealth {
    FrontHealth {
        id: model.id.to_string(),
        available: !model.is_gone(),
        upstreams: model
            .upstreams
            .iter()
            .map(|upstream| upstream.status())
            .collect(),
    }
}

fn beat(served: &Served) -> Beat {
    let pulse = served.pulse();
    Beat {
        phase: served.phase(),
        in_flight: pulse.in_flight,
        queued: pulse.queued,
        progress: pulse.progress,
        progress_age_seconds: pulse.age.as_secs_f64(),
    }
}

fn together<'a>(beats: impl Iterator<Item = &'a Beat>) -> Beat {
    let works =
        |beat: &Beat| beat.in_flight + beat.queued > 0 || beat.phase == EnginePhase::Loading;
    let phase = |a: EnginePhase, b: EnginePhase| match (a, b) {
        (EnginePhase::Draining, _) | (_, EnginePhase::Draining) => EnginePhase::Draining,
        (EnginePhase::Loading, _) | (_, EnginePhase::Loading) => EnginePhase::Loading,
        _ => EnginePhase::Ready,
    };
    let age = |a: &Beat, b: &Beat| match (works(a), works(b)) {
        (true, false) => a.progress_age_seconds,
        (false, true) => b.progress_age_seconds,
        (true, true) => a.progress_age_seconds.max(b.progress_age_seconds),
        (false, false) => a.progress_age_seconds.min(b.progress_age_seconds),
    };
    beats
        .cloned()
        .reduce(|a, b| Beat {
            phase: phase(a.phase, b.phase),
            in_flight: a.in_flight + b.in_flight,
            queued: a.queued + b.queued,
            progress: a.progress + b.progress,
            progress_age_seconds: age(&a, &b),
        })
        // Without an engine there is nothing that could hang.
        .unwrap_or(Beat {
            phase: EnginePhase::Ready,
            in_flight: 0,
            queued: 0,
            progress: 0,
            progress_age_seconds: 0.0,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(in_flight: usize, age: f64) -> Beat {
        Beat {
            phase: EnginePhase::Ready,
            in_flight,
            queued: 0,
            progress: 10,
            progress_age_seconds: age,
        }
    }

    #[test]
    fn one_hung_engine_among_others_is_visible() {
        let hung = beat(1, 300.0);
        let busy = beat(4, 0.01);
        let idle = beat(0, 9000.0);
        let all = together([&idle, &hung, &busy, &idle].into_iter());
        assert_eq!(all.progress_age_seconds, 300.0);
        assert_eq!((all.in_flight, all.progress), (5, 40));
        assert_eq!(
            together([&idle, &busy].into_iter()).progress_age_seconds,
            0.01
        );
    }

    #[test]
    fn worst_state_of_reuse_is_reported() {
        let on = |problem: Option<&str>| {
            let disk = PrefixDisk {
                problem: problem.map(|problem| format!("{problem}: /secret/cache")),
                public_problem: problem.map(str::to_owned),
                errors: 1,
            };
            PrefixHealth::of(PrefixState::On, disk)
        };
        let reason = "logits differ".to_owned();
        let failed = PrefixState::DisabledByCheck { reason };
        let failed = PrefixHealth::of(failed, PrefixDisk::default());
        let ordered = [PrefixHealth::Off, on(None), on(Some("full")), failed];
        assert!(ordered.is_sorted());
        let [_, on, full, _] = ordered.map(|state| serde_json::to_value(state).unwrap());
        assert_eq!(on, serde_json::json!({ "status": "on" }));
        let expected = serde_json::json!({ "status": "on", "disk_problem": "full" });
        assert_eq!(full, expected);
    }

    #[test]
    fn one_loading_model_makes_the_server_loading() {
        let loading = Beat {
            phase: EnginePhase::Loading,
            ..beat(0, 1.0)
        };
        assert_eq!(
            together([&beat(0, 0.0), &loading].into_iter()).phase,
            EnginePhase::Loading
        );
    }
}
