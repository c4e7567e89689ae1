//! Which of the fleet's hosts this machine is.

use sanctum_config::record::RecordError;
use sanctum_config::{Fleet, Home, Label};

use crate::Receipt;

/// The host in this machine's receipt, else the only host of the fleet, else the host whose name, address or ssh
/// destination is this machine's name; none if there is no such host.
///
/// # Errors
/// If the receipt cannot be read.
pub fn this_host(fleet: &Fleet, home: &Home) -> Result<Option<Label>, RecordError> {
    if let Some(receipt) = Receipt::read(&home.receipt())?
        && fleet.hosts.contains_key(&receipt.host)
    {
        return Ok(Some(receipt.host));
    }
    if let Some(name) = fleet.hosts.keys().next()
        && fleet.hosts.len() == 1
    {
        return Ok(Some(name.clone()));
    }
    let whole = machine_name();
    let short = whole.split('.').next().unwrap_or_default();
    let is_ours =
        |text: &str| text.eq_ignore_ascii_case(&whole) || text.eq_ignore_ascii_case(short);
    let ours = fleet.hosts.iter().find(|(name, host)| {
        is_ours(name.as_str()) || is_ours(&host.address) || host.ssh.as_deref().is_some_and(is_ours)
    });
    Ok(ours.map(|(name, _)| name.clone()))
}

/// This machine's own name, possibly with a domain.
pub(crate) fn machine_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}
