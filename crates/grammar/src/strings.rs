//! The strings that a JSON schema accepts, as a terminal of Lark: `enum`, `const`, `pattern`, lengths and formats, through
//! references and combinations.

use std::cell::Cell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::GrammarError;
use crate::literal::quote;
use crate::patterns;
use crate::references::References;

/// Schemas that are read for one parameter, at most: references may be combined in exponentially many ways.
const MAX_READ: usize = 2_000;
/// Schemas inside each other, at most.
const MAX_DEPTH: usize = 64;

/// A set of strings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Strings {
    /// No string.
    None,
    /// Every string.
    All,
    /// These.
    Listed(BTreeSet<String>),
    /// Those that an expression matches.
    Expression {
        /// Terminals of Lark.
        text: String,
        /// Whether each is listed in an `enum` or `const`.
        is_listed: bool,
    },
}

impl Strings {
    /// As an expression of terminals; none for the sets without and with all strings.
    pub(crate) fn expression(&self) -> Option<String> {
        match self {
            Self::None | Self::All => None,
            Self::Listed(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quote(text)).collect();
                Some(format!("({})", texts.join(" | ")))
            }
            Self::Expression { text, .. } => Some(text.clone()),
        }
    }

    /// Whether each of them is listed in an `enum` or `const`.
    pub(crate) fn is_listed(&self) -> bool {
        match self {
            Self::None | Self::Listed(_) => true,
            Self::All => false,
            Self::Expression { is_listed, .. } => *is_listed,
        }
    }

    fn listed(texts: BTreeSet<String>) -> Self {
        match texts.is_empty() {
            true => Self::None,
            false => Self::Listed(texts),
        }
    }

    fn regex(expression: &str) -> Self {
        Self::Expression {
            text: format!("/{}/", llguidance::regex_to_lark(expression, "")),
            is_listed: false,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, other) | (other, Self::All) => other,
            (Self::Listed(a), Self::Listed(b)) => Self::listed(&a & &b),
            (a, b) => a.combined(" & ", b.is_listed() || a.is_listed(), &b),
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, other) | (other, Self::None) => other,
            (Self::Listed(a), Self::Listed(b)) => Self::listed(&a | &b),
            (a, b) => a.combined(" | ", b.is_listed() && a.is_listed(), &b),
        }
    }

    fn combined(&self, operator: &str, is_listed: bool, other: &Self) -> Self {
        let text = |set: &Self| set.expression().unwrap_or_default();
        Self::Expression {
            text: format!("({}{operator}{})", text(self), text(other)),
            is_listed,
        }
    }
}

/// Reads the strings that schemas accept.
pub(crate) struct StringReader<'a> {
    references: References<'a>,
    read: Cell<usize>,
}

impl<'a> StringReader<'a> {
    pub(crate) fn new(references: References<'a>) -> Self {
        Self {
            references,
            read: Cell::new(0),
        }
    }

    /// The strings that the schema at `path` accepts.
    ///
    /// # Errors
    /// A keyword that cannot be enforced.
    pub(crate) fn strings(&self, schema: &Value, path: &str) -> Result<Strings, GrammarError> {
        self.at(schema, path, 0)
    }

