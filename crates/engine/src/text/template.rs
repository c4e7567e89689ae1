//! From messages to a prompt: the checkpoint's chat template, rendered as Hugging Face's transformers renders it.
//!
//! Templates are Jinja, written against Python and the extras of transformers' `apply_chat_template`. minijinja renders
//! them; `environment` sets it up with those extras, `python` writes values as Python does, `methods` has the
//! methods of Python's strings. The prompt is to agree byte for byte, since a model has seen nothing else.
//!
//! Not as in Python, because minijinja decides it: `loop.last`, `length` and `revindex` in a loop over the characters of
//! a string, formatting by the `%` operator, and `x.keys is defined` (methods of a mapping can be called, but are not
//! seen as attributes). A number joined to a string by `~` is written without an exponent, and integers beyond 64 bits
//! are floats already when they come out of the JSON parser.

mod bounds;
mod environment;
mod error;
mod methods;
mod python;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json, json};

pub use bounds::RENDER_STACK;
use bounds::{Bounded, RenderEnd};
use environment::Raised;
pub use error::TemplateError;

const NAME: &str = "chat_template";

/// The tokens that `tokenizer_config.json` may name and templates may use.
const SPECIAL_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    /// What it reads.
    variables: BTreeSet<String>,
    /// Variables that the checkpoint sets.
    special_tokens: Map<String, Json>,
    /// Renders requests with tools.
    tool_use: Option<Arc<ChatTemplate>>,
}

impl ChatTemplate {
    /// Compiles a template, on a thread of its own whose stack holds the deepest one that is accepted.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], with the line; [`TemplateError::TooComplex`].
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        bounds::compile(|| Self::compile(source))?
    }

    fn compile(source: &str) -> Result<Self, TemplateError> {
        bounds::check(source)?;
        let mut environment = environment::new().map_err(syntax)?;
        environment
            .add_template_owned(NAME, environment::source(source))
            .map_err(syntax)?;
        let template = environment.get_template(NAME).map_err(syntax)?;
        let variables = template.undeclared_variables(false).into_iter().collect();
        Ok(Self {
            environment: Arc::new(environment),
            variables,
            special_tokens: Map::new(),
            tool_use: None,
        })
    }

    /// Has requests with tools rendered by another template, which the checkpoint names `tool_use`.
    pub fn with_tool_use(mut self, template: ChatTemplate) -> Self {
        self.variables.extend(template.variables.iter().cloned());
        self.tool_use = Some(Arc::new(template));
        self
    }

    /// The names of the variables that the template reads, beside those that it sets itself.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }

    /// The template itself, with the tags of trainers removed.
    pub fn source(&self) -> String {
        let template = self.environment.get_template(NAME);
        template.map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    /// A special token that the checkpoint names, such as `bos_token`.
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.special_tokens.get(name)?.as_str()
    }

    /// Whether a variable of this name can make a difference.
    pub fn reads(&self, name: &str) -> bool {
        self.variables.contains(name)
    }

    /// Whether the template accepts this value of its variable `reasoning_effort` while the model reasons: a template that
    /// knows a few levels only raises an error for any other. `has_tools`: for requests with tools.
    ///
    /// A short conversation is rendered, on the calling thread as in [`ChatTemplate::render_in_place`].
    pub fn accepts_reasoning_effort(&self, effort: &Json, has_tools: bool) -> bool {
        if let (Some(template), true) = (&self.tool_use, has_tools) {
            return template.accepts_reasoning_effort(effort, false);
        }
        let raises = |effort: Option<&Json>| {
            let mut variables = Map::new();
            variables.insert("enable_thinking".into(), true.into());
            if let Some(effort) = effort {
                variables.insert("reasoning_effort".into(), effort.clone());
            }
            let question = json!({ "role": "user", "content": "?" });
            let rendered = self.render_in_place(vec![question], &[], &variables, &|| true);
            matches!(rendered, Err(TemplateError::Raised(_)))
        };
        // A template that refuses the conversation itself says nothing about the level.
        !raises(Some(effort)) || raises(None)
    }

    /// Adds the special tokens that a `tokenizer_config.json` names, such as `bos_token`.
    pub fn with_special_tokens(mut self, tokenizer_config: &Json) -> Self {
        for name in SPECIAL_TOKENS {
            // A string, or an object that describes an added token.
            let token = &tokenizer_config[name];
            if let Some(text) = token.as_str().or_else(|| token["content"].as_str()) {
                self.special_tokens.insert(name.into(), text.into());
            }
        }
        self
    }

    /// The prompt for the model's next turn.
    ///
    /// `messages` and `tools` are in OpenAI's form; an assistant's tool calls may have their arguments as an object or
    /// as the JSON text that OpenAI's clients send. `variables` are the request's `chat_template_kwargs`;
    /// `enable_thinking` is false and `add_generation_prompt` true unless they are among them.
    ///
    /// # Errors
    /// Any but [`TemplateError::Syntax`] and [`TemplateError::TooComplex`]: the request is at fault.
    pub fn render(
        &self,
        messages: &[Json],
        tools: &[Json],
        variables: &Map<String, Json>,
    ) -> Result<String, TemplateError> {
        let messages = messages.iter().map(as_templates_expect).collect();
        let (template, variables) = self.prepare(messages, tools, variables);
        template.render_apart(&variables, &|| true)
    }

    /// The same, on the calling thread, whose stack must have [`RENDER_STACK`] bytes: to start a thread takes longer than
    /// to render a short conversation. What needs more than the stack allows is rendered on a thread of its own. Rendering
    /// stops when `should_continue`, which is called whenever something is written, returns false.
    ///
    /// `messages` have the form that templates expect: content is a string, arguments of tool calls are objects, and
    /// reasoning has the names `reasoning_content` and `thinking`.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`], and [`TemplateError::Stopped`].
    pub fn render_in_place(
        &self,
        messages: Vec<Json>,
        tools: &[Json],
        variables: &Map<String, Json>,
        should_continue: &(dyn Fn() -> bool + Sync),
    ) -> Result<String, TemplateError> {
        let (template, variables) = self.prepare(messages, tools, variables);
        if bounds::size_of(&variables) <= bounds::LARGEST_IN_PLACE {
            let here = |fuel| template.render_here(&variables, fuel, should_continue);
            match bounds::render_in_place(here)? {
                Err(TemplateError::TooMuchWork { .. }) => {}
                done => return done,
            }
        }
        template.render_apart(&variables, should_continue)
    }

    /// The template for a conversation and all variables that it is rendered with.
    fn prepare(
        &self,
        messages: Vec<Json>,
        tools: &[Json],
        variables: &Map<String, Json>,
    ) -> (&Self, Map<String, Json>) {
        if let (Some(template), [_, ..]) = (&self.tool_use, tools) {
            return template.prepare(messages, tools, variables);
        }
        let mut all = self.special_tokens.clone();
        all.extend([
            ("enable_thinking".to_owned(), false.into()),
            ("add_generation_prompt".to_owned(), true.into()),
            ("documents".to_owned(), Json::Null),
        ]);
        all.extend(variables.clone());
        all.insert("messages".into(), Json::Array(messages));
        let tools = match tools {
            [] => Json::Null,
            tools => Json::Array(tools.to_vec()),
        };
        all.insert("tools".into(), tools);
        (self, all)
    }

    /// Renders on a thread of its own.
    fn render_apart(
        &self,
        variables: &Map<String, Json>,
        should_continue: &(dyn Fn() -> bool + Sync),
    ) -> Result<String, TemplateError> {
        let fuel = bounds::fuel(bounds::size_of(variables));
        bounds::render(fuel, |fuel| {
            self.render_here(variables, fuel, should_continue)
        })?
    }

    /// Renders on this thread, whose stack must be large enough for values as deep as the fuel allows.
    fn render_here(
        &self,
        variables: &Map<String, Json>,
        fuel: u64,
        should_continue: &(dyn Fn() -> bool + Sync),
    ) -> Result<String, TemplateError> {
        // The parts that the environment is made of are shared: to give a rendering its own fuel costs no copy of them.
        let mut environment = Environment::clone(&self.environment);
        environment.set_fuel(Some(fuel));
        let mut out = Bounded::new(should_continue);
        let rendered = environment.get_template(NAME).and_then(|template| {
            template
                .render_captured_to(Value::from(Serde(variables)), &mut out)
                .map(drop)
        });
        match (rendered, out.ended()) {
            (Ok(()), None) => Ok(out.into_text()),
            (_, Some(RenderEnd::Stopped)) => Err(TemplateError::Stopped),
            (_, Some(RenderEnd::TooLong)) => Err(TemplateError::TooLong {
                limit: bounds::LARGEST_PROMPT,
            }),
            (Err(error), None) if error.kind() == ErrorKind::OutOfFuel => {
                let bytes = bounds::size_of(variables);
                Err(TemplateError::TooMuchWork { bytes })
            }
            (Err(error), None) => Err(failure(&error)),
        }
    }
}

