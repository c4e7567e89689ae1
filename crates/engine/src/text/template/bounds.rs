//! Limits on templates: on their size when they are compiled, on steps, memory and output when they are rendered.
//!
//! A template comes with a checkpoint and the conversation from a client. Neither may end the process or keep it busy:
//! the compiler recurses over expressions, and a rendering can loop.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use serde_json::{Map, Value as Json};

use super::TemplateError;

/// The largest template, in bytes; Qwen3.5's has eight thousand.
const LARGEST_TEMPLATE: usize = 1 << 20;
/// The tags (`{{ … }}`, `{% … %}`) of a template: no nesting and no chain of `elif` is longer.
const MOST_TAGS: usize = 4096;
/// The tokens of one tag: no chain of operators is longer.
const LONGEST_TAG: usize = 4096;
/// Enough for both together, in an unoptimised build; only what is used of it costs memory.
const COMPILER_STACK: usize = 512 << 20;
/// Stack for macros that call themselves up to minijinja's limit, and for a conversation.
const RENDERER_STACK: usize = 64 << 20;
/// Stack for one more level of nested values. minijinja compares, displays and drops them recursively, and a level
/// costs at least one step.
const STACK_PER_STEP: usize = if cfg!(debug_assertions) { 4096 } else { 2048 };

/// The largest prompt that a rendering makes, in bytes: beyond any context.
pub(super) const LARGEST_PROMPT: usize = 64 << 20;

/// Stack that a thread needs on which [`ChatTemplate::render_in_place`](super::ChatTemplate::render_in_place) is called.
pub const RENDER_STACK: usize = RENDERER_STACK + STEPS_IN_PLACE as usize * STACK_PER_STEP;

/// Steps that a rendering on the caller's thread may take; one that needs more is repeated on a thread of its own. This
/// also limits what a long-lived thread's stack keeps in memory.
pub(super) const STEPS_IN_PLACE: u64 = 50_000;
/// A larger conversation is not tried on the caller's thread, in bytes: it takes more steps.
pub(super) const LARGEST_IN_PLACE: usize = 512 << 10;

/// Steps that any rendering may take. A step is an instruction or 64 bytes written: this bounds memory as well.
const STEPS: u64 = 2_000_000;
/// A stack for fewer is not tried: a thread that renders in place has as many.
const FEWEST_STEPS: u64 = STEPS_IN_PLACE;
/// Bytes of the conversation that buy one more step; Qwen3.5's template takes a step for each 30 at most.
const BYTES_PER_STEP: usize = 4;

/// Refuses a template that is too large to be compiled.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    let refuse = |why: String| Err(TemplateError::TooComplex(why));
    if source.len() > LARGEST_TEMPLATE {
        return refuse(format!(
            "has {} bytes; {LARGEST_TEMPLATE} at most are compiled",
            source.len()
        ));
    }
    let syntax = SyntaxConfig::default();
    let (mut tags, mut tokens) = (0, 0);
    for token in tokenize(source, false, syntax) {
        // What is no token is a syntax error, for the compiler to report.
        let Ok((token, span)) = token else { break };
        tokens += 1;
        match token {
            Token::TemplateData(_) => tokens = 0,
            Token::VariableStart | Token::BlockStart => {
                tags += 1;
                tokens = 0;
            }
            _ => {}
        }
        if tags > MOST_TAGS {
            return refuse(format!("has more than {MOST_TAGS} tags"));
        }
        if tokens > LONGEST_TAG {
            return refuse(format!(
                "has an expression of more than {LONGEST_TAG} tokens in line {}",
                span.start_line
            ));
        }
    }
    Ok(())
}

/// Runs the compiler on a thread whose stack holds the deepest template that is accepted.
pub(super) fn compile<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    on_stack(COMPILER_STACK, work).map_err(|failure| {
        let stack = COMPILER_STACK;
        TemplateError::TooComplex(format!("cannot be compiled: {}", failure.message(stack)))
    })
}

