//! "Did you mean …": the known word nearest to an unknown one.

/// The candidate nearest to `word`, if at most a third of the letters differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// "; did you mean `x`?", or nothing when no candidate is near: the end of an error message.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // The comparison of a long word is slow, and a long word is not a typing error.
    if word.len() > 64 {
        return String::new();
    }
    nearest(word, candidates).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let known = ["listen", "tls_listen", "models"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("model", known), Some("models"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(did_you_mean("lsiten", known), "; did you mean `listen`?");
        assert_eq!(did_you_mean(&"x".repeat(1 << 20), known), "");
    }
}
