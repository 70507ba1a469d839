//! The JSON-RPC 2.0 envelope, one message a line.
//!
//! The daemon reads with [`parse`] and writes [`response`]s; a client writes
//! [`request`]s and reads with [`parse_response`]. Both sides meet here, and
//! nothing here waits for anything.

use std::borrow::Cow;
use std::{fmt, io};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::{ErrorKind, RpcError};
use crate::method::Method;

/// The id of a request, which its response repeats: a string, an unsigned
/// integer below 2^64, or null.
///
/// ```json
/// 1
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Id {
    /// `null`, also the id of an answer to something that had no readable id.
    Null,
    /// A number.
    Number(u64),
    /// A string.
    String(String),
}

// Not derived: that would copy each id into a value of any type first, and try one variant after another.
impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyOf;

        impl Visitor<'_> for AnyOf {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an unsigned integer below 2^64, or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Id, E> {
                Ok(Id::Null)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                Ok(Id::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id::String(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Id, E> {
                Ok(Id::String(text))
            }
        }

        deserializer.deserialize_any(AnyOf)
    }
}

/// One thing that a line asks for.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A request: run it and answer.
    Call(Call<'a>),
    /// A notification: not run, not answered.
    Notification,
    /// Not a request: answer with this error.
    Bad(Id, RpcError),
}

/// A request with its params as they were sent.
#[derive(Debug)]
pub struct Call<'a> {
    /// The id to answer with.
    pub id: Id,
    /// The method's name.
    pub method: Cow<'a, str>,
    /// The params, not yet looked at.
    pub params: Option<&'a RawValue>,
}

/// What a line holds.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// One message.
    Single(Entry<'a>),
    /// Several, to be answered in one array.
    Batch(Vec<Entry<'a>>),
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    // An id of null is a request; no id at all is a notification.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// Reads what one line (or one HTTP body) asks for.
///
/// # Errors
/// Where the whole of it can have only one answer, with an id of null:
/// [`ErrorKind::ParseError`] for what is not JSON or not UTF-8,
/// [`ErrorKind::InvalidRequest`] for an empty batch,
/// [`ErrorKind::LimitExceeded`] for one of more entries than `max_entries`.
pub fn parse(line: &[u8], max_entries: usize) -> Result<Incoming<'_>, RpcError> {
    let not_json = |why: &dyn std::fmt::Display| {
        RpcError::new(ErrorKind::ParseError, format!("not JSON: {why}"))
            .hint("send one JSON-RPC 2.0 request a line, in UTF-8")
    };
    let text = std::str::from_utf8(line).map_err(|e| not_json(&e))?;
    // Nearly every message is one request in order, read in one go. What is not is looked at more closely.
    if text.trim_ascii_start().starts_with('{')
        && let Ok(request) = serde_json::from_str(text)
    {
        return Ok(Incoming::Single(entry(request)));
    }
    let json: &RawValue = serde_json::from_str(text).map_err(|e| not_json(&e))?;
    if !json.get().starts_with('[') {
        return Ok(Incoming::Single(raw_entry(json)));
    }
    let entries: Vec<&RawValue> = serde_json::from_str(json.get()).map_err(|e| not_json(&e))?;
    match entries.len() {
        0 => Err(RpcError::new(ErrorKind::InvalidRequest, "an empty batch asks for nothing")),
        n if n > max_entries => Err(RpcError::new(
            ErrorKind::LimitExceeded,
            format!("a batch has at most {max_entries} entries, this one has {n}"),
        )
        .hint("send several smaller batches; nothing of this one was run")),
        _ => Ok(Incoming::Batch(entries.into_iter().map(raw_entry).collect())),
    }
}

fn bad(id: Id, why: String) -> Entry<'static> {
    let error = RpcError::new(ErrorKind::InvalidRequest, why);
    Entry::Bad(id, error.hint(r#"a request is {"jsonrpc":"2.0","id":1,"method":"health"}"#))
}

fn raw_entry(json: &RawValue) -> Entry<'_> {
    // An array would be taken for the members in their order.
    if !json.get().starts_with('{') {
        return bad(Id::Null, "not a JSON-RPC request: not an object".to_owned());
    }
    match serde_json::from_str(json.get()) {
        Ok(request) => entry(request),
        Err(e) => bad(Id::Null, format!("not a JSON-RPC request: {e}")),
    }
}

fn entry(request: RawRequest<'_>) -> Entry<'_> {
    let Some(id) = request.id else {
        return match request.jsonrpc.as_ref() {
            "2.0" => Entry::Notification,
            _ => bad(Id::Null, "jsonrpc must be \"2.0\"".to_owned()),
        };
    };
    let Ok(id) = serde_json::from_str::<Id>(id.get()) else {
        return bad(
            Id::Null,
            "an id is a string, an unsigned integer below 2^64, or null".to_owned(),
        );
    };
    if request.jsonrpc != "2.0" {
        return bad(id, "jsonrpc must be \"2.0\"".to_owned());
    }
    Entry::Call(Call { id, method: request.method, params: request.params })
}

#[derive(Serialize)]
struct Success<'a, T> {
    jsonrpc: &'static str,
    id: &'a Id,
    result: &'a T,
}

#[derive(Serialize)]
struct Failure<'a> {
    jsonrpc: &'static str,
    id: &'a Id,
    error: &'a RpcError,
}

