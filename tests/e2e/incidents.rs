//! The incidents of a fleet's first year, re-enacted: the real programs under the simulated launchd, one file for each kind
//! of incident.

mod alerts;
mod busy;
mod hung;
#[cfg(debug_assertions)]
mod interruption;
mod one_cause;
mod prefix;
mod standby;
mod start;
mod wrong;
