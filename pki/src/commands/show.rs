//! `show`: one certificate in full.

use sanctum_config::did_you_mean;
use serde_json::json;

use super::CommandContext;
use crate::PkiError;
use crate::args::ShowArgs;
use crate::certificate::Certificate;
use crate::san::San;
use crate::trust::Trust;

pub(crate) fn run(context: &mut CommandContext, args: &ShowArgs) -> Result<(), PkiError> {
    let trust = Trust::read(&context.home)?;
    let mut found: Vec<(String, Option<Certificate>, String)> = Vec::new();
    if args.name.as_str() == "ca" {
        for authority in &trust.authorities {
            found.push(("ca".into(), Some(authority.clone()), "trusted".into()));
        }
    }
    let holders = context.home.holders()?;
    for holder in holders.iter().filter(|holder| holder.name == args.name) {
        let assessment = trust.assess(&context.home, holder, context.now)?;
        found.push((
            holder.to_string(),
            assessment.certificate,
            assessment.state.to_string(),
        ));
    }
    if found.is_empty() {
        return Err(PkiError::Unknown {
            what: "there is no certificate for",
            name: args.name.to_string(),
            near: did_you_mean(
                args.name.as_str(),
                holders.iter().map(|holder| holder.name.as_str()),
            ),
        });
    }
    if args.json {
        let all = found.iter().map(|(who, certificate, state)| {
            let of = certificate.as_ref();
            json!({
                "who": who,
                "state": state,
                "subject": of.map(|it| &it.subject),
                "issuer": of.map(|it| &it.issuer),
                "serial": of.map(|it| &it.serial),
                "not_before": of.map(|it| it.not_before),
                "not_after": of.map(|it| it.not_after),
                "is_ca": of.map(|it| it.is_ca),
                "usages": of.map(|it| &it.usages),
                "sans": of.map(|it| &it.sans),
                "key_id": of.and_then(|it| it.key_id.as_ref()),
                "authority_key_id": of.and_then(|it| it.authority_key_id.as_ref()),
                "sha256": of.map(Certificate::fingerprint),
            })
        });
        let all: Vec<_> = all.collect();
        return context.say_json(&json!(all));
    }
    for (who, certificate, state) in &found {
        context.say(format_args!("{who}: {state}"))?;
        if let Some(certificate) = certificate {
            describe(context, certificate)?;
        }
    }
    Ok(())
}

fn describe(context: &mut CommandContext, it: &Certificate) -> Result<(), PkiError> {
    let sans: Vec<String> = it.sans.iter().map(San::to_string).collect();
    let mut usages = it.usages.join(", ");
    if it.is_ca {
        usages = "signs certificates and revocation lists".into();
    }
    let none = || "-".to_owned();
    for (key, value) in [
        ("subject", it.subject.clone()),
        ("issuer", it.issuer.clone()),
        ("serial", it.serial.to_string()),
        ("not before", it.not_before.to_string()),
        (
            "not after",
            format!(
                "{} ({} days left)",
                it.not_after,
                context.now.days_until(it.not_after)
            ),
        ),
        ("use", usages),
        (
            "SANs",
            if sans.is_empty() {
                none()
            } else {
                sans.join(", ")
            },
        ),
        ("key id", it.key_id.clone().unwrap_or_else(none)),
        (
            "CA's key id",
            it.authority_key_id.clone().unwrap_or_else(none),
        ),
        ("SHA-256", it.fingerprint()),
    ] {
        context.say(format_args!("  {key:<12} {value}"))?;
    }
    Ok(())
}
