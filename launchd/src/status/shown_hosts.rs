//! Which hosts `status` shows, and how each is asked.

use sanctum_config::{Fleet, Label};
use sanctum_host::{Installation, this_host};

/// The hosts that `status` shows: `only` this one, else all. A host without agents and without `ssh`, such as the CA's, has
/// nothing to show.
pub(crate) fn shown_hosts<'a>(fleet: &'a Fleet, only: Option<&Label>) -> Vec<&'a Label> {
    let hosts = fleet.hosts.iter();
    let hosts = hosts.filter(|(host, section)| match only {
        Some(only) => only == *host,
        None => section.ssh.is_some() || !fleet.agents_of(host).is_empty(),
    });
    hosts.map(|(host, _)| host).collect()
}

/// Which host this machine is; with `--local` the one that the command line names. None if that is unknown.
pub(crate) fn here(installation: &Installation, is_local: bool) -> Option<Label> {
    match is_local {
        true => Some(installation.host.clone()),
        false => this_host(&installation.fleet, &installation.home)
            .ok()
            .flatten(),
    }
}

/// The destination by which ssh reaches a host.
///
/// # Errors
/// If fleet.toml names none: why the host is not asked.
pub(crate) fn ssh_destination<'a>(fleet: &'a Fleet, host: &Label) -> Result<&'a str, String> {
    let section = fleet.hosts.get(host);
    let destination = section.and_then(|host| host.ssh.as_deref());
    destination.ok_or_else(|| format!("[hosts.{host}] has no `ssh`, so it is not asked from here"))
}
