//! Which sandbox of the backend a session id of a local user's means.
//!
//! The backend knows one user: whoever's token the daemon has. The ids of the daemon's own user, and
//! of root, who may reach everybody's, are passed on as they are, so that they mean the same as
//! without a daemon between. Those of others (members of `--socket-group`, `--http-allow-uid`) get
//! `u<uid>.` in front: no two users' sandboxes meet, whatever they call them. What the daemon's
//! own user calls `u1001.x` is what the user 1001 calls `x`; the reverse cannot be said.

use noxrunner_protocol::SessionId;

use super::error::FrontError;

/// The id that the backend knows a sandbox by.
///
/// # Errors
/// Where it becomes too long.
pub(super) fn upstream_id(own: u32, caller: u32, id: &SessionId) -> Result<SessionId, FrontError> {
    if caller == own || caller == 0 {
        return Ok(id.clone());
    }
    let prefix = format!("u{caller}.");
    format!("{prefix}{id}").parse().map_err(|e| {
        FrontError::Invalid(format!("sessionId: {e}; {prefix:?} goes before it on the backend"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use noxrunner_protocol::limits::MAX_SESSION_ID_CHARS;

    #[test]
    fn users_do_not_meet() {
        let id = |text: &str| text.parse::<SessionId>().unwrap();
        let name = |caller, text: &str| upstream_id(1000, caller, &id(text)).unwrap().to_string();
        assert_eq!(name(1000, "s"), "s");
        assert_eq!(name(0, "s"), "s");
        assert_eq!(name(1001, "s"), "u1001.s");
        // Whatever they are called, the part before the first dot is the user's own.
        assert_eq!(name(1001, "u1002.s"), "u1001.u1002.s");
        assert_ne!(name(100, "1.s"), name(1001, "s"));
        assert_eq!(name(1001, "a/b"), "u1001.a/b");
    }

    #[test]
    fn an_id_may_become_too_long() {
        let id: SessionId = "x".repeat(MAX_SESSION_ID_CHARS).parse().unwrap();
        upstream_id(1000, 1000, &id).unwrap();
        let error = upstream_id(1000, 1001, &id).unwrap_err().to_string();
        assert!(error.contains("u1001."), "{error}");
    }
}
