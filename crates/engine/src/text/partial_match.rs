//! Searching a stream: the end of the text so far may be the beginning of a match.

/// How many bytes at the end of `text` are the beginning of `needle`, but not all of it.
pub(crate) fn begun(text: &str, needle: &str) -> usize {
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    let longest = needle.len().saturating_sub(1).min(text.len());
    (1..=longest)
        .rev()
        .find(|&n| text.ends_with(&needle[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::begun;

    #[test]
    fn longest_partial_match_is_returned() {
        assert_eq!(begun("one <to", "<tool>"), 3);
        assert_eq!(begun("aab aa", "aaab"), 2);
        assert_eq!(begun("<tool>", "<tool>"), 0);
        assert_eq!(begun("", "x"), 0);
        assert_eq!(begun("x", ""), 0);
        assert_eq!(begun("日", "日本"), 3);
    }
}
