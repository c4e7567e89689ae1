//! "Did you mean …": the known word nearest to an unknown one.

/// The letters in which a misspelt word differs, at most. Words that differ in more are other words, such as the fields
/// `reasoning_format` and `reasoning_effort`.
const MOST_EDITS: usize = 2;

/// The candidate nearest to `word`, if at most a third of the letters differ, and at most two.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = word.chars().count();
    let allowed = (letters / 3).clamp(1, MOST_EDITS);
    candidates
        .into_iter()
        // The distance is slow to compute, and at least the difference of the lengths.
        .filter(|candidate| candidate.chars().count().abs_diff(letters) <= allowed)
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

/// "; did you mean `x`?", else the known names, for a name of which an operator has few: the end of an error message.
pub fn did_you_mean_or_names<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    /// More names than this are not read.
    const SHOWN: usize = 20;
    let near = did_you_mean(word, known.clone());
    if !near.is_empty() {
        return near;
    }
    let names: Vec<&str> = known.clone().take(SHOWN).collect();
    match (names.is_empty(), known.count() > SHOWN) {
        (true, _) => "; none is defined".to_owned(),
        (false, false) => format!("; the names are {}", names.join(", ")),
        (false, true) => format!("; the names are {}, …", names.join(", ")),
    }
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
        assert_eq!(nearest("reasoning_format", ["reasoning_effort"]), None);
        assert_eq!(
            nearest("resoning_efort", ["reasoning_effort"]),
            Some("reasoning_effort")
        );
        assert_eq!(did_you_mean("lsiten", known), "; did you mean `listen`?");
        assert_eq!(did_you_mean(&"x".repeat(1 << 20), known), "");
    }

    #[test]
    fn name_that_is_near_to_none_lists_the_names() {
        let known = ["mini", "laptop"];
        let of = |word: &str| did_you_mean_or_names(word, known.into_iter());
        assert_eq!(of("mni"), "; did you mean `mini`?");
        assert_eq!(of("studio"), "; the names are mini, laptop");
        let none = did_you_mean_or_names("mini", std::iter::empty());
        assert_eq!(none, "; none is defined");
        let many = did_you_mean_or_names("mini", std::iter::repeat_n("x", 21));
        assert!(many.ends_with("x, …"), "{many}");
    }
}
