//! Places in a client's body.

use std::fmt;

/// A place in a client's body, such as `input[2].content[0].text`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    text: String,
    /// Nothing inside it has a path of its own.
    opaque: bool,
}

impl Path {
    /// A top-level field.
    pub(crate) fn root(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            opaque: false,
        }
    }

    /// A top-level field that stands for everything that it refers to. `previous_response_id` is one: the client did
    /// not send the items behind it, so an error about any of them names the field.
    pub(crate) fn opaque(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            opaque: true,
        }
    }

    /// A member of the object at this path.
    pub(crate) fn field(&self, name: &str) -> Self {
        self.extended(|text| {
            text.push('.');
            text.push_str(name);
        })
    }

    /// An element of the array at this path.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.extended(|text| text.push_str(&format!("[{index}]")))
    }

    fn extended(&self, extend: impl FnOnce(&mut String)) -> Self {
        let mut path = self.clone();
        if !path.opaque {
            extend(&mut path.text);
        }
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