/// Writes a response, without its newline.
///
/// # Errors
/// As the writer's, and where the result cannot be written as JSON; none of this crate's types does that.
pub fn write_response<T: Serialize>(
    writer: impl io::Write,
    id: &Id,
    outcome: Result<&T, &RpcError>,
) -> serde_json::Result<()> {
    let jsonrpc = "2.0";
    match outcome {
        Ok(result) => serde_json::to_writer(writer, &Success { jsonrpc, id, result }),
        Err(error) => serde_json::to_writer(writer, &Failure { jsonrpc, id, error }),
    }
}

/// The text of a response, without its newline.
///
/// # Errors
/// Where the result cannot be written as JSON; none of this crate's types does that.
pub fn response<T: Serialize>(
    id: &Id,
    outcome: Result<&T, &RpcError>,
) -> serde_json::Result<String> {
    let mut text = Vec::with_capacity(1024);
    write_response(&mut text, id, outcome)?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// The text of a request, without its newline.
///
/// # Errors
/// Where the params cannot be written as JSON; none of this crate's types does that.
pub fn request<M: Method>(id: u64, params: &M::Params) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Request<'a, P> {
        jsonrpc: &'static str,
        id: u64,
        method: &'static str,
        params: &'a P,
    }
    serde_json::to_string(&Request { jsonrpc: "2.0", id, method: M::NAME, params })
}

/// Reads a line that answers a request of method `M`.
///
/// # Errors
/// Where the line is not a JSON-RPC response, or its result is not `M`'s.
pub fn parse_response<M: Method>(
    line: &[u8],
) -> serde_json::Result<(Id, Result<M::Result, RpcError>)> {
    #[derive(Deserialize)]
    struct RawResponse<'a> {
        id: Id,
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(default)]
        error: Option<RpcError>,
    }
    let RawResponse { id, result, error } = serde_json::from_slice(line)?;
    match (error, result) {
        (Some(error), _) => Ok((id, Err(error))),
        (None, result) => {
            let result = result.map_or("null", RawValue::get);
            Ok((id, Ok(serde_json::from_str(result)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_BATCH_ENTRIES;

    fn call(line: &str) -> (Id, String) {
        match parse(line.as_bytes(), MAX_BATCH_ENTRIES) {
            Ok(Incoming::Single(Entry::Call(c))) => (c.id, c.method.into_owned()),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(line: &[u8]) -> (Id, ErrorKind) {
        match parse(line, MAX_BATCH_ENTRIES) {
            Err(error) => (Id::Null, error.kind),
            Ok(Incoming::Single(Entry::Bad(id, error))) => (id, error.kind),
            other => panic!("{}: {other:?}", String::from_utf8_lossy(line)),
        }
    }

    #[test]
    fn requests_with_every_kind_of_id() {
        let with_id = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","x":[]}}"#);
        assert_eq!(call(&with_id("1")), (Id::Number(1), "m".into()));
        assert_eq!(call(&with_id("18446744073709551615")).0, Id::Number(u64::MAX));
        assert_eq!(call(&with_id("null")).0, Id::Null);
        assert_eq!(call(&with_id(r#""a\"b""#)).0, Id::String("a\"b".into()));
        for bad in ["-1", "1.5", "18446744073709551616", "true", "[]", "{}", "1e2"] {
            let answer = refused(with_id(bad).as_bytes());
            assert_eq!(answer, (Id::Null, ErrorKind::InvalidRequest), "{bad}");
        }
    }

    #[test]
    fn what_is_not_a_request_says_so() {
        use ErrorKind::{InvalidRequest, LimitExceeded, ParseError};
        let deep = "[".repeat(200_000);
        for (line, id, kind) in [
            (&b"{"[..], Id::Null, ParseError),
            (b"\xff", Id::Null, ParseError),
            (br#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, Id::Null, InvalidRequest),
            (br#"{"id":true} x"#, Id::Null, ParseError),
            (deep.as_bytes(), Id::Null, ParseError),
            (b"1", Id::Null, InvalidRequest),
            (b"{}", Id::Null, InvalidRequest),
            (br#"{"jsonrpc":"1.0","id":7,"method":"m"}"#, Id::Number(7), InvalidRequest),
            (br#"{"jsonrpc":"2.0","id":7,"id":7,"method":"m"}"#, Id::Null, InvalidRequest),
            (b"[]", Id::Null, InvalidRequest),
            (format!("[{}1]", "1,".repeat(64)).as_bytes(), Id::Null, LimitExceeded),
        ] {
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
            assert_eq!(refused(line), (id, kind), "{shown}");
        }
    }

    #[test]
    fn notifications_and_batches() {
        let note = r#"{"jsonrpc":"2.0","method":"m"}"#;
        assert!(matches!(
            parse(note.as_bytes(), MAX_BATCH_ENTRIES),
            Ok(Incoming::Single(Entry::Notification))
        ));
        let batch = format!(r#"[{note},{{"jsonrpc":"2.0","id":1,"method":"m"}},3,["2.0",1,"m"]]"#);
        let Ok(Incoming::Batch(entries)) = parse(batch.as_bytes(), MAX_BATCH_ENTRIES) else {
            panic!("no batch")
        };
        assert!(matches!(
            entries.as_slice(),
            [Entry::Notification, Entry::Call(_), Entry::Bad(Id::Null, _), Entry::Bad(Id::Null, _)]
        ));
    }

    #[test]
    fn a_response_survives_the_round_trip() {
        use crate::method::SandboxTouch;
        let error = RpcError::new(ErrorKind::SandboxNotFound, "no").hint("create it");
        let line = response::<()>(&Id::Number(3), Err(&error)).unwrap();
        let (id, outcome) = parse_response::<SandboxTouch>(line.as_bytes()).unwrap();
        assert_eq!((id, outcome.unwrap_err()), (Id::Number(3), error));
    }
}
