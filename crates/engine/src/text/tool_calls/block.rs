//! The text between `<tool_call>` and `</tool_call>`: the grammar of the two forms.

use serde_json::{Map, Value};

/// What can be said of a block from the text after its opening tag.
///
/// More text never turns `Complete` or `Malformed` into something else.
#[derive(Debug, PartialEq)]
pub(super) enum Block {
    /// A call, closing tag included.
    Complete {
        /// Bytes of the block, closing tag included.
        len: usize,
        /// The function's name.
        name: String,
        /// Its arguments.
        parameters: Parameters,
    },
    /// It may yet become a call.
    Incomplete,
    /// It cannot become a call.
    Malformed,
}

/// The arguments of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Parameters {
    /// The JSON form: typed by the model.
    Typed(Map<String, Value>),
    /// The XML form: names and raw texts, whose types the tool's schema knows.
    Raw(Vec<(String, String)>),
}

pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

/// Why a parse cannot go on.
enum ParseStop {
    Incomplete,
    Malformed,
}

impl Block {
    /// Reads the text after an opening tag.
    pub(super) fn parse(text: &str) -> Self {
        let mut reader = BlockReader { rest: text };
        match reader.call() {
            Ok((name, parameters)) => Self::Complete {
                len: text.len() - reader.rest.len(),
                name,
                parameters,
            },
            Err(ParseStop::Incomplete) => Self::Incomplete,
            Err(ParseStop::Malformed) => Self::Malformed,
        }
    }

    /// Whether an incomplete block's beginning is past doubt, so that only a closing tag can decide it.
    pub(super) fn has_begun(text: &str) -> bool {
        text.trim_start().len() >= FUNCTION.len()
    }
}

struct BlockReader<'a> {
    rest: &'a str,
}

impl<'a> BlockReader<'a> {
    fn call(&mut self) -> Result<(String, Parameters), ParseStop> {
        self.skip_space();
        let call = if self.rest.starts_with('{') {
            self.json_call()?
        } else {
            self.xml_call()?
        };
        self.skip_space();
        self.expect(CLOSE)?;
        Ok(call)
    }

    fn json_call(&mut self) -> Result<(String, Parameters), ParseStop> {
        let mut values =
            serde_json::Deserializer::from_str(self.rest).into_iter::<Map<String, Value>>();
        let mut call = match values.next() {
            Some(Ok(call)) => call,
            Some(Err(error)) if !error.is_eof() => return Err(ParseStop::Malformed),
            _ => return Err(ParseStop::Incomplete),
        };
        self.rest = &self.rest[values.byte_offset()..];
        let Some(Value::String(name)) = call.remove("name").filter(|name| name != "") else {
            return Err(ParseStop::Malformed);
        };
        let arguments = match call.remove("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(Value::String(text)) => {
                serde_json::from_str(&text).map_err(|_| ParseStop::Malformed)?
            }
            Some(_) => return Err(ParseStop::Malformed),
        };
        Ok((name, Parameters::Typed(arguments)))
    }

    fn xml_call(&mut self) -> Result<(String, Parameters), ParseStop> {
        self.expect(FUNCTION)?;
        let name = self.tag_name()?;
        let mut parameters = Vec::new();
        loop {
            self.skip_space();
            if self.rest.starts_with(PARAMETER) {
                self.expect(PARAMETER)?;
                let name = self.tag_name()?;
                parameters.push((name, self.value()?));
            } else if PARAMETER.starts_with(self.rest) {
                return Err(ParseStop::Incomplete);
            } else {
                self.expect(FUNCTION_END)?;
                return Ok((name, Parameters::Raw(parameters)));
            }
        }
    }

    /// A parameter's text, without the line breaks that lay it out. It may hold anything, even `</parameter>`: it ends
    /// where what follows can only be the next parameter or the function's end.
    fn value(&mut self) -> Result<String, ParseStop> {
        for (at, _) in self.rest.match_indices(PARAMETER_END) {
            let after = self.rest[at + PARAMETER_END.len()..].trim_start();
            let follows = |tag: &str| after.starts_with(tag);
            if follows(PARAMETER) || follows(FUNCTION_END) {
                let value = &self.rest[..at];
                self.rest = after;
                let value = value.strip_prefix('\n').unwrap_or(value);
                return Ok(value.strip_suffix('\n').unwrap_or(value).to_owned());
            }
            if PARAMETER.starts_with(after) || FUNCTION_END.starts_with(after) {
                return Err(ParseStop::Incomplete);
            }
        }
        Err(ParseStop::Incomplete)
    }

    /// The rest of `<function=NAME>`.
    fn tag_name(&mut self) -> Result<String, ParseStop> {
        let end = self.rest.find(['>', '\n']).ok_or(ParseStop::Incomplete)?;
        let name = self.rest[..end].trim();
        if name.is_empty() || self.rest[end..].starts_with('\n') {
            return Err(ParseStop::Malformed);
        }
        self.rest = &self.rest[end + 1..];
        Ok(name.to_owned())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expect(&mut self, literal: &str) -> Result<(), ParseStop> {
        if let Some(rest) = self.rest.strip_prefix(literal) {
            self.rest = rest;
            return Ok(());
        }
        Err(if literal.starts_with(self.rest) {
            ParseStop::Incomplete
        } else {
            ParseStop::Malformed
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_beginning_of_a_block_is_incomplete() {
        for block in [
            "\n<function=f>\n<parameter=a>\nx</parameter>y\n</parameter>\n<parameter=b>\n</parameter>\n\
                </function>\n</tool_call>",
            "\n{\"name\": \"f\", \"arguments\": {\"a\": [true, \"\\ud83d\\ude00 é\"]}}\n</tool_call>",
        ] {
            for (at, _) in block.char_indices() {
                assert_eq!(Block::parse(&block[..at]), Block::Incomplete, "{at}");
            }
            assert!(
                matches!(Block::parse(block), Block::Complete { len, .. } if len == block.len())
            );
        }
    }

    #[test]
    fn a_value_loses_the_line_breaks_around_it_and_no_more() {
        let value = |text: &str| {
            let text =
                format!("<function=f><parameter=a>{text}</parameter></function></tool_call>");
            match Block::parse(&text) {
                Block::Complete {
                    parameters: Parameters::Raw(mut raw),
                    ..
                } => raw.remove(0).1,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(value("\nx\n"), "x");
        assert_eq!(value("\n\n x \n\n"), "\n x \n");
        assert_eq!(value("x"), "x");
        assert_eq!(value("\n"), "");
        assert_eq!(value(""), "");
    }

    proptest! {
        #[test]
        fn more_text_does_not_change_a_verdict(
            pieces in prop::collection::vec(prop_oneof![
                Just("<function=f>"), Just("</function>"), Just("<parameter=p>"), Just("</parameter>"),
                Just("</tool_call>"), Just("{\"name\": \"f\""), Just("}"), Just("\n"), Just("x"), Just("<"),
            ], 0..14),
        ) {
            let text = pieces.concat();
            let mut verdict = Block::Incomplete;
            for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let now = Block::parse(&text[..at]);
                if verdict != Block::Incomplete {
                    prop_assert_eq!(&now, &verdict);
                }
                verdict = now;
            }
        }
    }
}
