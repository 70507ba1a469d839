//! What lets the daemon in at the backend.

use std::path::Path;

use hyper::header::{HeaderValue, InvalidHeaderValue};
use noxrunner_protocol::http::{self, BaseUrl, PlainToken, Token};

/// Why there is no token to send.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file has none, or not for this daemon alone.
    #[error("{0}: {hint}", hint = .0.hint())]
    File(#[from] http::TokenError),
    /// Everybody on the way could read it.
    #[error(transparent)]
    Plain(#[from] PlainToken),
    /// It has characters that no header can have.
    #[error(transparent)]
    Malformed(#[from] InvalidHeaderValue),
}

/// The header that carries the token of a file to this backend.
///
/// # Errors
/// Why it cannot be sent, or should not.
pub(super) fn header(path: &Path, url: &BaseUrl) -> Result<HeaderValue, TokenError> {
    let token = Token::read(path)?;
    token.may_go_to(url)?;
    let mut header = HeaderValue::from_str(&token.header())?;
    // Not shown where a request is.
    header.set_sensitive(true);
    Ok(header)
}
