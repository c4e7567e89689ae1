//! Parity: does a server still give the same answers? The questions of an editable spec are asked at temperature 0, one by
//! one; the answers must satisfy the spec, or equal the recorded ones byte for byte. Parity alerts; it never restarts
//! anything.
//!
//! - [`Spec`] has the questions, and what is expected of each answer.
//! - [`Parity`] asks and judges. It never fails early because the server is busy: a nightly check has until morning.
//! - [`record()`] shows how today's answers differ from the [`RecordedAnswers`], and records them if the operator agrees.
//! - Each run's [`RunReport`] is kept, with all questions and answers.

mod ask;
mod check;
mod excerpt;
mod record;
mod recorded_answers;
mod run_report;
mod spec;

pub use check::{Compare, Parity, ParityAction};
pub use record::{Consent, record};
pub use recorded_answers::{AnswerDifference, RecordedAnswers, Transcript};
pub use run_report::{KEPT, PromptOutcome, RunReport};
pub use spec::{ExpectedAnswer, Prompt, Spec, SpecError};
