//! The guardian: restarts a server that is hung or dead, through launchd. It does not restart a server that is busy,
//! starting, or crashing at every start.
//!
//! In each round it
//!
//! 1. observes ([`observation::Observation`]): the answer of the agent that serves, launchd's view of that agent, and which
//!    release is deployed;
//! 2. decides ([`decide::decide`]), as a function of the observation, the [`history::ServerHistory`] and the
//!    [`policy::RestartPolicy`];
//! 3. reports ([`Guardian`]): conditions that open and close, and the [`GuardianAction`]s that the watchdog executes.

pub mod decide;
pub mod history;
pub mod observation;
pub mod policy;

mod action;
mod excerpt;
mod guardian;
mod memory;
mod panics;
mod report;
mod rotate;

pub use action::{GuardianAction, Restart, RestartCommand};
pub use guardian::Guardian;
