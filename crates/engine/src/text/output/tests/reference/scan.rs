//! The tags and the layout at one place of the output.

use super::super::super::tags::{MAX_TAG_BYTES, Tag};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum ReferenceFence {
    Partial,
    Whole,
}

/// The fence in white space with at most a fence in it.
pub(super) fn has_fence(lead: &str) -> Option<ReferenceFence> {
    match lead.matches('`').count() {
        0 => None,
        3 => Some(ReferenceFence::Whole),
        _ => Some(ReferenceFence::Partial),
    }
}

/// The length of the white space and the opening fence, or of a fence's beginning, that a text begins with.
pub(super) fn lead_len(text: &str, line_start: bool) -> usize {
    let ticks_at = text.len() - text.trim_start().len();
    if !line_start && !text[..ticks_at].contains('\n') {
        return ticks_at;
    }
    let rest = &text[ticks_at..];
    let ticks = rest.chars().take_while(|c| *c == '`').count().min(3);
    if ticks < 3 {
        return ticks_at + ticks;
    }
    let rest = &rest[3..];
    let mut named = 0;
    let mut len = ticks_at + 3;
    for (at, c) in rest.char_indices() {
        match c {
            ' ' | '\t' | '\r' => {}
            '\n' => {
                let after = &rest[at..];
                return len + after.len() - after.trim_start().len();
            }
            '0'..='9' | '-' if at == 0 => return len,
            'a'..='z' | 'A'..='Z' | '_' | '0'..='9' | '-' if named < 16 => named += 1,
            _ => return len,
        }
        len += 1;
    }
    len
}

/// The tag at a place, and where it ends.
pub(super) fn tag_at(text: &str, at: usize) -> Option<(Tag, usize)> {
    let blank = [' ', '\t'];
    let rest = text[at..].strip_prefix('<')?.trim_start_matches(blank);
    let (closing, rest) = match rest.strip_prefix('/') {
        Some(rest) => (true, rest.trim_start_matches(blank)),
        None => (false, rest),
    };
    let words = ["think", "tool_call", "function", "parameter"];
    let word = words.into_iter().find(|word| rest.starts_with(word))?;
    let rest = rest[word.len()..].trim_start_matches(blank);
    if let Some(after) = rest.strip_prefix('>') {
        let after = text.len() - after.len();
        let exact = matches!(&text[at..after], "<think>" | "</think>");
        let tag = match (word, closing) {
            ("tool_call", false) => Tag::OpenCall,
            ("tool_call", true) => Tag::CloseCall,
            ("function", true) => Tag::CloseFunction,
            ("parameter", true) => Tag::CloseParameter,
            ("think", false) if exact => Tag::OpenThink,
            ("think", true) if exact => Tag::CloseThink,
            _ => return None,
        };
        return Some((tag, after));
    }
    let rest = rest.strip_prefix('=').filter(|_| !closing)?;
    let len = rest.find(['<', '>', '\n'])?;
    let name = rest[..len].trim().to_owned();
    let stop = rest[len..].chars().next()?;
    if name.is_empty() || stop == '<' {
        return None;
    }
    let closed = stop == '>';
    let after = text.len() - rest.len() + len + usize::from(closed);
    if text.len() - rest.len() + len >= at + MAX_TAG_BYTES {
        return None;
    }
    match word {
        "function" => Some((Tag::Function { name, closed }, after)),
        "parameter" => Some((Tag::Parameter { name }, after)),
        _ => None,
    }
}

/// Whether an output that ends with `text` ends within a tag.
pub(super) fn is_partial_tag(text: &str) -> bool {
    let words = [
        "think",
        "/think",
        "tool_call",
        "/tool_call",
        "function",
        "/function",
        "parameter",
        "/parameter",
    ];
    let endings = words
        .iter()
        .flat_map(|word| (0..=word.len()).map(|from| &word[from..]));
    endings
        .flat_map(|rest| {
            [
                format!("{text}{rest}>"),
                format!("{text}{rest}=x>"),
                format!("{text}x>"),
            ]
        })
        .any(|whole| tag_at(&whole, 0).is_some_and(|(_, after)| after == whole.len()))
}
