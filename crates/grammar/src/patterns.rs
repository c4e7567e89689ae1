//! Patterns and formats of JSON schemas as regular expressions of the compiler's dialect.

/// A pattern, which is searched for, as an expression that matches the whole text.
///
/// # Errors
/// What the dialect lacks: look-around, back-references, anchors inside groups.
pub(crate) fn pattern(pattern: &str) -> Result<String, String> {
    let expression = anchored(&ascii_classes(pattern));
    match llguidance::derivre::RegexBuilder::new().mk_regex(&expression) {
        Ok(_) => Ok(expression),
        Err(error) => Err(error.to_string()),
    }
}

/// `\\d`, `\\w` and `\\s` as ECMA-262 has them: ASCII, where this dialect has all of Unicode.
fn ascii_classes(pattern: &str) -> String {
    let mut ascii = String::with_capacity(pattern.len());
    let (mut chars, mut in_class) = (pattern.chars(), false);
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let class = match chars.next() {
                    Some('d') => "0-9",
                    Some('w') => "A-Za-z0-9_",
                    Some('s') => " \\t\\n\\r\\x0b\\x0c",
                    other => {
                        ascii.push('\\');
                        ascii.extend(other);
                        continue;
                    }
                };
                match in_class {
                    true => ascii += class,
                    false => ascii += &format!("[{class}]"),
                }
            }
            '[' => {
                in_class = true;
                ascii.push(c);
            }
            ']' => {
                in_class = false;
                ascii.push(c);
            }
            _ => ascii.push(c),
        }
    }
    ascii
}

/// The alternatives of a pattern, each anchored where it is not anchored itself.
fn anchored(pattern: &str) -> String {
    let alternatives: Vec<String> = alternatives(pattern).into_iter().map(whole).collect();
    match alternatives.as_slice() {
        [one] => one.clone(),
        several => format!("(?:{})", several.join("|")),
    }
}

fn whole(pattern: &str) -> String {
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => ("", rest),
        None => ("(?s:.*)", pattern),
    };
    let backslashes = |text: &str| text.len() - text.trim_end_matches('\\').len();
    let (rest, end) = match rest.strip_suffix('$') {
        Some(inner) if backslashes(inner) % 2 == 0 => (inner, ""),
        _ => (rest, "(?s:.*)"),
    };
    format!("{start}(?:{rest}){end}")
}

/// The parts of a pattern between each `|` that is in no group and in no class.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut in_class) = (Vec::new(), 0, 0_usize, false);
    let mut chars = pattern.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth = depth.saturating_sub(1),
            '|' if !in_class && depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    parts
}

/// A format as a regular expression (RFC 3339, 4122, 5321 in their common forms).
pub(crate) fn format(name: &str) -> Option<&'static str> {
    Some(match name {
        "date" => r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])",
        "time" => {
            r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        }
        "date-time" => {
            r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        }
        "uuid" => r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "email" => {
            r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?:\.[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)+"
        }
        "hostname" => {
            r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
        }
        "ipv4" => {
            r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
        }
        "ipv6" => {
            r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::1|(?:[0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}"
        }
        "uri" => {
            r"[a-zA-Z][a-zA-Z0-9+.-]*://[A-Za-z0-9._~-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?(?:\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?"
        }
        "duration" => r"P(?:[0-9]+W|[0-9]+D(?:T[0-9]+H)?|T[0-9]+[HMS])",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_a_pattern_are_ascii() {
        assert_eq!(
            ascii_classes(r"^\d{3}[\w.-]\.\S$"),
            r"^[0-9]{3}[A-Za-z0-9_.-]\.\S$"
        );
        assert_eq!(ascii_classes(r"a\"), r"a\");
    }

    #[test]
    fn pattern_without_anchors_is_searched_for() {
        assert_eq!(anchored("^a$"), "(?:a)");
        assert_eq!(anchored("a"), "(?s:.*)(?:a)(?s:.*)");
        assert_eq!(anchored(r"^a\$"), r"(?:a\$)(?s:.*)");
    }

    #[test]
    fn alternatives_of_a_pattern_are_anchored_one_by_one() {
        assert_eq!(anchored("^a|b$"), "(?:(?:a)(?s:.*)|(?s:.*)(?:b))");
        assert_eq!(anchored(r"^(a|b)[|]\|$"), r"(?:(a|b)[|]\|)");
    }

    #[test]
    fn pattern_with_look_around_is_an_error() {
        pattern("(?=a)b").unwrap_err();
        pattern("^[a-z]+$").unwrap();
    }
}
