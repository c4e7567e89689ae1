//! Digests and keys in hexadecimal.

/// 32 bytes from 64 hex digits of either case, and nothing else.
pub(crate) fn hex_32(text: &[u8]) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_hex_digits_and_nothing_else() {
        let text = "00ff".repeat(16);
        let bytes = hex_32(text.as_bytes()).unwrap();
        assert_eq!(bytes[..2], [0x00, 0xff]);
        assert_eq!(hex_32(text.to_uppercase().as_bytes()), Some(bytes));
        for wrong in ["", "00", &text[1..], &format!("{text}0"), &"é".repeat(32)] {
            assert_eq!(hex_32(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
