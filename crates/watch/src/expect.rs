//! Whether an answer is the expected one.

/// Whether `answer` says `expect`: a single word must stand in it as a word of its own, so that `14` and `-4` are not `4`;
/// several words must stand in it as they are. Marks around words, as in `**4**.`, do not count.
pub fn answers(answer: &str, expect: &str) -> bool {
    let expect = expect.trim();
    if expect.is_empty() || expect.contains(char::is_whitespace) {
        return answer.contains(expect);
    }
    let bare = |word: &str| {
        let marks = |c: char| c.is_ascii_punctuation() && c != '-';
        // The marks may be a part of what is expected.
        word.trim_matches(marks) == expect.trim_matches(marks) && word.contains(expect)
    };
    answer
        .split(|c: char| c.is_whitespace() || c == '=')
        .any(bare)
}

#[cfg(test)]
mod tests {
    use super::answers;

    #[test]
    fn a_number_is_that_number_only() {
        for right in [
            "4",
            " 4.",
            "**4**",
            "2 + 2 = 4",
            "2+2=4",
            "The answer is (4)!",
        ] {
            assert!(answers(right, "4"), "{right}");
        }
        for wrong in ["14", "444", "-4", "4.5", "42", "", "four"] {
            assert!(!answers(wrong, "4"), "{wrong}");
        }
        assert!(answers("It is Paris, of course.", "Paris"));
        assert!(answers("That is New York.", "New York") && !answers("York", "New York"));
        assert!(answers("It is 50%.", "50%"));
    }
}
