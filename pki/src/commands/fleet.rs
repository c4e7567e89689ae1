//! `fleet`: the certificates that fleet.toml needs, no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::Site;
use super::issue::fleet_sans;
use crate::PkiError;
use crate::args::FleetArgs;
use crate::certificate::Certificate;
use crate::clock::Validity;
use crate::holder::{Holder, Kind};
use crate::office::default_days;
use crate::san::San;
use crate::trust::{Judged, State};

/// Certificates that end within so many days are pointed out.
const SOON: i64 = 30;

/// What became of one holder.
struct Outcome {
    holder: Holder,
    done: Done,
    why: String,
    certificate: Option<Certificate>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Kept,
    Issued,
    /// Not issued, because somebody revoked it on purpose.
    Left,
    /// Here, and not in fleet.toml.
    Extra,
}

pub(crate) fn run(site: &mut Site, args: &FleetArgs) -> Result<(), PkiError> {
    let fleet = site.fleet()?;
    let mut needed: BTreeMap<Holder, BTreeSet<San>> = BTreeMap::new();
    for name in fleet.servers.keys() {
        needed.insert(
            Holder::new(Kind::Server, name.clone())?,
            fleet_sans(&fleet, name)?,
        );
    }
    for name in fleet.watch.keys() {
        needed.insert(Holder::new(Kind::Client, name.clone())?, BTreeSet::new());
    }
    let mut office = site.office()?;
    let mut outcomes = Vec::new();
    for (holder, sans) in &needed {
        office.check_name(holder)?;
        let judged = office.trust.judge(&site.home, holder, site.now)?;
        let (done, why) = decide(&judged, sans, site);
        let certificate = match done {
            Done::Issued => {
                let validity = Validity::new(None, default_days(holder.kind), site.now);
                let sans: Vec<San> = sans.iter().cloned().collect();
                Some(office.issue(holder, &sans, validity)?)
            }
            _ => judged.certificate,
        };
        outcomes.push(Outcome {
            holder: holder.clone(),
            done,
            why,
            certificate,
        });
    }
    for holder in site.home.holders()? {
        if !needed.contains_key(&holder) {
            outcomes.push(Outcome {
                certificate: Certificate::read(&site.home.certificate(&holder)).unwrap_or(None),
                done: Done::Extra,
                why: format!(
                    "not in fleet.toml; if it is used no longer: sanctum-pki revoke {}",
                    holder.name
                ),
                holder,
            });
        }
    }
    let refreshed = office.keep_lists_fresh(site.now)?;
    report(site, args, &outcomes, refreshed)?;
    site.close(office)
}

/// Whether a holder's files do, and in words why.
fn decide(judged: &Judged, sans: &BTreeSet<San>, site: &Site) -> (Done, String) {
    let Some(certificate) = &judged.certificate else {
        return (Done::Issued, judged.state.to_string());
    };
    if judged.state == State::Revoked {
        let name = &judged.holder.name;
        return (
            Done::Left,
            format!("revoked; to let it in again: sanctum-pki renew {name}"),
        );
    }
    if !judged.state.is_usable() {
        return (Done::Issued, format!("the one before: {}", judged.state));
    }
    let lacking: Vec<String> = sans
        .iter()
        .filter(|san| !certificate.sans.contains(san))
        .map(San::to_string)
        .collect();
    if !lacking.is_empty() {
        return (
            Done::Issued,
            format!("the one before lacked {}", lacking.join(", ")),
        );
    }
    let left = site.now.days_until(certificate.not_after);
    let why = match judged.state {
        State::FormerCa => "by the former CA; next: sanctum-pki renew --all".into(),
        _ if left < SOON => format!(
            "{left} days left; next: sanctum-pki renew {}",
            judged.holder.name
        ),
        _ => judged.state.to_string(),
    };
    (Done::Kept, why)
}

fn report(
    site: &mut Site,
    args: &FleetArgs,
    outcomes: &[Outcome],
    refreshed: bool,
) -> Result<(), PkiError> {
    if args.json {
        let all = outcomes.iter().map(|one| {
            let certificate = one.certificate.as_ref();
            json!({
                "kind": one.holder.kind,
                "name": one.holder.name.as_str(),
                "done": one.done.as_str(),
                "why": one.why,
                "serial": certificate.map(|it| &it.serial),
                "not_after": certificate.map(|it| it.not_after),
                "sans": certificate.map(|it| &it.sans),
            })
        });
        let all: Vec<_> = all.collect();
        return site.say_json(&json!({
            "dry_run": site.is_dry_run(),
            "certificates": all,
            "revocation_list_signed": refreshed,
        }));
    }
    for one in outcomes {
        let until = one.certificate.as_ref().map_or(String::new(), |it| {
            format!(", until {}", it.not_after.date())
        });
        site.say(format_args!(
            "{}{}: {}{until} ({})",
            site.would(),
            one.holder,
            one.done.as_str(),
            one.why
        ))?;
    }
    if refreshed {
        site.say(format_args!(
            "{}the revocation list was signed anew",
            site.would()
        ))?;
    }
    Ok(())
}

impl Done {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Issued => "issued",
            Self::Left => "left",
            Self::Extra => "extra",
        }
    }
}
