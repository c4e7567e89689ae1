//! Whether an answer contains the expected one.

/// Whether `answer` contains `expected`. One expected word must be a word of the answer, so that `14` and `-4` are not `4`;
/// several words must occur as they are. Punctuation around words, as in `**4**.`, does not count.
pub fn contains_answer(answer: &str, expected: &str) -> bool {
    let expected = expected.trim();
    if expected.is_empty() || expected.contains(char::is_whitespace) {
        return answer.contains(expected);
    }
    let is_expected = |word: &str| {
        let punctuation = |c: char| c.is_ascii_punctuation() && c != '-';
        // The punctuation may be a part of what is expected.
        word.trim_matches(punctuation) == expected.trim_matches(punctuation)
            && word.contains(expected)
    };
    answer
        .split(|c: char| c.is_whitespace() || c == '=')
        .any(is_expected)
}

#[cfg(test)]
mod tests {
    use super::contains_answer;

    #[test]
    fn expected_number_matches_that_number_only() {
        for right in [
            "4",
            " 4.",
            "**4**",
            "2 + 2 = 4",
            "2+2=4",
            "The answer is (4)!",
        ] {
            assert!(contains_answer(right, "4"), "{right}");
        }
        for wrong in ["14", "444", "-4", "4.5", "42", "", "four"] {
            assert!(!contains_answer(wrong, "4"), "{wrong}");
        }
        assert!(contains_answer("It is Paris, of course.", "Paris"));
        assert!(contains_answer("That is New York.", "New York"));
        assert!(!contains_answer("York", "New York"));
        assert!(contains_answer("It is 50%.", "50%"));
    }
}
