//! Reuse of prefixes: answers are those of an engine that computes everything, and what is shared is computed once.

mod property;
mod scenarios;
mod small;
mod snapshots;
