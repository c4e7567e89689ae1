//! Bearer tokens: how one is read from a request, and compared in constant time.
//!
//! Source: RFC 6750, section 2.1, for the header; RFC 9110, section 11.1, for its scheme, which has no case.

use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Where clients of Anthropic's API put their token.
const API_KEY: &str = "x-api-key";
/// The fewest characters that a token may have: 128 bits as hexadecimal digits.
pub(crate) const SHORTEST: usize = 32;

/// A token that was presented or is expected, as its SHA-256.
///
/// Digests have one length, so that a comparison reveals nothing about the length of the token, which itself is in memory
/// only while it is read.
pub(crate) struct Token(Zeroizing<[u8; 32]>);

/// A text that cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// Too few characters to be hard to guess.
    #[error("has a token of {0} characters; {SHORTEST} are the fewest that are hard to guess")]
    Short(usize),
    /// It contains characters that no header can carry unchanged.
    #[error("has something other than one line of visible ASCII characters")]
    Letters,
}

/// The token in a request's headers.
pub(crate) enum Presented {
    /// Neither an `Authorization` nor an `x-api-key` header.
    None,
    /// A header that is not `Bearer` and a token, or several headers.
    Malformed,
    /// One token.
    Token(Token),
}

impl Token {
    /// The token in the content of a file, without white space at its end, which editors leave.
    pub(crate) fn expected(text: &[u8]) -> Result<Self, BadToken> {
        let text = text.trim_ascii_end();
        match text.len() {
            0 => Err(BadToken::Empty),
            _ if !visible(text) => Err(BadToken::Letters),
            short if short < SHORTEST => Err(BadToken::Short(short)),
            _ => Ok(Self::digest(text)),
        }
    }

    /// Whether both are the same, in a time that does not depend on how they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }

    fn digest(text: &[u8]) -> Self {
        Self(Zeroizing::new(Sha256::digest(text).into()))
    }
}

impl Presented {
    /// Reads the headers of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        match (all.next(), all.next()) {
            (None, _) => api_key(headers),
            (Some(one), None) => credentials(one.as_bytes()),
            // Two programs may differ about which of them counts.
            (Some(_), Some(_)) => Self::Malformed,
        }
    }
}

/// The token of an `x-api-key` header.
fn api_key(headers: &HeaderMap) -> Presented {
    let mut all = headers.get_all(API_KEY).iter().map(HeaderValue::as_bytes);
    match (all.next(), all.next()) {
        (None, _) => Presented::None,
        (Some(key), None) if !key.is_empty() && visible(key) => {
            Presented::Token(Token::digest(key))
        }
        _ => Presented::Malformed,
    }
}

/// `Bearer`, in any case, at least one space, and a token.
fn credentials(header: &[u8]) -> Presented {
    const SCHEME: &[u8] = b"bearer";
    let Some((scheme, rest)) = header.split_at_checked(SCHEME.len()) else {
        return Presented::Malformed;
    };
    let token = rest.trim_ascii();
    let apart = rest.first() == Some(&b' ');
    if !scheme.eq_ignore_ascii_case(SCHEME) || !apart || token.is_empty() || !visible(token) {
        return Presented::Malformed;
    }
    Presented::Token(Token::digest(token))
}

fn visible(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn presents(header: &[u8]) -> Option<bool> {
        let expected = Token::expected(TOKEN.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(header).ok()?);
        match Presented::of(&headers) {
            Presented::Token(token) => Some(token.matches(&expected)),
            Presented::None | Presented::Malformed => None,
        }
    }

    #[test]
    fn scheme_ignores_case_and_the_token_does_not() {
        for good in ["Bearer ", "bearer ", "BEARER ", "bEaReR   "] {
            assert_eq!(presents(format!("{good}{TOKEN}").as_bytes()), Some(true));
        }
        assert_eq!(presents(format!("Bearer {TOKEN} ").as_bytes()), Some(true));
        let upper = TOKEN.to_uppercase();
        assert_eq!(presents(format!("Bearer {upper}").as_bytes()), Some(false));
    }

    #[test]
    fn part_of_the_token_or_more_than_it_is_refused() {
        for wrong in [&TOKEN[..31], &TOKEN[1..], &format!("{TOKEN}0"), "x"] {
            assert_eq!(presents(format!("Bearer {wrong}").as_bytes()), Some(false));
        }
    }

    #[test]
    fn header_that_is_not_bearer_is_malformed() {
        let basic = format!("Basic {TOKEN}");
        let joined = format!("Bearer{TOKEN}");
        let tab = format!("Bearer\t{TOKEN}");
        let two = format!("Bearer {TOKEN} {TOKEN}");
        for bad in [&basic, &joined, &tab, &two, TOKEN, "Bearer", "Bearer ", ""] {
            assert_eq!(presents(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(presents("Bearer é".as_bytes()), None);
    }

    #[test]
    fn api_key_is_read_where_there_is_no_authorization() {
        let expected = Token::expected(TOKEN.as_bytes()).unwrap();
        let presents = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            match Presented::of(&map) {
                Presented::Token(token) => Some(token.matches(&expected)),
                Presented::Malformed | Presented::None => None,
            }
        };
        assert_eq!(presents(&[(API_KEY, TOKEN)]), Some(true));
        assert_eq!(presents(&[(API_KEY, "wrong")]), Some(false));
        assert_eq!(presents(&[(API_KEY, "")]), None);
        assert_eq!(presents(&[(API_KEY, TOKEN), (API_KEY, TOKEN)]), None);
        let other = format!("Bearer {}", TOKEN.replace('0', "1"));
        assert_eq!(
            presents(&[(API_KEY, TOKEN), ("authorization", &other)]),
            Some(false)
        );
    }

    #[test]
    fn two_headers_are_malformed_even_if_both_are_right() {
        let mut headers = HeaderMap::new();
        assert!(matches!(Presented::of(&headers), Presented::None));
        let value = HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap();
        headers.append(header::AUTHORIZATION, value.clone());
        assert!(matches!(Presented::of(&headers), Presented::Token(_)));
        headers.append(header::AUTHORIZATION, value);
        assert!(matches!(Presented::of(&headers), Presented::Malformed));
    }

    #[test]
    fn file_has_one_long_token_and_optional_newlines() {
        let error = |text: &str| Token::expected(text.as_bytes()).err();
        for good in ["", "\n", "\r\n", " \n\n"] {
            assert_eq!(error(&format!("{TOKEN}{good}")), None);
        }
        assert_eq!(error(""), Some(BadToken::Empty));
        assert_eq!(error("\n \n"), Some(BadToken::Empty));
        assert_eq!(error(&TOKEN[1..]), Some(BadToken::Short(31)));
        for bad in [
            format!("{TOKEN}\n{TOKEN}"),
            format!(" {TOKEN}"),
            format!("\u{feff}{TOKEN}"),
        ] {
            assert_eq!(error(&bad), Some(BadToken::Letters), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics_or_matches(bytes in proptest::collection::vec(0u8.., 0..80)) {
            proptest::prop_assert_ne!(presents(&bytes), Some(true));
        }

        #[test]
        fn visible_characters_are_read_unchanged(token in "[!-~]{32,80}", scheme in "(?i)bearer", spaces in " {1,3}") {
            let expected = Token::expected(token.as_bytes()).unwrap();
            match credentials(format!("{scheme}{spaces}{token}").as_bytes()) {
                Presented::Token(presented) => proptest::prop_assert!(presented.matches(&expected)),
                _ => proptest::prop_assert!(false, "{} was not taken", token),
            }
        }
    }
}
