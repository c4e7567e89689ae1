//! The text side of a checkpoint: tokenizer, chat template and end-of-sequence ids, from up to six files.

use serde::de::Error as _;
use serde_json::{Map, Value};

use super::error::LoadError;
use super::source::ModelSource;
use crate::json;
use crate::load::checkpoint::{CheckpointError, Files};
use crate::load::model_config::{ModelConfig, token_ids};
use crate::text::Text;
use crate::text::template::ChatTemplate;
use crate::text::tokenizer::Tokenizer;
use sanctum_manifest::TOOL_USE_TEMPLATE;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";

/// The files that decide what a model is asked and where it stops.
pub(super) const FILES: [&str; 6] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    TEMPLATE,
    GENERATION_CONFIG,
    TEMPLATE_JSON,
    TOOL_USE_TEMPLATE,
];

/// Reads them.
pub(super) fn read(
    files: &Files,
    config: &ModelConfig,
    source: &ModelSource,
) -> Result<Text, LoadError> {
    let from = From { files, source };
    let failed = |error| LoadError::Tokenizer {
        place: source.to_string(),
        source: error,
    };
    let file = files.require(TOKENIZER).map_err(|error| from.at(error))?;
    let tokenizer = Tokenizer::from_bytes(&file).map_err(failed)?;
    let tokenizer_config = from.object(TOKENIZER_CONFIG)?;
    let eos = from.end_of_sequence(config, &tokenizer, &tokenizer_config)?;
    let template = from.template(&tokenizer_config)?;
    if template.is_none() {
        tracing::warn!(
            model = %source,
            "there is no chat template, so /v1/chat/completions answers 400 and only /v1/completions serves this model; put the \
             chat_template.jinja of the base model into its folder and start again"
        );
    }
    Ok(Text::new(tokenizer, template, eos))
}

/// A checkpoint's files, and where they are from.
struct From<'a> {
    files: &'a Files,
    source: &'a ModelSource,
}

