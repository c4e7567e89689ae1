//! The constraints of a model: compiled once for each set of rules.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};

use crate::constraint::{Compiled, Constraint, Marks};
use crate::locate::locate;
use crate::schema::Schema;
use crate::{CallRules, Format, GrammarError, Rules, Vocabulary};

/// Rules whose compiled form is kept.
const KEPT: usize = 32;
/// States of a lexer, at most: each takes one to two kilobytes.
const LEXER_STATES: usize = 50_000;
/// Symbols in the productions of a grammar, at most.
const GRAMMAR_SIZE: usize = 200_000;
/// Items in a row of the parser, at most: an object has some for each of its optional properties.
const ROW_ITEMS: usize = 20_000;
/// Items for a mask, at most. The engine limits their time too.
const MASK_ITEMS: usize = 200_000;

/// Expressions of the lexer for a mask, at most: a string of a bounded length that may not contain its closing tag has many.
const MASK_FUEL: u64 = 20_000_000;

/// Functions that are compiled on their own to find those whose schemas are refused, at most. The client writes them, and the
/// schemas of further ones that are not strict are left out as well.
const MAX_ALONE: usize = 50;

/// Compiles rules for one model's vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    marks: Arc<Marks>,
    kept: Mutex<VecDeque<(Rules, Arc<Compiled>)>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// Builds the trie of a vocabulary: a fraction of a second for 250,000 tokens.
    ///
    /// # Errors
    /// If the vocabulary has no token that ends a sequence.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, GrammarError> {
        let environment = vocabulary.environment()?;
        let failed = |e: anyhow::Error| GrammarError::Vocabulary(e.to_string());
        let mut factory = ParserFactory::new_simple(&environment).map_err(failed)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.max_lexer_states = LEXER_STATES;
        limits.max_grammar_size = GRAMMAR_SIZE;
        limits.max_items_in_row = ROW_ITEMS;
        limits.step_max_items = MASK_ITEMS;
        limits.step_lexer_fuel = MASK_FUEL;
        Ok(Self {
            factory,
            marks: Arc::new(Marks::new(vocabulary, environment)),
            kept: Mutex::default(),
        })
    }

    /// A constraint at the start of an answer; none if the rules allow everything. With `thinking` the prompt has
    /// opened the reasoning, and the rules apply behind it.
    ///
    /// # Errors
    /// If the rules are invalid, not supported or too complex.
    pub fn compile(
        &self,
        rules: &Rules,
        thinking: bool,
    ) -> Result<Option<Constraint>, GrammarError> {
        self.compile_while(rules, thinking, &|| true)
    }

    /// Like [`Grammars::compile`], and gives up the search for the place of an error, and for tools that are refused, once
    /// `is_wanted` says no.
    ///
    /// # Errors
    /// As [`Grammars::compile`].
    pub fn compile_while(
        &self,
        rules: &Rules,
        thinking: bool,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Constraint>, GrammarError> {
        if !rules.constrain() {
            return Ok(None);
        }
        let compiled = self.compiled(rules, is_wanted)?;
        Ok(Some(Constraint::new(
            compiled,
            Arc::clone(&self.marks),
            thinking,
        )))
    }

    fn compiled(
        &self,
        rules: &Rules,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Arc<Compiled>, GrammarError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = kept();
        if let Some(at) = entries.iter().position(|(known, _)| known == rules) {
            let entry = entries.remove(at);
            let compiled = entry.as_ref().map(|(_, compiled)| Arc::clone(compiled));
            entries.extend(entry);
            if let Some(compiled) = compiled {
                return Ok(compiled);
            }
        }
        drop(entries);
        let compiled = Arc::new(self.compile_rules(rules, is_wanted)?);
        let mut entries = kept();
        entries.push_back((rules.clone(), Arc::clone(&compiled)));
        if entries.len() > KEPT {
            entries.pop_front();
        }
        Ok(compiled)
    }

    fn compile_rules(
        &self,
        rules: &Rules,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Compiled, GrammarError> {
        let answer = rules.answer.as_ref();
        let Some(calls) = rules.calls.as_ref() else {
            let matcher = match answer {
                Some(format) => Some(self.answer(format, is_wanted)?),
                None => None,
            };
            let path = answer.map_or("response_format", Format::path);
            return Ok(Compiled::answer(matcher, path));
        };
        match self.compile_calls(calls, answer, is_wanted) {
            Err(error) if !calls.tools.iter().all(|tool| tool.strict) => {
                let attempts = Cell::new(0);
                let compiles = |calls: &CallRules| {
                    attempts.set(attempts.get() + 1);
                    attempts.get() <= MAX_ALONE
                        && is_wanted()
                        && calls.lark(&self.marks).is_ok_and(|written| {
                            let text = format!("start: {}\n{}", written.body, written.rules);
                            self.matcher(&text).is_ok()
                        })
                };
                let relaxed = calls.relaxed(compiles);
                // A search that was given up says nothing about the tools, and what is compiled is kept for other requests.
                match relaxed == *calls || !is_wanted() {
                    true => Err(error),
                    false => self.compile_calls(&relaxed, answer, is_wanted),
                }
            }
            compiled => compiled,
        }
    }

    fn compile_calls(
        &self,
        calls: &CallRules,
        answer: Option<&Format>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Compiled, GrammarError> {
        let written = calls.lark(&self.marks)?;
        if !calls.required && answer.is_none() {
            let body = format!("start: {}\n{}", written.body, written.rules);
            let matcher = self.calls(&body, calls, is_wanted)?;
            return Ok(Compiled::optional_calls(
                matcher,
                calls.parallel,
                calls.path(),
            ));
        }
        let alternatives = match answer {
            Some(format) if !calls.required => {
                let Some(operand) = format.lark()? else {
                    return Err(GrammarError::Refused {
                        path: format.path().into(),
                        reason: "a grammar cannot be combined with tools; send one of them".into(),
                    });
                };
                self.answer(format, is_wanted)?;
                format!("calls | answer\nanswer: {operand}")
            }
            _ => "calls".to_owned(),
        };
        let text = format!(
            "start: {alternatives}\ncalls: {}\n{}",
            written.calls, written.rules
        );
        let matcher = self.calls(&text, calls, is_wanted)?;
        let answer = answer.filter(|_| !calls.required);
        Ok(Compiled::calls(
            matcher,
            calls.path(),
            answer.map(Format::path),
        ))
    }

    /// The matcher of an answer's form.
    fn answer(
        &self,
        format: &Format,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Matcher, GrammarError> {
        let text = match (format.lark()?, format) {
            (None, Format::Lark(source)) => source.clone(),
            (operand, _) => format!("start: {}", operand.unwrap_or_default()),
        };
        self.matcher(&text).map_err(|error| {
            let located = match format {
                Format::Schema {
                    schema,
                    path,
                    lenient,
                } => Schema::check(schema, path, *lenient)
                    .ok()
                    .and_then(|schema| self.locate(&schema, is_wanted)),
                _ => None,
            };
            located.unwrap_or_else(|| GrammarError::compile(format.path(), &error))
        })
    }

    /// The matcher of a grammar of calls.
    fn calls(
        &self,
        text: &str,
        calls: &CallRules,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Matcher, GrammarError> {
        self.matcher(text).map_err(|error| {
            let located = calls
                .schemas()
                .into_iter()
                .find_map(|schema| self.locate(&schema, is_wanted));
            located.unwrap_or_else(|| GrammarError::compile(calls.path(), &error))
        })
    }

    fn locate(&self, schema: &Schema, is_wanted: &dyn Fn() -> bool) -> Option<GrammarError> {
        let compiles = |operand: &str| self.matcher(&format!("start: %json {operand}")).map(drop);
        locate(schema, compiles, is_wanted)
    }

    /// Compiles a Lark grammar and computes its first mask, which shows limits that compiling does not.
    fn matcher(&self, text: &str) -> Result<Matcher, String> {
        let grammar = TopLevelGrammar::from_lark(text.to_owned());
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(error);
        }
        if !matcher.is_stopped() {
            matcher
                .deep_clone()
                .compute_mask_or_eos()
                .map_err(|e| e.to_string())?;
        }
        Ok(matcher)
    }
}
