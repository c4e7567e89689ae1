//! `token`: a bearer token for a server.

use zeroize::Zeroizing;

use super::CommandContext;
use crate::PkiError;
use crate::args::TokenArgs;
use crate::changes::Changes;

pub(crate) fn run(context: &mut CommandContext, args: &TokenArgs) -> Result<(), PkiError> {
    let server = context
        .maybe_fleet()
        .and_then(|fleet| fleet.servers.get(&args.name));
    let named = server.and_then(|server| server.auth.token_file.clone());
    let path = match &named {
        None => context.home.token(args.name.as_str()),
        Some(file) => match context.within_home(file) {
            Some(rest) => context.home.path().join(rest),
            None => {
                return Err(PkiError::Section {
                    section: format!("servers.{}", args.name),
                    why: format!(
                        "`token_file` is {file}, outside the home; move it to the home's secrets/, or run without --config \
                         and copy the file yourself"
                    ),
                });
            }
        },
    };
    if path.exists() && !args.force {
        return Err(PkiError::Exists {
            path,
            fix: "--force replaces it, and clients that use it are refused once the server has read the new one".into(),
        });
    }
    let mut changes = Changes::default();
    changes.new_secret(path.clone(), random_hex()?, args.force);
    context.say(format_args!(
        "{}wrote a new token to {}",
        context.would(),
        path.display()
    ))?;
    context.finish(changes)
}

/// 32 random bytes as 64 hex digits, and a newline.
fn random_hex() -> Result<Zeroizing<Vec<u8>>, PkiError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    // In one piece, since a buffer that grows leaves its earlier contents behind.
    let mut text = Zeroizing::new(Vec::with_capacity(65));
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_64_hex_digits_and_never_the_same() {
        let [a, b] = [random_hex().unwrap(), random_hex().unwrap()];
        assert_ne!(a, b);
        let (digits, end) = a.split_at(64);
        assert!(digits.iter().all(u8::is_ascii_hexdigit) && end == b"\n");
    }
}
