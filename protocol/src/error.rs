//! Every error that can cross the wire: one closed enum, mapped both ways in
//! this file and nowhere else.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! error_kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident, $name:literal, $code:literal, $http:literal;)+) => {
        /// What went wrong, as a closed list. Each kind has a JSON-RPC code, an
        /// HTTP status and a stable name, which travels as `data.kind`.
        ///
        /// ```json
        /// "sandboxNotFound"
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The JSON-RPC error code.
            pub const fn code(self) -> i32 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The status of an HTTP answer that carries this error.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $http,)+ }
            }

            /// The stable name that travels as `data.kind`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The kind that has this JSON-RPC code, if one has.
            pub const fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

// The codes keep clear of -32001 to -32011, which jsonrpsee gives meanings of its own.
error_kinds! {
    /// The bytes are not JSON, or not UTF-8.
    ParseError, "parseError", -32700, 400;
    /// The JSON is not a JSON-RPC 2.0 request.
    InvalidRequest, "invalidRequest", -32600, 400;
    /// There is no such method.
    MethodNotFound, "methodNotFound", -32601, 404;
    /// A param is missing, unknown, of the wrong type or outside its bounds.
    InvalidArgument, "invalidArgument", -32602, 400;
    /// The daemon failed; its log says more.
    Internal, "internal", -32603, 500;
    /// The caller has no sandbox of that session id.
    SandboxNotFound, "sandboxNotFound", -32041, 404;
    /// There is no process of that id.
    ProcessNotFound, "processNotFound", -32042, 404;
    /// There is no such file.
    FileNotFound, "fileNotFound", -32043, 404;
    /// The path may not be used.
    PathDenied, "pathDenied", -32044, 403;
    /// What exists stands in the way: it exists already, is not a directory, is not empty, is leased elsewhere.
    Conflict, "conflict", -32045, 409;
    /// A limit on how many of something there may be is reached.
    LimitExceeded, "limitExceeded", -32046, 429;
    /// A request or its answer is larger than may travel.
    PayloadTooLarge, "payloadTooLarge", -32047, 413;
    /// The archive is damaged or not an archive.
    BadArchive, "badArchive", -32048, 400;
    /// There is no room left.
    StorageFull, "storageFull", -32049, 507;
    /// Not yet, or no longer: the daemon is starting or stopping.
    NotReady, "notReady", -32050, 503;
    /// The caller may not do this.
    Unauthorized, "unauthorized", -32051, 401;
    /// This daemon cannot do this.
    Unsupported, "unsupported", -32052, 501;
    /// The backend behind this daemon failed.
    Upstream, "upstream", -32053, 502;
    /// Policy refuses the command.
    CommandDenied, "commandDenied", -32054, 403;
    /// There is no such program, or it cannot be executed.
    CommandNotFound, "commandNotFound", -32055, 404;
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error as it crosses the wire: what went wrong, in words, and what to do next.
///
#[doc = concat!("```json\n", include_str!("../golden/rpc_error.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The same in words, about this very call.
    pub message: String,
    /// What the caller can do about it.
    pub hint: Option<String>,
}

impl RpcError {
    /// An error of this kind with this message and no hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same error with a hint what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for RpcError {}

/// The `data` member of an error.
///
/// ```json
/// {"kind": "sandboxNotFound", "hint": "create it first"}
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct ErrorData {
    /// The stable name of the error's kind.
    pub kind: String,
    /// What the caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ErrorObject {
    code: i32,
    message: String,
    #[serde(default)]
    data: Option<ErrorData>,
}

impl Serialize for RpcError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data = ErrorData { kind: self.kind.name().to_owned(), hint: self.hint.clone() };
        ErrorObject { code: self.kind.code(), message: self.message.clone(), data: Some(data) }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RpcError {
    /// A code that this version does not know reads as [`ErrorKind::Internal`]
    /// with the code in the message, so that nothing the other side said is lost.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ErrorObject { code, message, data } = ErrorObject::deserialize(deserializer)?;
        let hint = data.and_then(|d| d.hint);
        Ok(match ErrorKind::from_code(code) {
            Some(kind) => Self { kind, message, hint },
            None => Self {
                kind: ErrorKind::Internal,
                message: format!("{message} (unknown error code {code})"),
                hint,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_maps_both_ways_and_has_no_doubles() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert!(!(-32011..=-32001).contains(&kind.code()), "{kind} collides with jsonrpsee");
            assert!((400..600).contains(&kind.http_status()));
        }
        assert_eq!(ErrorKind::from_code(-1), None);
    }
}
