//! The secret that a backend may ask for.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::BaseUrl;

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: u64 = 8 * 1024;

/// A token would go over a network that others can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token would go to {base} as it is, where others on the way can read it: use https://")]
pub struct PlainToken {
    /// The backend.
    pub base: BaseUrl,
}

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// A bearer token (RFC 6750). It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could read it, too.
    #[error("others may read the token file {} (mode {mode:04o})", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its first line is no token.
    #[error(
        "the first line of the token file {} is no token: one to {MAX_TOKEN_BYTES} visible ASCII characters",
        .path.display()
    )]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

impl TokenError {
    /// What the caller can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "name a file that is there and that you may read".to_owned(),
            Self::Open { path, .. } => format!("close it with `chmod 600 {}`", path.display()),
            Self::NoToken { .. } => "put the token, and nothing else, in the first line".to_owned(),
        }
    }
}

impl Token {
    /// Reads the first line of a file that only its owner may read, without the white space
    /// around it.
    ///
    /// # Errors
    /// Where the file cannot be read, others may read it, or no token is in it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // Of what was opened: the name may stand for another file by now.
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_TOKEN_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
        let fits = !line.is_empty() && line.len() as u64 <= MAX_TOKEN_BYTES;
        match String::from_utf8(line.to_vec()) {
            Ok(token) if fits && token.bytes().all(|b| b.is_ascii_graphic()) => Ok(Self(token)),
            Ok(_) | Err(_) => Err(TokenError::NoToken { path: path.to_owned() }),
        }
    }

    /// The value of the header that carries it (RFC 6750, section 2.1).
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// The token itself, for comparing it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it may go there: not where others on the way could read it.
    ///
    /// # Errors
    /// [`PlainToken`] for a backend that is neither spoken to with TLS nor on the loopback.
    pub fn may_go_to(&self, base: &BaseUrl) -> Result<(), PlainToken> {
        if base.is_tls() || base.is_loopback() {
            return Ok(());
        }
        Err(PlainToken { base: base.clone() })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_line_of_a_closed_file_is_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = |content: &[u8], mode| {
            // One that nobody may write is made anew, not written to.
            let _ = fs::remove_file(&path);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        let token = read(b" \tabc.-_~+/=\r\nmore\xff\n", 0o600).unwrap();
        assert_eq!(token.header(), "Bearer abc.-_~+/=");
        assert_eq!(format!("{token:?}"), "Token(..)");
        read(b"abc", 0o400).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let error = read(b"abc", mode).unwrap_err();
            assert!(matches!(error, TokenError::Open { .. }), "{error}");
            assert!(error.hint().contains("chmod 600"));
        }
        let long = "x".repeat(9000);
        for content in [&b""[..], b"\nabc", b"a b", b"a\x1bb", b"\xff", long.as_bytes()] {
            let error = read(content, 0o600).unwrap_err();
            assert!(matches!(error, TokenError::NoToken { .. }), "{content:?}: {error}");
        }
        let error = Token::read(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, TokenError::Read { .. }), "{error}");
    }
}
