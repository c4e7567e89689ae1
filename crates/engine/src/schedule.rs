//! Which sequences run, and when: the engine's handle, its thread, and what they exchange.

pub(crate) mod admission;
pub(crate) mod engine;
pub(crate) mod heartbeat;
mod masks;
pub(crate) mod request;
mod scheduler;
mod sequence;
mod shared;

pub use admission::{Admission, Held, KeptMemory, Reservation};
pub use engine::{ASKED, Engine, Generation};
pub use heartbeat::{Heartbeat, Phase, Pulse};
pub use request::{Event, FinishReason, Request, SubmitError, TokenLogprob, Usage};
pub use shared::{Inbox, Job, Limits, Stats};
