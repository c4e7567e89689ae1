//! `list`: all certificates, in one table.

use serde_json::json;

use super::CommandContext;
use crate::PkiError;
use crate::args::ListArgs;
use crate::certificate::Certificate;
use crate::holder::Holder;
use crate::trust::{CertificateState, Trust};

/// One line of the table.
struct TableRow {
    name: String,
    kind: &'static str,
    certificate: Option<Certificate>,
    state: String,
    detail: Option<String>,
    revoked: bool,
}

pub(crate) fn run(context: &mut CommandContext, args: &ListArgs) -> Result<(), PkiError> {
    let trust = Trust::read(&context.home)?;
    let mut rows: Vec<TableRow> = Vec::new();
    for (at, authority) in trust.authorities.iter().enumerate() {
        let (name, state) = match (at, authority.not_after < context.now) {
            (_, true) => ("ca", "expired"),
            (0, _) => ("ca", "signs"),
            _ => ("ca-old", "former, still trusted"),
        };
        rows.push(TableRow {
            name: name.into(),
            kind: "ca",
            certificate: Some(authority.clone()),
            state: state.into(),
            detail: None,
            revoked: false,
        });
    }
    for holder in context.home.holders()? {
        rows.push(row(context, &trust, &holder)?);
    }
    match args.json {
        true => say_json(context, &trust, &rows),
        false => say_table(context, &trust, &rows),
    }
}

fn row(context: &CommandContext, trust: &Trust, holder: &Holder) -> Result<TableRow, PkiError> {
    let assessment = trust.assess(&context.home, holder, context.now)?;
    Ok(TableRow {
        name: holder.name.to_string(),
        kind: match holder.kind {
            crate::holder::HolderKind::Server => "server",
            crate::holder::HolderKind::Client => "client",
        },
        certificate: assessment.certificate,
        revoked: assessment.state == CertificateState::Revoked,
        state: assessment.state.to_string(),
        detail: match assessment.state {
            CertificateState::Damaged(why) => Some(why),
            _ => None,
        },
    })
}

fn say_table(
    context: &mut CommandContext,
    trust: &Trust,
    rows: &[TableRow],
) -> Result<(), PkiError> {
    let mut table = vec![
        [
            "NAME",
            "KIND",
            "SERIAL",
            "NOT AFTER",
            "DAYS LEFT",
            "REVOKED",
            "STATE",
            "SANS",
        ]
        .map(String::from),
    ];
    for row in rows {
        let of =
            |say: &dyn Fn(&Certificate) -> String| row.certificate.as_ref().map_or("-".into(), say);
        table.push([
            row.name.clone(),
            row.kind.into(),
            of(&|it| it.serial.to_string()),
            of(&|it| it.not_after.date()),
            of(&|it| context.now.days_until(it.not_after).to_string()),
            if row.revoked { "yes" } else { "no" }.into(),
            row.state.clone(),
            of(&|it| {
                it.sans
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            }),
        ]);
    }
    let width = |column: usize| {
        table
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..8).map(width).collect();
    for line in &table {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        context.say(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    for why in rows.iter().filter_map(|row| row.detail.as_ref()) {
        context.say(why)?;
    }
    for authority in &trust.authorities {
        let line = match trust.list_of(authority) {
            None => "missing, so servers that need one refuse its clients; on the machine with the CA: sanctum-pki crl".into(),
            Some(list) => format!(
                "number {}, {} revoked, until {}",
                list.number.map_or("unknown".into(), |number| number.to_string()),
                list.revoked.len(),
                list.next_update.map_or("ever".into(), |end| format!(
                    "{} ({} days left)",
                    end.date(),
                    context.now.days_until(end)
                )),
            ),
        };
        context.say(format_args!(
            "revocation list of {}: {line}",
            authority.common_name
        ))?;
    }
    Ok(())
}

fn say_json(
    context: &mut CommandContext,
    trust: &Trust,
    rows: &[TableRow],
) -> Result<(), PkiError> {
    let certificates = rows.iter().map(|row| {
        let of = row.certificate.as_ref();
        json!({
            "name": row.name,
            "kind": row.kind,
            "serial": of.map(|it| &it.serial),
            "not_before": of.map(|it| it.not_before),
            "not_after": of.map(|it| it.not_after),
            "days_left": of.map(|it| context.now.days_until(it.not_after)),
            "revoked": row.revoked,
            "state": row.state,
            "detail": row.detail,
            "sans": of.map(|it| &it.sans),
        })
    });
    let lists = trust.authorities.iter().map(|authority| {
        let list = trust.list_of(authority);
        json!({
            "authority": authority.common_name,
            "number": list.and_then(|list| list.number),
            "this_update": list.map(|list| list.this_update),
            "next_update": list.and_then(|list| list.next_update),
            "revoked": list.map(|list| list.revoked.iter().map(|one| &one.serial).collect::<Vec<_>>()),
        })
    });
    let document = json!({
        "certificates": certificates.collect::<Vec<_>>(),
        "revocation_lists": lists.collect::<Vec<_>>(),
    });
    context.say_json(&document)
}