fn syntax(error: minijinja::Error) -> TemplateError {
    TemplateError::Syntax(error.to_string())
}

/// Tells the template's own words from the engine's.
fn failure(error: &minijinja::Error) -> TemplateError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return TemplateError::Raised(message.clone());
        }
        cause = error.source();
    }
    TemplateError::Render(error.to_string())
}

/// A message as transformers shows it to templates: reasoning under the name that templates read (older clients say
/// `thinking` or `reasoning`), and tool calls with their arguments as an object.
fn as_templates_expect(message: &Json) -> Json {
    let mut message = message.clone();
    let Some(fields) = message.as_object_mut() else {
        return message;
    };
    let reasoning = ["reasoning_content", "thinking", "reasoning"]
        .iter()
        .find_map(|name| fields.get(*name).filter(|value| !value.is_null()).cloned());
    if let Some(reasoning) = reasoning {
        fields
            .entry("thinking")
            .or_insert_with(|| reasoning.clone());
        fields.insert("reasoning_content".into(), reasoning);
    }
    let calls = fields.get_mut("tool_calls").and_then(Json::as_array_mut);
    for call in calls.into_iter().flatten() {
        let function = match call.get("function") {
            Some(_) => &mut call["function"],
            None => call,
        };
        if let Some(arguments) = function.get_mut("arguments")
            && let Some(text) = arguments.as_str()
        {
            let text = if text.trim().is_empty() { "{}" } else { text };
            if let Ok(object) = serde_json::from_str::<Map<String, Json>>(text) {
                *arguments = Json::Object(object);
            }
        }
    }
    message
}

#[cfg(test)]
mod tests;
