//! `list`: everything that is here, in one table.

use serde_json::json;

use super::Site;
use crate::PkiError;
use crate::args::ListArgs;
use crate::certificate::Certificate;
use crate::holder::Holder;
use crate::trust::{State, Trust};

/// One line of the table.
struct Row {
    name: String,
    kind: &'static str,
    certificate: Option<Certificate>,
    state: String,
    detail: Option<String>,
    revoked: bool,
}

pub(crate) fn run(site: &mut Site, args: &ListArgs) -> Result<(), PkiError> {
    let trust = Trust::read(&site.home)?;
    let mut rows: Vec<Row> = Vec::new();
    for (at, authority) in trust.authorities.iter().enumerate() {
        let (name, state) = match (at, authority.not_after < site.now) {
            (_, true) => ("ca", "expired"),
            (0, _) => ("ca", "signs"),
            _ => ("ca-old", "former, still trusted"),
        };
        rows.push(Row {
            name: name.into(),
            kind: "ca",
            certificate: Some(authority.clone()),
            state: state.into(),
            detail: None,
            revoked: false,
        });
    }
    for holder in site.home.holders()? {
        rows.push(row(site, &trust, &holder)?);
    }
    match args.json {
        true => say_json(site, &trust, &rows),
        false => say_table(site, &trust, &rows),
    }
}

fn row(site: &Site, trust: &Trust, holder: &Holder) -> Result<Row, PkiError> {
    let judged = trust.judge(&site.home, holder, site.now)?;
    Ok(Row {
        name: holder.name.to_string(),
        kind: match holder.kind {
            crate::holder::Kind::Server => "server",
            crate::holder::Kind::Client => "client",
        },
        certificate: judged.certificate,
        revoked: judged.state == State::Revoked,
        state: judged.state.to_string(),
        detail: match judged.state {
            State::Damaged(why) => Some(why),
            _ => None,
        },
    })
}

fn say_table(site: &mut Site, trust: &Trust, rows: &[Row]) -> Result<(), PkiError> {
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
            of(&|it| site.now.days_until(it.not_after).to_string()),
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
        site.say(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    for why in rows.iter().filter_map(|row| row.detail.as_ref()) {
        site.say(why)?;
    }
    for authority in &trust.authorities {
        let line = match trust.list_of(authority) {
            None => "none here, so servers that ask for one refuse its clients; where the CA lives: sanctum-pki crl".into(),
            Some(list) => format!(
                "number {}, {} revoked, until {}",
                list.number.map_or("unknown".into(), |number| number.to_string()),
                list.revoked.len(),
                list.next_update.map_or("ever".into(), |end| format!(
                    "{} ({} days left)",
                    end.date(),
                    site.now.days_until(end)
                )),
            ),
        };
        site.say(format_args!(
            "revocation list of {}: {line}",
            authority.common_name
        ))?;
    }
    Ok(())
}

fn say_json(site: &mut Site, trust: &Trust, rows: &[Row]) -> Result<(), PkiError> {
    let certificates = rows.iter().map(|row| {
        let of = row.certificate.as_ref();
        json!({
            "name": row.name,
            "kind": row.kind,
            "serial": of.map(|it| &it.serial),
            "not_before": of.map(|it| it.not_before),
            "not_after": of.map(|it| it.not_after),
            "days_left": of.map(|it| site.now.days_until(it.not_after)),
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
    site.say_json(&document)
}
