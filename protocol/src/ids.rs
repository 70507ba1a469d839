//! Names and numbers that are checked once, when they are parsed, and need no
//! second look afterwards.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The name a caller gives a sandbox: 1 to 256 Unicode scalar values, none of
/// them a control character (category Cc), compared exactly and never normalized.
///
/// `a/b`, `ab` and `a_b` are three different sandboxes.
///
/// ```json
/// "my-session"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(
    feature = "openrpc",
    derive(schemars::JsonSchema),
    schemars(extend(
        "minLength" = 1,
        "maxLength" = limits::MAX_SESSION_ID_CHARS,
        "pattern" = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
    ))
)]
pub struct SessionId(String);

/// Why a string is no [`SessionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionIdError {
    /// The string has no characters.
    #[error("a session id must have at least one character")]
    Empty,
    /// The string is too long.
    #[error("a session id has at most 256 characters, this one has {0}")]
    TooLong(usize),
    /// The string has a control character.
    #[error("a session id must have no control characters, this one has U+{0:04X}")]
    Control(u32),
}

impl SessionId {
    /// The id as the caller spelled it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of the id that a directory name can show: ASCII letters, digits,
    /// `-` and `_` as they are, anything else as `_`, cut to 64 bytes.
    /// Different ids may share it.
    pub fn readable(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        self.0.chars().take(64).map(plain).collect()
    }
}

impl TryFrom<String> for SessionId {
    type Error = SessionIdError;

    fn try_from(id: String) -> Result<Self, SessionIdError> {
        // `char::is_control` is exactly the general category Cc.
        if let Some(c) = id.chars().find(|c| c.is_control()) {
            return Err(SessionIdError::Control(c.into()));
        }
        match id.chars().count() {
            0 => Err(SessionIdError::Empty),
            n if n > limits::MAX_SESSION_ID_CHARS => Err(SessionIdError::TooLong(n)),
            _ => Ok(Self(id)),
        }
    }
}

impl std::str::FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(id: &str) -> Result<Self, SessionIdError> {
        Self::try_from(id.to_owned())
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long a sandbox lives after it was last created or touched: a whole
/// number of seconds from 1 to 30 days, 900 where none is given.
///
/// ```json
/// 900
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Number", into = "u32")]
#[cfg_attr(
    feature = "openrpc",
    derive(schemars::JsonSchema),
    schemars(extend("type" = "integer", "minimum" = 1, "maximum" = limits::MAX_TTL_SECONDS))
)]
pub struct TtlSeconds(u32);

impl TtlSeconds {
    /// The time to live as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// The time to live in seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for TtlSeconds {
    fn default() -> Self {
        Self(limits::DEFAULT_TTL_SECONDS)
    }
}

/// The number is no time to live.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time to live is a whole number of seconds from 1 to 2592000 (30 days), not {0}")]
pub struct TtlError(String);

impl TryFrom<u64> for TtlSeconds {
    type Error = TtlError;

    fn try_from(seconds: u64) -> Result<Self, TtlError> {
        match u32::try_from(seconds) {
            Ok(s) if (1..=limits::MAX_TTL_SECONDS).contains(&s) => Ok(Self(s)),
            _ => Err(TtlError(seconds.to_string())),
        }
    }
}

impl TryFrom<serde_json::Number> for TtlSeconds {
    type Error = TtlError;

    fn try_from(n: serde_json::Number) -> Result<Self, TtlError> {
        n.as_u64().ok_or_else(|| TtlError(n.to_string())).and_then(Self::try_from)
    }
}

impl From<TtlSeconds> for u32 {
    fn from(ttl: TtlSeconds) -> u32 {
        ttl.0
    }
}

/// How long a command may run, counted from when its request was read: more
/// than 0 and at most 86,400 seconds, fractions allowed, 30 where none is given.
///
/// ```json
/// 30.0
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
#[cfg_attr(
    feature = "openrpc",
    derive(schemars::JsonSchema),
    schemars(extend("exclusiveMinimum" = 0, "maximum" = limits::MAX_TIMEOUT_SECONDS))
)]
pub struct TimeoutSeconds(f64);

impl TimeoutSeconds {
    /// The longest there is.
    pub const LONGEST: Self = Self(limits::MAX_TIMEOUT_SECONDS);

    /// The timeout as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }

    /// The timeout in seconds.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for TimeoutSeconds {
    fn default() -> Self {
        Self(limits::DEFAULT_TIMEOUT_SECONDS)
    }
}

/// The number is no timeout.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a timeout is more than 0 and at most 86400 seconds (24 hours), not {0}")]
pub struct TimeoutError(f64);

impl TryFrom<f64> for TimeoutSeconds {
    type Error = TimeoutError;

    fn try_from(seconds: f64) -> Result<Self, TimeoutError> {
        if seconds > 0.0 && seconds <= limits::MAX_TIMEOUT_SECONDS {
            Ok(Self(seconds))
        } else {
            Err(TimeoutError(seconds))
        }
    }
}

impl From<TimeoutSeconds> for f64 {
    fn from(timeout: TimeoutSeconds) -> f64 {
        timeout.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_checked_not_changed() {
        for good in ["a", "a/b", "..", "é", "\u{200b}", &"x".repeat(256), &"é".repeat(256)] {
            assert_eq!(good.parse::<SessionId>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<SessionId>(), Err(SessionIdError::Empty));
        assert_eq!("a\0".parse::<SessionId>(), Err(SessionIdError::Control(0)));
        assert_eq!("a\u{85}".parse::<SessionId>(), Err(SessionIdError::Control(0x85)));
        assert_eq!("x".repeat(257).parse::<SessionId>(), Err(SessionIdError::TooLong(257)));
    }

    #[test]
    fn the_readable_part_is_a_plain_file_name() {
        let readable = |s: &str| s.parse::<SessionId>().unwrap().readable();
        assert_eq!(readable("my-session_1"), "my-session_1");
        assert_eq!(readable("../a.b/é"), "___a_b__");
        assert_eq!(readable(&"é".repeat(200)).len(), 64);
    }

    #[test]
    fn numbers_outside_their_bounds_are_refused_with_the_bound() {
        for bad in ["0", "-1", "2592001", "1.5", "1e3", "99999999999999999999"] {
            let error = serde_json::from_str::<TtlSeconds>(bad).unwrap_err().to_string();
            assert!(error.contains("from 1 to 2592000"), "{bad}: {error}");
        }
        assert_eq!(serde_json::from_str::<TtlSeconds>("2592000").unwrap().get(), 2_592_000);
        for bad in ["0", "-0.0", "-1", "86400.1", "1e300"] {
            let error = serde_json::from_str::<TimeoutSeconds>(bad).unwrap_err().to_string();
            assert!(error.contains("at most 86400"), "{bad}: {error}");
        }
        assert_eq!(serde_json::from_str::<TimeoutSeconds>("0.25").unwrap().get(), 0.25);
    }
}