/// Runs a rendering on a thread whose stack holds the deepest value that so many steps can make. Where the system refuses
/// such a stack, it has half the steps and half the stack, and so on; `work` gets the number of steps.
///
/// Every such value must be dropped in there. Only the pages of the stack that are used cost memory.
pub(super) fn render<T: Send>(
    mut steps: u64,
    mut work: impl FnMut(u64) -> T + Send,
) -> Result<T, TemplateError> {
    loop {
        let levels = usize::try_from(steps).unwrap_or(usize::MAX);
        let stack = levels
            .saturating_mul(STACK_PER_STEP)
            .saturating_add(RENDERER_STACK);
        match on_stack(stack, || work(steps)) {
            Err(StackFailure::Refused(_)) if steps > FEWEST_STEPS => steps /= 2,
            done => return done.map_err(|failure| TemplateError::Render(failure.message(stack))),
        }
    }
}

/// Why work on a large stack has no result.
enum StackFailure {
    /// The system gives no such thread: `work` has not begun.
    Refused(std::io::Error),
    Panicked,
}

impl StackFailure {
    fn message(&self, stack: usize) -> String {
        match self {
            Self::Refused(error) => {
                format!("the system refuses a thread with a stack of {stack} bytes: {error}")
            }
            Self::Panicked => "the template engine panicked".to_owned(),
        }
    }
}

/// Runs a rendering on this thread, whose stack is [`RENDER_STACK`] bytes.
pub(super) fn render_in_place<T>(work: impl FnOnce(u64) -> T) -> Result<T, TemplateError> {
    catch_unwind(AssertUnwindSafe(|| work(STEPS_IN_PLACE)))
        .map_err(|_| TemplateError::Render(StackFailure::Panicked.message(RENDER_STACK)))
}

fn on_stack<T: Send>(stack: usize, work: impl FnOnce() -> T + Send) -> Result<T, StackFailure> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("template".into())
            .stack_size(stack)
            .spawn_scoped(scope, work)
            .map_err(StackFailure::Refused)?
            .join()
            .map_err(|_| StackFailure::Panicked)
    })
}

/// The steps that a rendering of so many bytes may take.
pub(super) fn fuel(bytes: usize) -> u64 {
    STEPS + (bytes / BYTES_PER_STEP) as u64
}

/// Bytes of the texts in all of these values, and a few for each value.
pub(super) fn size_of(variables: &Map<String, Json>) -> usize {
    variables.values().map(size).sum()
}

fn size(value: &Json) -> usize {
    const EACH: usize = 16;
    EACH + match value {
        Json::String(text) => text.len(),
        Json::Array(values) => values.iter().map(size).sum(),
        Json::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    }
}

/// The output so far.
pub(super) struct Bounded<'a> {
    text: Vec<u8>,
    should_continue: &'a (dyn Fn() -> bool + Sync),
    ended: Option<RenderEnd>,
}

