//! What happened in a fleet's first year, re-enacted: the real programs under the simulated launchd, one file for each
//! kind of incident.

mod alerts;
mod busy;
mod flip;
mod hung;
mod start;
mod wrong;