    fn at(&self, schema: &Value, path: &str, depth: usize) -> Result<Strings, GrammarError> {
        self.read.set(self.read.get() + 1);
        if depth > MAX_DEPTH || self.read.get() > MAX_READ {
            return Err(GrammarError::TooComplex {
                path: path.into(),
                reason: "its references are too many, or refer to themselves".into(),
            });
        }
        let object = match schema {
            Value::Bool(false) => return Ok(Strings::None),
            Value::Object(object) => object,
            _ => return Ok(Strings::All),
        };
        let is_string = |name: &Value| name == "string";
        let allowed = match object.get("type") {
            None => true,
            Some(Value::Array(names)) => names.iter().any(is_string),
            Some(name) => is_string(name),
        };
        if !allowed {
            return Ok(Strings::None);
        }
        for keyword in ["not", "if", "$dynamicRef", "$recursiveRef"] {
            if object.contains_key(keyword) {
                return Err(refused(path, keyword, "cannot be enforced for a string"));
            }
        }
        let mut strings = self.own(object, path)?;
        if let Some(target) = self.references.target(object) {
            let Some(target) = target else {
                return Err(refused(path, "$ref", "refers to no place in this schema"));
            };
            strings = strings.and(self.at(target, &format!("{path}.$ref"), depth + 1)?);
        }
        let branches = |keyword: &'static str| {
            let list = object.get(keyword).and_then(Value::as_array);
            list.into_iter()
                .flatten()
                .enumerate()
                .map(move |(index, branch)| {
                    self.at(branch, &format!("{path}.{keyword}[{index}]"), depth + 1)
                })
        };
        for branch in branches("allOf") {
            strings = strings.and(branch?);
        }
        if object.contains_key("anyOf") {
            let either = branches("anyOf").try_fold(Strings::None, |all, branch| {
                Ok::<_, GrammarError>(all.or(branch?))
            })?;
            strings = strings.and(either);
        }
        if object.contains_key("oneOf") {
            let branches = branches("oneOf").collect::<Result<Vec<_>, _>>()?;
            let one = one_of(branches).ok_or_else(|| {
                refused(path, "oneOf", "has several branches for the same string")
            })?;
            strings = strings.and(one);
        }
        Ok(strings)
    }

    /// What the keywords about strings accept.
    fn own(&self, object: &Map<String, Value>, path: &str) -> Result<Strings, GrammarError> {
        let mut strings = Strings::All;
        let texts = |values: &[Value]| {
            let texts = values.iter().filter_map(Value::as_str).map(str::to_owned);
            Strings::listed(texts.collect())
        };
        if let Some(values) = object.get("enum").and_then(Value::as_array) {
            strings = strings.and(texts(values));
        }
        if let Some(value) = object.get("const") {
            strings = strings.and(texts(std::slice::from_ref(value)));
        }
        let count = |key: &str| object.get(key).and_then(Value::as_u64);
        let (min, max) = (count("minLength").unwrap_or(0), count("maxLength"));
        if min > 0 || max.is_some() {
            if max.is_some_and(|max| max < min) {
                return Ok(Strings::None);
            }
            let max = max.map(|max| max.to_string()).unwrap_or_default();
            strings = strings.and(Strings::regex(&format!("(?s:.{{{min},{max}}})")));
        }
        if let Some(pattern) = object.get("pattern").and_then(Value::as_str) {
            let expression = patterns::pattern(pattern).map_err(|error| {
                let error = format!("this pattern cannot be enforced: {error}");
                GrammarError::compile(&format!("{path}.pattern"), &error)
            })?;
            strings = strings.and(Strings::regex(&expression));
        }
        let format = object.get("format").and_then(Value::as_str);
        if let Some(expression) = format.and_then(patterns::format) {
            strings = strings.and(Strings::regex(expression));
        }
        Ok(strings)
    }
}

/// The strings of exactly one branch; none if branches may have a string in common.
fn one_of(branches: Vec<Strings>) -> Option<Strings> {
    let mut all = Strings::None;
    for branch in branches {
        let disjoint = match (&all, &branch) {
            (Strings::None, _) | (_, Strings::None) => true,
            (Strings::Listed(a), Strings::Listed(b)) => a.is_disjoint(b),
            _ => false,
        };
        if !disjoint {
            return None;
        }
        all = all.or(branch);
    }
    Some(all)
}

pub(crate) fn refused(path: &str, keyword: &str, why: &str) -> GrammarError {
    GrammarError::Refused {
        path: format!("{path}.{keyword}"),
        reason: format!("`{keyword}` {why}; remove it, or set strict to false"),
    }
}
