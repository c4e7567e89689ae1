//! The body of a webhook's request: JSON with placeholders for the parts of an alert.
//!
//! `{{title}}` stands for the title, escaped for a JSON string. `{{body|1500}}` is cut to 1500 characters, `{{body|html}}`
//! has `&`, `<` and `>` escaped as Slack and Telegram's HTML mode require; both can be combined, from left to right.

use sanctum_config::did_you_mean;

use crate::alert::{Alert, Severity};

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<TemplatePiece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePiece {
    Text(String),
    Value(AlertField, Vec<Filter>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AlertField {
    Id,
    Severity,
    Source,
    Host,
    Title,
    Body,
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// At most so many characters.
    Length(usize),
    /// `&`, `<` and `>` as entities.
    Html,
}

const FIELDS: [(&str, AlertField); 7] = [
    ("id", AlertField::Id),
    ("severity", AlertField::Severity),
    ("source", AlertField::Source),
    ("host", AlertField::Host),
    ("title", AlertField::Title),
    ("body", AlertField::Body),
    ("time", AlertField::Time),
];

impl Template {
    /// Parses a template, and checks that it is JSON once its placeholders are filled.
    ///
    /// # Errors
    /// A sentence that names the error and its fix.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after
                .split_once("}}")
                .ok_or("`template` has {{ without }}; close the placeholder")?;
            pieces.push(TemplatePiece::Text(before.to_owned()));
            pieces.push(placeholder(inside)?);
            rest = after;
        }
        pieces.push(TemplatePiece::Text(rest.to_owned()));
        let template = Self(pieces);
        let sample = template.fill(&sample());
        serde_json::from_slice::<serde_json::Value>(&sample).map_err(|error| {
            format!(
                "`template` is not JSON once its placeholders are filled ({error}); write placeholders within quotes: \
                 {{\"text\": \"{{{{title}}}}\"}}"
            )
        })?;
        Ok(template)
    }

    /// The body for an alert.
    pub(super) fn fill(&self, alert: &Alert) -> Vec<u8> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Text(text) => filled.push_str(text),
                TemplatePiece::Value(field, filters) => {
                    let value = filters
                        .iter()
                        .fold(field.of(alert), |value, filter| filter.apply(&value));
                    let quoted = serde_json::Value::String(value).to_string();
                    filled.push_str(&quoted[1..quoted.len() - 1]);
                }
            }
        }
        filled.into_bytes()
    }
}

fn placeholder(inside: &str) -> Result<TemplatePiece, String> {
    let mut words = inside.split('|').map(str::trim);
    let name = words.next().unwrap_or_default();
    let known = FIELDS.iter().find(|(known, _)| *known == name);
    let (_, field) = known.ok_or_else(|| {
        let names = FIELDS.map(|(name, _)| name);
        format!(
            "`template` has {{{{{name}}}}}, and there is no such part of an alert{}; write one of {}",
            did_you_mean(name, names),
            names.join(", ")
        )
    })?;
    let filter = |word: &str| match word {
        "html" => Ok(Filter::Html),
        word => match word.parse() {
            Ok(length @ 1..) => Ok(Filter::Length(length)),
            _ => Err(format!(
                "`template` has {{{{{name}|{word}}}}}; write `html` or a number of characters behind the |"
            )),
        },
    };
    let filters = words.map(filter).collect::<Result<_, _>>()?;
    Ok(TemplatePiece::Value(*field, filters))
}

impl AlertField {
    fn of(self, alert: &Alert) -> String {
        match self {
            Self::Id => alert.id.clone(),
            Self::Severity => alert.severity.as_str().to_owned(),
            Self::Source => alert.source.clone(),
            Self::Host => alert.host.clone(),
            Self::Title => alert.title.clone(),
            Self::Body => alert.body.clone(),
            Self::Time => alert.time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        }
    }
}

impl Filter {
    fn apply(self, value: &str) -> String {
        match self {
            Self::Length(length) => cut(value, length),
            Self::Html => value
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;"),
        }
    }
}

/// At most `length` characters, the last of them an ellipsis if there were more.
fn cut(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(length - 1).collect();
            kept + "…"
        }
    }
}

/// An alert whose parts need every escape.
fn sample() -> Alert {
    let text = "\"quoted\" \\ <b>&\nsecond line".to_owned();
    Alert {
        id: "canary-misses-1".to_owned(),
        condition: "canary/misses".to_owned(),
        severity: Severity::Critical,
        source: "canary".to_owned(),
        host: "mini".to_owned(),
        title: text.clone(),
        body: text,
        time: chrono::DateTime::UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn filled(template: &str) -> Value {
        let template = Template::parse(template).unwrap();
        serde_json::from_slice(&template.fill(&sample())).unwrap()
    }

    #[test]
    fn placeholders_are_filled_and_escaped_for_json() {
        assert_eq!(
            filled(
                r#"{"text": "{{severity}}: {{ title }}", "at": ["{{host}}", "{{source}}", "{{id}}", "{{time}}"], "n": {"m": 1}}"#
            ),
            json!({
                "text": "critical: \"quoted\" \\ <b>&\nsecond line",
                "at": ["mini", "canary", "canary-misses-1", "1970-01-01 00:00:00 UTC"],
                "n": {"m": 1},
            })
        );
    }

    #[test]
    fn filters_cut_and_escape_from_left_to_right() {
        assert_eq!(
            filled(r#""{{title|html}}""#),
            "\"quoted\" \\ &lt;b&gt;&amp;\nsecond line"
        );
        assert_eq!(filled(r#""{{title|13|html}}""#), "\"quoted\" \\ &lt;…");
        assert_eq!(filled(r#""{{title|1}}""#), "…");
        assert_eq!(filled(r#""{{host|4}}""#), "mini");
    }

    #[test]
    fn template_that_cannot_be_filled_is_an_error_with_its_fix() {
        for (template, words) in [
            ("{\"text\": \"{{titel}}\"}", "did you mean `title`"),
            (
                "{\"text\": \"{{title|upper}}\"}",
                "{{title|upper}}; write `html`",
            ),
            ("{\"text\": \"{{title|0}}\"}", "a number of characters"),
            ("{\"text\": \"{{title\"}", "without }}"),
            ("{\"text\": {{title}}}", "is not JSON"),
            ("", "is not JSON"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(words), "{template}: {error}");
        }
    }
}
