//! `server` and `client`: one certificate.

use std::collections::BTreeSet;

use sanctum_config::{Fleet, Label};

use super::CommandContext;
use crate::PkiError;
use crate::args::{ClientArgs, ServerArgs, ValidityArgs};
use crate::ca_session::default_days;
use crate::clock::ValidityPeriod;
use crate::holder::{Holder, HolderKind};
use crate::san::{San, of_address};

pub(crate) fn server(context: &mut CommandContext, args: &ServerArgs) -> Result<(), PkiError> {
    let mut sans: BTreeSet<San> = San::local().into();
    sans.extend(args.san.iter().cloned());
    if let Some(fleet) = context.maybe_fleet() {
        sans.extend(fleet_sans(fleet, &args.name)?);
    }
    let holder = Holder::new(HolderKind::Server, args.name.clone())?;
    issue(context, &holder, &sans, args.validity, args.force)
}

pub(crate) fn client(context: &mut CommandContext, args: &ClientArgs) -> Result<(), PkiError> {
    let holder = Holder::new(HolderKind::Client, args.name.clone())?;
    issue(
        context,
        &holder,
        &BTreeSet::new(),
        args.validity,
        args.force,
    )
}

fn issue(
    context: &mut CommandContext,
    holder: &Holder,
    sans: &BTreeSet<San>,
    validity: ValidityArgs,
    force: bool,
) -> Result<(), PkiError> {
    // Opened, and locked, before the check: a concurrent command has written its files by then.
    let mut ca = context.open_ca()?;
    for path in [context.home.key(holder), context.home.certificate(holder)] {
        if path.exists() && !force {
            return Err(PkiError::Exists {
                path,
                fix: format!(
                    "`sanctum-pki renew {}` issues it again; --force replaces it without checks",
                    holder.name
                ),
            });
        }
    }
    ca.check_name(holder)?;
    let days = validity.days.unwrap_or(default_days(holder.kind));
    let validity = ValidityPeriod::new(validity.not_before, days, context.now);
    let sans: Vec<San> = sans.iter().cloned().collect();
    let certificate = ca.issue(holder, &sans, validity)?;
    let end = match certificate.not_after < validity.not_after {
        true => ", when the CA expires",
        false => "",
    };
    context.say(format_args!(
        "{}{holder}: {}, valid from {} until {}{end}",
        context.would(),
        context.home.certificate(holder).display(),
        certificate.not_before,
        certificate.not_after,
    ))?;
    context.close(ca)
}

/// The addresses of a server in fleet.toml: those that it listens on, its host's, and localhost. Empty if there is no such
/// server.
pub(super) fn fleet_sans(fleet: &Fleet, name: &Label) -> Result<BTreeSet<San>, PkiError> {
    let Some(server) = fleet.servers.get(name) else {
        return Ok(BTreeSet::new());
    };
    let mut sans: BTreeSet<San> = San::local().into();
    let listens = server.listen.iter().chain(&server.tls_listen);
    sans.extend(listens.filter_map(|address| of_address(address.ip())));
    if let Some(host) = fleet.hosts.get(&server.host) {
        let address = host.address.parse().map_err(|error| PkiError::Section {
            section: format!("hosts.{}", server.host),
            why: format!("`address`: {error}"),
        })?;
        sans.insert(address);
    }
    Ok(sans)
}
