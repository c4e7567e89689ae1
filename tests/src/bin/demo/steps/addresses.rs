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

/// The pages that this build has.
pub(super) fn addresses(tour: &Tour) -> Result<Vec<DemoPage>, StepFailure> {
    let port = tour.fleet.mini.port();
    let page = request(port, "GET /", "", Duration::from_secs(10));
    let mut addresses = Vec::new();
    if page.is_some_and(|(status, _)| status == 200) {
        addresses.push(DemoPage {
            name: "the console of the server",
            url: format!("http://127.0.0.1:{port}/"),
        });
    }
    Ok(addresses)
}
