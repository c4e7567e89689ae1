//! The printable characters by which byte-level vocabularies spell bytes: GPT-2's `bytes_to_unicode`.

/// The character of each byte. A byte that is printable in Latin-1 is its own character; the others follow in order from
/// U+0100.
pub(super) struct Alphabet {
    chars: [char; 256],
}

impl Alphabet {
    pub(super) fn new() -> Self {
        let mut chars = ['\0'; 256];
        let mut next = 0x100;
        for byte in 0..=u8::MAX {
            chars[byte as usize] = match byte {
                b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
                _ => {
                    next += 1;
                    char::from_u32(next - 1).unwrap_or('\0')
                }
            };
        }
        Self { chars }
    }

    pub(super) fn char_of(&self, byte: u8) -> char {
        self.chars[byte as usize]
    }

    /// The bytes of a token; a token with a character outside the alphabet is spelled in UTF-8.
    pub(super) fn bytes_of(&self, token: &str) -> Vec<u8> {
        token
            .chars()
            .map(|c| match c {
                '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' => Some(c as u8),
                '\u{100}'..='\u{143}' => {
                    self.chars.iter().position(|&own| own == c).map(|b| b as u8)
                }
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .unwrap_or_else(|| token.as_bytes().to_vec())
    }
}
