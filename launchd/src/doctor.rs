//! `doctor`: what has to be in order for a fleet to work that no installation can see: ports, firewalls, clocks, sleep, the
//! models. Each line has passed, has failed with its fix, or cannot be checked here, with the reason.
//!
//! `local` checks a host from inside, `outside` from another host. Nothing is changed.

mod local;
mod macos;
mod outside;
mod report;

pub(crate) use local::check_here;
pub(crate) use outside::{ask_from_outside, check_from_here, versions, watchers_elsewhere};
pub(crate) use report::{DoctorLine, DoctorOutcome, DoctorReport, one_failure_for_each_cause};
