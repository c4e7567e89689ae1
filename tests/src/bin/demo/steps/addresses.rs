//! Where to look while the demo stays up.

use std::time::Duration;

use sanctum_tests::host::request;

use crate::tour::{StepFailure, Tour};

/// A page to open in a browser.
pub(crate) struct DemoPage {
    /// What it is.
    pub(crate) name: &'static str,
    /// Its address.
    pub(crate) url: String,
}

/// The command that serves the fleet page.
const FLEET_PAGE: &str = "sanctum-launchd status --serve 127.0.0.1:0";

/// The pages, after each has answered.
pub(super) fn addresses(tour: &Tour) -> Result<Vec<DemoPage>, StepFailure> {
    let console = DemoPage {
        name: "the console of the server",
        url: format!("http://127.0.0.1:{}/", tour.fleet.mini.port()),
    };
    let failed = |seen: String| StepFailure {
        expected: format!("`{FLEET_PAGE}` prints its address"),
        seen,
    };
    let line = tour
        .fleet
        .keep_running(FLEET_PAGE, "the fleet page is at", tour.limit)
        .map_err(failed)?;
    let url = line
        .split_whitespace()
        .map(|word| word.trim_end_matches(';'))
        .find(|word| word.starts_with("http://"));
    let url = url.ok_or_else(|| failed(line.clone()))?;
    let fleet = DemoPage {
        name: "the fleet page of both hosts",
        url: format!("{url}/"),
    };
    let pages = vec![console, fleet];
    for page in &pages {
        page.answers()?;
    }
    Ok(pages)
}

impl DemoPage {
    fn answers(&self) -> Result<(), StepFailure> {
        let port = self.url.trim_end_matches('/').rsplit(':').next();
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_default();
        let answer = request(port, "GET /", "", Duration::from_secs(10));
        match answer {
            Some((200, _)) => Ok(()),
            other => Err(StepFailure {
                expected: format!("GET {} answers 200", self.url),
                seen: format!("{other:?}"),
            }),
        }
    }
}
