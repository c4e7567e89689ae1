//! The program itself, on a host that is a folder, with a stand-in for `launchctl`.

mod agents;
mod alert_test;
mod drift;
mod first_fleet;
mod host;
mod install;
mod interruption;
mod logs;
mod other_home;
mod read_only;
mod refusals;
mod remote_commands;
mod rollback;
mod sign;
mod slow_hosts;
mod trial;
mod upgrade;
