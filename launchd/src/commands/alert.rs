//! `sanctum-launchd alert`: test the channels; list, mute and close the alerts of this host's watchdogs.

mod list;
mod mute;
mod place;
mod resolve;
mod test_channels;

use place::here;

use crate::Error;
use crate::args::{AlertCommand, GlobalArgs};
use crate::console::Console;

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    command: &AlertCommand,
    console: &mut Console,
) -> Result<(), Error> {
    match command {
        AlertCommand::Test(options) => test_channels::run(args, options, console),
        AlertCommand::List(options) => list::run(args, options, console),
        AlertCommand::Mute(options) => mute::mute(&here(args, "mute")?, options, console),
        AlertCommand::Unmute(options) => mute::unmute(&here(args, "unmute")?, options, console),
        AlertCommand::Resolve(options) => resolve::run(&here(args, "resolve")?, options, console),
    }
}
