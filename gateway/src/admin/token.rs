//! The bearer token of the admin API.

use std::{fs, io, path::Path};

use subtle::ConstantTimeEq as _;

use crate::keys::{KeyError, hex, random, refuse_shared, write_secret};

/// Shortest token, characters.
pub const TOKEN_MIN: usize = 16;
/// Largest token file, bytes.
const FILE_LEN_MAX: u64 = 4_096;

/// A token that is compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the first line of a file; makes the file, mode 0600, with a random token when it is missing.
    pub fn open(path: &Path) -> Result<Token, KeyError> {
        let io = |action| move |error| KeyError::Io { action, path: path.into(), error };
        if !path.exists() {
            let secret: [u8; 32] = random()?;
            write_secret(path, &format!("{}\n", hex(&secret))).map_err(io("cannot write the admin token to"))?;
            tracing::info!(file = %path.display(), "made a token for the admin API");
        }
        refuse_shared(path, 0o600)?;
        let length = fs::metadata(path).map_err(io("cannot look at"))?.len();
        if length > FILE_LEN_MAX {
            return Err(io("cannot use")(io::Error::other("a token file of more than 4 KiB")));
        }
        let text = fs::read_to_string(path).map_err(io("cannot read"))?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < TOKEN_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let what = format!("its first line is no token of {TOKEN_MIN} or more letters and digits");
            return Err(io("cannot use")(io::Error::other(what)));
        }
        Ok(Token(token.as_bytes().into()))
    }

    /// Whether an `Authorization` header carries this token.
    pub fn is_in(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|a| a.split_at_checked(7)) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(self.0.ct_eq(token))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_missing_file_is_made_and_a_shared_or_short_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let token = Token::open(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let header = format!("Bearer {}", text.trim());
        assert!(token.is_in(Some(header.as_bytes())));
        assert!(
            Token::open(&path)
                .unwrap()
                .is_in(Some(header.to_ascii_uppercase().replace("BEARER", "bearer").to_lowercase().as_bytes()))
        );
        for bad in [None, Some(""), Some("Bearer "), Some("Basic abc"), Some(text.trim()), Some(&header[..header.len() - 1])] {
            assert!(!token.is_in(bad.map(str::as_bytes)), "{bad:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::open(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "short\n", "with spaces in the middle of it\n", &"x".repeat(5_000)] {
            fs::write(&path, bad).unwrap();
            assert!(Token::open(&path).is_err(), "{bad:?}");
        }
    }
}
