//! What streaming searches share: a text's end may be the beginning of what is looked for.

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
    fn the_longest_beginning_counts() {
        assert_eq!(begun("one <to", "<tool>"), 3);
        assert_eq!(begun("aab aa", "aaab"), 2);
        assert_eq!(begun("<tool>", "<tool>"), 0);
        assert_eq!(begun("", "x"), 0);
        assert_eq!(begun("x", ""), 0);
        assert_eq!(begun("日", "日本"), 3);
    }
}
