//! `fleet`: the certificates that fleet.toml needs.

use std::collections::{BTreeMap, BTreeSet};

use sanctum_config::fleet::Server;
use serde_json::json;

use super::CommandContext;
use super::issue::fleet_sans;
use crate::PkiError;
use crate::args::FleetArgs;
use crate::ca_session::default_days;
use crate::certificate::Certificate;
use crate::clock::ValidityPeriod;
use crate::holder::{Holder, HolderKind};
use crate::san::San;
use crate::trust::{Assessment, CertificateState};

/// Certificates that expire within so many days are reported.
const SOON: i64 = 30;

/// What was done for one holder.
struct HolderOutcome {
    holder: Holder,
    done: HolderAction,
    why: String,
    certificate: Option<Certificate>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HolderAction {
    Kept,
    Issued,
    /// Not issued, because it was revoked on purpose.
    Left,
    /// It has a certificate, and is not in fleet.toml.
    Extra,
}

pub(crate) fn run(context: &mut CommandContext, args: &FleetArgs) -> Result<(), PkiError> {
    let fleet = context.fleet()?;
    let mut needed: BTreeMap<Holder, BTreeSet<San>> = BTreeMap::new();
    for name in fleet.servers.keys() {
        needed.insert(
            Holder::new(HolderKind::Server, name.clone())?,
            fleet_sans(&fleet, name)?,
        );
    }
    let upstreams = fleet.servers.iter();
    let upstreams = upstreams.filter(|(_, server)| server.needs_upstream_client());
    let upstreams = upstreams.map(|(name, _)| Server::upstream_client(name));
    for name in fleet.watch.keys().cloned().chain(upstreams) {
        needed.insert(Holder::new(HolderKind::Client, name)?, BTreeSet::new());
    }
    let mut ca = context.open_ca()?;
    let mut outcomes = Vec::new();
    for (holder, sans) in &needed {
        ca.check_name(holder)?;
        let assessment = ca.trust.assess(&context.home, holder, context.now)?;
        let (done, why) = decide(&assessment, sans, context);
        let certificate = match done {
            HolderAction::Issued => {
                let validity = ValidityPeriod::new(None, default_days(holder.kind), context.now);
                let sans: Vec<San> = sans.iter().cloned().collect();
                Some(ca.issue(holder, &sans, validity)?)
            }
            _ => assessment.certificate,
        };
        outcomes.push(HolderOutcome {
            holder: holder.clone(),
            done,
            why,
            certificate,
        });
    }
    for holder in context.home.holders()? {
        if !needed.contains_key(&holder) {
            outcomes.push(HolderOutcome {
                certificate: Certificate::read(&context.home.certificate(&holder)).unwrap_or(None),
                done: HolderAction::Extra,
                why: format!(
                    "not in fleet.toml; if it is no longer used: sanctum-pki revoke {}",
                    holder.name
                ),
                holder,
            });
        }
    }
    let refreshed = ca.keep_lists_fresh(context.now)?;
    report(context, args, &outcomes, refreshed)?;
    context.close(ca)
}

/// What to do about a holder's files, and why.
fn decide(
    assessment: &Assessment,
    sans: &BTreeSet<San>,
    context: &CommandContext,
) -> (HolderAction, String) {
    let Some(certificate) = &assessment.certificate else {
        return (HolderAction::Issued, assessment.state.to_string());
    };
    if assessment.state == CertificateState::Revoked {
        let name = &assessment.holder.name;
        return (
            HolderAction::Left,
            format!("revoked; to authorize it again: sanctum-pki renew {name}"),
        );
    }
    if !assessment.state.is_usable() {
        return (
            HolderAction::Issued,
            format!("the previous one: {}", assessment.state),
        );
    }
    let lacking: Vec<String> = sans
        .iter()
        .filter(|san| !certificate.sans.contains(san))
        .map(San::to_string)
        .collect();
    if !lacking.is_empty() {
        return (
            HolderAction::Issued,
            format!("the previous one lacked {}", lacking.join(", ")),
        );
    }
    let left = context.now.days_until(certificate.not_after);
    let why = match assessment.state {
        CertificateState::FormerCa => {
            "signed by the former CA; next: sanctum-pki renew --all".into()
        }
        _ if left < SOON => format!(
            "{left} days left; next: sanctum-pki renew {}",
            assessment.holder.name
        ),
        _ => assessment.state.to_string(),
    };
    (HolderAction::Kept, why)
}

fn report(
    context: &mut CommandContext,
    args: &FleetArgs,
    outcomes: &[HolderOutcome],
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
        return context.say_json(&json!({
            "dry_run": context.is_dry_run(),
            "certificates": all,
            "revocation_list_signed": refreshed,
        }));
    }
    for one in outcomes {
        let until = one.certificate.as_ref().map_or(String::new(), |it| {
            format!(", until {}", it.not_after.date())
        });
        context.say(format_args!(
            "{}{}: {}{until} ({})",
            context.would(),
            one.holder,
            one.done.as_str(),
            one.why
        ))?;
    }
    if refreshed {
        context.say(format_args!(
            "{}the revocation list was signed again",
            context.would()
        ))?;
    }
    Ok(())
}

impl HolderAction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Issued => "issued",
            Self::Left => "left",
            Self::Extra => "extra",
        }
    }
}
