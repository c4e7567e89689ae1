//! `server` and `client`: one certificate, for whoever asks.

use std::collections::BTreeSet;

use sanctum_config::{Fleet, Label};

use super::Site;
use crate::PkiError;
use crate::args::{ClientArgs, ServerArgs, ValidityArgs};
use crate::clock::Validity;
use crate::holder::{Holder, Kind};
use crate::office::default_days;
use crate::san::{San, of_address};

pub(crate) fn server(site: &mut Site, args: &ServerArgs) -> Result<(), PkiError> {
    let mut sans: BTreeSet<San> = San::local().into();
    sans.extend(args.san.iter().cloned());
    if let Some(fleet) = site.maybe_fleet() {
        sans.extend(fleet_sans(fleet, &args.name)?);
    }
    let holder = Holder::new(Kind::Server, args.name.clone())?;
    issue(site, &holder, &sans, args.validity, args.force)
}

pub(crate) fn client(site: &mut Site, args: &ClientArgs) -> Result<(), PkiError> {
    let holder = Holder::new(Kind::Client, args.name.clone())?;
    issue(site, &holder, &BTreeSet::new(), args.validity, args.force)
}

fn issue(
    site: &mut Site,
    holder: &Holder,
    sans: &BTreeSet<San>,
    validity: ValidityArgs,
    force: bool,
) -> Result<(), PkiError> {
    // Opened before the look: whoever issues at the same time has put its files in place by then.
    let mut office = site.office()?;
    for path in [site.home.key(holder), site.home.certificate(holder)] {
        if path.exists() && !force {
            return Err(PkiError::Exists {
                path,
                mend: format!(
                    "`sanctum-pki renew {}` issues it anew; --force replaces it, whatever it is",
                    holder.name
                ),
            });
        }
    }
    office.check_name(holder)?;
    let days = validity.days.unwrap_or(default_days(holder.kind));
    let validity = Validity::new(validity.not_before, days, site.now);
    let sans: Vec<San> = sans.iter().cloned().collect();
    let certificate = office.issue(holder, &sans, validity)?;
    let end = match certificate.not_after < validity.not_after {
        true => ", when the CA itself ends",
        false => "",
    };
    site.say(format_args!(
        "{}{holder}: {}, valid from {} until {}{end}",
        site.would(),
        site.home.certificate(holder).display(),
        certificate.not_before,
        certificate.not_after,
    ))?;
    site.close(office)
}

/// The addresses under which fleet.toml has a server reached: those that it listens on and its host's, besides those
/// under which every host knows itself. Nothing if there is no such server.
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
