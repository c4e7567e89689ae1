//! Which sequences run, and when: the engine's handle, its thread, and what they exchange.

pub(crate) mod admission;
pub(crate) mod engine;
pub(crate) mod heartbeat;
mod mask_queue;
mod masks;
mod prompt_scores;
pub(crate) mod request;
mod reuse;
mod row_shares;
mod scheduler;
mod sequence;
mod shared;

pub use admission::{Admission, HeldMemory, KeptMemory, Reservation};
pub use engine::{Engine, Generation, STOP_REQUESTED};
pub use heartbeat::{EnginePhase, Heartbeat, Pulse};
pub use request::{Event, FinishReason, Request, SubmitError, TokenLogprob, Usage};
pub use shared::{EngineLimits, EngineStats, Inbox, QueuedRequest};
