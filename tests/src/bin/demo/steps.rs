//! The steps of the demo, in order. Each shows its commands and fails if something else happens than it says.

mod addresses;
mod faults;
mod install;
mod releases;

use crate::tour::{StepFailure, Tour};

pub(crate) use addresses::DemoPage;

/// A step.
pub(crate) struct Step {
    /// What happens.
    pub(crate) title: &'static str,
    /// Does it, and returns what came of it.
    pub(crate) run: fn(&Tour) -> Result<String, StepFailure>,
}

/// All of them.
pub(crate) const STEPS: [Step; 9] = [
    Step {
        title: "Install two hosts: one serves, the other watches it",
        run: install::install,
    },
    Step {
        title: "Show the status of both hosts",
        run: install::status,
    },
    Step {
        title: "Kill the server",
        run: faults::kill,
    },
    Step {
        title: "Freeze the server",
        run: faults::freeze,
    },
    Step {
        title: "Make the server answer wrong",
        run: faults::answer_wrong,
    },
    Step {
        title: "Cut the power of the host that serves",
        run: faults::cut_power,
    },
    Step {
        title: "Upgrade to a release whose server does not start",
        run: releases::server_that_does_not_start,
    },
    Step {
        title: "Upgrade to a release that answers wrong once it is installed",
        run: releases::server_that_answers_wrong,
    },
    Step {
        title: "Roll back to the standby, and return to the server",
        run: releases::standby,
    },
];

/// Where to look while the demo stays up.
pub(crate) fn addresses(tour: &Tour) -> Result<Vec<DemoPage>, StepFailure> {
    addresses::addresses(tour)
}