/// Why a rendering was ended by a limit or by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenderEnd {
    /// Its client has disconnected.
    Stopped,
    /// It wrote too much.
    TooLong,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(should_continue: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            text: Vec::new(),
            should_continue,
            ended: None,
        }
    }

    pub(super) fn ended(&self) -> Option<RenderEnd> {
        self.ended
    }

    pub(super) fn into_text(self) -> String {
        // What minijinja writes are strings, each of them whole.
        String::from_utf8(self.text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let ended = if !(self.should_continue)() {
            Some(RenderEnd::Stopped)
        } else if self.text.len() + bytes.len() > LARGEST_PROMPT {
            Some(RenderEnd::TooLong)
        } else {
            None
        };
        if ended.is_some() {
            self.ended = ended;
            return Err(io::Error::other("the rendering was ended"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use serde_json::{Map, json};

    use super::*;
    use crate::text::template::ChatTemplate;

    fn refusal(source: &str) -> String {
        let error = ChatTemplate::new(source).unwrap_err();
        assert!(matches!(error, TemplateError::TooComplex(_)), "{error}");
        error.to_string()
    }

    fn render(source: &str, content: &str) -> Result<String, TemplateError> {
        let messages = [json!({ "role": "user", "content": content })];
        ChatTemplate::new(source)
            .unwrap()
            .render(&messages, &[], &Map::new())
    }

    /// No machine has an address space for the first one.
    #[test]
    fn rendering_has_fewer_steps_where_the_system_refuses_its_stack() {
        let steps = super::render(1 << 50, |steps| steps).unwrap();
        assert!((FEWEST_STEPS..1 << 40).contains(&steps), "{steps}");
        assert_eq!(super::render(10_000, |steps| steps).unwrap(), 10_000);
    }

    #[test]
    fn a_chain_of_200_000_terms_is_refused_by_name() {
        for (first, link) in [
            ("1", "+1"),
            ("x", ".x"),
            ("x", "|f"),
            ("x", "[0]"),
            ("1", " if 1 else 1"),
            ("1", " is a"),
        ] {
            let chain = format!("{{{{ {first}{} }}}}", link.repeat(200_000));
            let error = ChatTemplate::new(&chain).unwrap_err().to_string();
            assert!(
                error.contains("more than 4096 tokens in line 1")
                    || error.contains("bytes; 1048576 at most"),
                "{error}"
            );
        }
        assert!(refusal(&format!("\n{{{{ 1{} }}}}", "+1".repeat(5000))).ends_with("line 2"));
    }

    #[test]
    fn nesting_200_000_deep_is_refused_by_name() {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{1:", "}"),
            ("-", ""),
            ("not ", ""),
            ("f(", ")"),
        ] {
            let nested = format!(
                "{{{{ {}1{} }}}}",
                open.repeat(200_000),
                close.repeat(200_000)
            );
            refusal(&nested);
        }
        refusal(&format!(
            "{}{}",
            "{% if 1 %}".repeat(5000),
            "{% endif %}".repeat(5000)
        ));
        let chain = "{% elif 1 %}".repeat(5000);
        refusal(&format!("{{% if 1 %}}{chain}{{% endif %}}"));
        refusal(&" ".repeat(LARGEST_TEMPLATE + 1));
    }

    #[test]
    fn the_longest_chains_that_are_accepted_compile() {
        let chain = format!("{{{{ 1{} }}}}", "+1".repeat(2000));
        assert_eq!(render(&chain, "").unwrap(), "2001");
        let filters = format!("{{{{ 'a'{} }}}}", "|trim".repeat(2000));
        assert_eq!(render(&filters, "").unwrap(), "a");
        let minus = format!("{{{{ {}1 }}}}", "-".repeat(4000));
        ChatTemplate::new(&minus).unwrap();
        let choice = format!(
            "{{% if 0 %}}{}{{% else %}}b{{% endif %}}",
            "{% elif 0 %}a".repeat(4000)
        );
        assert_eq!(render(&choice, "").unwrap(), "b");
        let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(2000), ")".repeat(2000));
        assert!(matches!(
            ChatTemplate::new(&parentheses),
            Err(TemplateError::Syntax(_))
        ));
    }

    #[test]
    fn a_template_that_loops_runs_out_of_steps() {
        let loops =
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        let error = render(loops, "").unwrap_err();
        assert!(
            matches!(error, TemplateError::TooMuchWork { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_template_that_doubles_a_text_runs_out_of_memory_that_it_may_use() {
        let doubles = "{% set n = namespace(t='ab') %}{% for a in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}";
        let error = render(doubles, "").unwrap_err();
        assert!(
            matches!(error, TemplateError::TooMuchWork { .. }),
            "{error}"
        );
        let repeats = "{{ 'x' * 10000000000 }}";
        assert!(render(repeats, "").is_err());
    }

    #[test]
    fn a_macro_that_calls_itself_is_an_error() {
        let error = render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "").unwrap_err();
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }

    #[test]
    fn a_prompt_beyond_any_context_is_refused() {
        let content = "x".repeat(1 << 20);
        let error = render(
            "{% for a in range(100) %}{{ messages[0].content }}{% endfor %}",
            &content,
        );
        let error = error.unwrap_err();
        assert!(matches!(error, TemplateError::TooLong { .. }), "{error}");
    }

    #[test]
    fn rendering_stops_when_the_caller_says_so() {
        let template = ChatTemplate::new("{% for a in range(1000) %}x{% endfor %}").unwrap();
        let left = AtomicUsize::new(10);
        let should_continue = || left.fetch_sub(1, Relaxed) > 1;
        let stopped = template.render_in_place(Vec::new(), &[], &Map::new(), &should_continue);
        assert_eq!(stopped, Err(TemplateError::Stopped));
        assert_eq!(left.load(Relaxed), 0);
    }

    #[test]
    fn rendering_in_place_continues_on_another_thread_where_it_needs_more_steps() {
        let source = "{% for a in range(99999) %}{{ a }}{% endfor %}";
        let template = ChatTemplate::new(source).unwrap();
        let here = template.render_in_place(Vec::new(), &[], &Map::new(), &|| true);
        assert_eq!(here, template.render(&[], &[], &Map::new()));
        assert!(here.is_ok_and(|prompt| prompt.ends_with("99998")));
    }

    /// A template that nests a value in 64 lists, again and again, until its steps are used up.
    fn nests(then: &str) -> String {
        let (open, close) = ("[".repeat(64), "]".repeat(64));
        format!(
            "{{% set n = namespace(t=1) %}}{{% for a in range(9999) %}}{{% set n.t = {open}n.t{close} %}}{{% endfor %}}{then}"
        )
    }

    #[test]
    fn value_nested_until_the_steps_end_is_an_error() {
        assert_eq!(render(&nests(""), "").as_deref(), Ok(""));
        let error = render(&nests("").replace("9999", "99999"), "").unwrap_err();
        assert!(
            matches!(error, TemplateError::TooMuchWork { .. }),
            "{error}"
        );
    }

    #[test]
    fn pprint_of_deeply_nested_value_is_an_error_at_once() {
        let start = std::time::Instant::now();
        let error = render(&nests("{{ n.t|pprint }}"), "").unwrap_err();
        assert!(error.to_string().contains("levels deep"), "{error}");
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }

    #[test]
    fn deeply_nested_values_are_compared_and_dropped() {
        // Fewer iterations, so that steps are left; two values, since one is equal to itself at once.
        let first = nests("").replace("9999", "6000");
        let second = first.replace("n.t", "m.t").replace("set n ", "set m ");
        for (operation, expected) in [
            ("n.t == n.t", "True"),
            ("n.t == m.t", "True"),
            ("n.t < m.t", "False"),
            ("n.t in [m.t]", "True"),
            ("[n.t, m.t]|unique|length", "1"),
            ("(n.t ~ '')|length", "768001"),
        ] {
            let source = format!("{first}{second}{{{{ {operation} }}}}");
            assert_eq!(render(&source, "").as_deref(), Ok(expected), "{operation}");
        }
    }

    #[test]
    fn the_largest_conversation_renders_within_its_steps() {
        let source = include_str!("../../../../../models/tiny/chat_template.jinja");
        let turn = |n: usize| match n % 2 {
            0 => json!({ "role": "user", "content": "Go on." }),
            _ => json!({ "role": "assistant", "content": "<think>\n\n</think>\n\nYes." }),
        };
        let messages: Vec<Json> = (0..16_383).map(turn).collect();
        let template = ChatTemplate::new(source).unwrap();
        let prompt = template.render(&messages, &[], &Map::new()).unwrap();
        assert!(prompt.len() > 16_384 * 20);
    }
}