impl From<'_> {
    fn at(&self, error: CheckpointError) -> LoadError {
        LoadError::checkpoint(self.source, error)
    }

    fn damaged(&self, file: &str, reason: String) -> LoadError {
        let file = file.to_owned();
        self.at(CheckpointError::Damaged { file, reason })
    }

    /// The object in a JSON file; an empty one if there is no such file.
    fn object(&self, name: &str) -> Result<Value, LoadError> {
        let Some(file) = self.files.open(name).map_err(|error| self.at(error))? else {
            return Ok(Value::Object(Map::new()));
        };
        let object =
            json::parse::<Map<String, Value>>(&file).map_err(|source| LoadError::Json {
                path: self.files.path(name),
                source,
            })?;
        Ok(Value::Object(object))
    }

    /// Every end of sequence that any of the files names: an answer ends at each of them. A fine-tune often leaves its
    /// base model's in one of the files, and another file is all that knows the one that it was trained to write.
    fn end_of_sequence(
        &self,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        tokenizer_config: &Value,
    ) -> Result<Vec<u32>, LoadError> {
        const KEY: &str = "eos_token_id";
        let generation = self.object(GENERATION_CONFIG)?;
        let mut ids = token_ids(&generation[KEY]).map_err(|wanted| LoadError::Json {
            path: self.files.path(GENERATION_CONFIG),
            source: serde_json::Error::custom(format!("{KEY} is {}; {wanted}", generation[KEY])),
        })?;
        ids.extend(&config.eos);
        // A string, or an object that describes an added token.
        let token = &tokenizer_config["eos_token"];
        if let Some(token) = token.as_str().or_else(|| token["content"].as_str()) {
            match tokenizer.token_id(token) {
                Some(id) => ids.push(id),
                None => tracing::warn!(
                    model = %self.source,
                    token,
                    "the eos_token of tokenizer_config.json is not in tokenizer.json, so no answer ends with it"
                ),
            }
        }
        let mut known = std::collections::BTreeSet::new();
        ids.retain(|&id| known.insert(id));
        if ids.is_empty() {
            tracing::warn!(
                model = %self.source,
                "no end of sequence is named by generation_config.json, config.json or tokenizer_config.json: answers end \
                 at max_tokens only; give generation_config.json its `eos_token_id`"
            );
        }
        Ok(ids)
    }

    /// The chat template; none if no file has one.
    ///
    /// As in transformers, chat_template.jinja takes the place of all templates in tokenizer_config.json, a template for
    /// requests with tools lies in a folder beside it, and chat_template.json is what is left of processors' settings.
    fn template(&self, tokenizer_config: &Value) -> Result<Option<ChatTemplate>, LoadError> {
        let plain = self.file(TEMPLATE)?;
        let mut named = match plain {
            Some(source) => NamedTemplates::one(TEMPLATE, source),
            None => self.in_json(TOKENIZER_CONFIG, &tokenizer_config["chat_template"])?,
        };
        if named.is_empty() {
            let settings = self.object(TEMPLATE_JSON)?;
            named = self.in_json(TEMPLATE_JSON, &settings["chat_template"])?;
        }
        if let Some(source) = self.file(TOOL_USE_TEMPLATE)? {
            named.with_tools = Some((TOOL_USE_TEMPLATE, source));
        }
        let compile = |(file, source): (&str, String)| {
            let failed = |error| LoadError::Template {
                place: format!("{}: {file}", self.source),
                source: error,
            };
            let template = ChatTemplate::new(&source).map_err(failed)?;
            Ok::<_, LoadError>(template.with_special_tokens(tokenizer_config))
        };
        match named {
            NamedTemplates {
                plain: None,
                with_tools: None,
            } => Ok(None),
            NamedTemplates {
                plain: None,
                with_tools: Some((file, _)),
            } => {
                let reason = "it has the template tool_use, but there is none named default for other requests";
                Err(self.damaged(file, reason.to_owned()))
            }
            NamedTemplates {
                plain: Some(plain),
                with_tools,
            } => {
                let template = compile(plain)?;
                Ok(Some(match with_tools.map(compile).transpose()? {
                    None => template,
                    Some(other) => template.with_tool_use(other),
                }))
            }
        }
    }

    /// A file's text without a byte order mark; none if there is no such file.
    fn file(&self, name: &str) -> Result<Option<String>, LoadError> {
        let Some(file) = self.files.open(name).map_err(|error| self.at(error))? else {
            return Ok(None);
        };
        let text = String::from_utf8(json::without_byte_order_mark(&file).to_vec());
        text.map(Some)
            .map_err(|error| self.damaged(name, format!("it is not UTF-8: {}", error.utf8_error())))
    }

    /// The templates in a field `chat_template`: one, or several with names, as a list or as an object.
    fn in_json(&self, file: &'static str, field: &Value) -> Result<NamedTemplates, LoadError> {
        let pick = |name: &str| match field {
            Value::Array(list) => list
                .iter()
                .find(|entry| entry["name"] == name)
                .and_then(|entry| entry["template"].as_str()),
            map => map[name].as_str(),
        };
        match field {
            Value::Null => Ok(NamedTemplates::default()),
            Value::String(source) => Ok(NamedTemplates::one(file, source.clone())),
            Value::Array(_) | Value::Object(_) => {
                let [plain, with_tools] = ["default", "tool_use"]
                    .map(|name| pick(name).map(|source| (file, source.to_owned())));
                if plain.is_none() {
                    let reason = "`chat_template` has no template of the name `default`";
                    return Err(self.damaged(file, reason.to_owned()));
                }
                Ok(NamedTemplates { plain, with_tools })
            }
            _ => {
                let reason = "`chat_template` must be a text, or a list of named templates";
                Err(self.damaged(file, reason.to_owned()))
            }
        }
    }
}

/// The templates of a checkpoint that requests can call for, each with its file.
#[derive(Default)]
struct NamedTemplates {
    plain: Option<(&'static str, String)>,
    /// For requests with tools.
    with_tools: Option<(&'static str, String)>,
}

impl NamedTemplates {
    fn one(file: &'static str, source: String) -> Self {
        Self {
            plain: Some((file, source)),
            with_tools: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.plain.is_none() && self.with_tools.is_none()
    }
}

#[cfg(test)]
mod tests;
