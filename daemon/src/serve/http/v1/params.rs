//! The JSON of a request, as the params of the method that does the same.

use std::fmt;

use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::TimeoutSeconds;
use noxrunner_protocol::limits::DEFAULT_TIMEOUT_SECONDS;
use noxrunner_protocol::types::{CreateParams, ExecParams};
use serde::Deserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::serve::service::REST_DEFAULT_TIMEOUT;

/// What the API has of a `sandbox.create`.
const CREATE: [&str; 5] =
    ["ttlSeconds", "image", "cpuLimit", "memoryLimit", "ephemeralStorageLimit"];

/// What it has of a `sandbox.exec`.
const EXEC: [&str; 4] = ["cmd", "workdir", "env", "timeoutSeconds"];

/// Params, and what of the request was not one.
#[derive(Debug)]
pub(super) struct Read<T> {
    pub(super) params: T,
    /// In words.
    pub(super) unknown: Vec<String>,
}

/// The params of a `sandbox.create`.
///
/// # Errors
/// What is wrong with them, in words.
pub(super) fn create(body: &[u8], id: &SessionId) -> Result<Read<CreateParams>, String> {
    read(body, id, &CREATE)
}

/// The params of a `sandbox.exec`.
///
/// # Errors
/// What is wrong with them, in words.
pub(super) fn exec(body: &[u8], id: &SessionId) -> Result<Read<ExecParams>, String> {
    let mut read: Read<ExecParams> = read(body, id, &EXEC)?;
    if read.params.timeout_seconds.get() == DEFAULT_TIMEOUT_SECONDS {
        read.params.timeout_seconds =
            TimeoutSeconds::try_from(REST_DEFAULT_TIMEOUT).map_err(|e| e.to_string())?;
    }
    Ok(read)
}

/// Other backends' clients may send what this one does not know; what is known has to be right.
fn read<T: DeserializeOwned>(
    body: &[u8],
    id: &SessionId,
    known: &[&str],
) -> Result<Read<T>, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let sent = json.deserialize_map(Known(known)).and_then(|sent| json.end().map(|()| sent));
    let (mut params, unknown) =
        sent.map_err(|error| format!("the body is not a JSON object in UTF-8: {error}"))?;
    params.insert("sessionId".to_owned(), Value::from(id.as_str()));
    let params = serde_path_to_error::deserialize(Value::Object(params)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if path == "." { inner.to_string() } else { format!("{path}: {inner}") }
    })?;
    Ok(Read { params, unknown })
}

/// Reads an object of which these fields are kept. Others are named, and cost nothing, however many
/// there are.
struct Known<'a>(&'a [&'a str]);

impl<'de> Visitor<'de> for Known<'_> {
    type Value = (Map<String, Value>, Vec<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut sent: A) -> Result<Self::Value, A::Error> {
        let (mut known, mut unknown) = (Map::new(), Vec::new());
        while let Some(name) = sent.next_key::<String>()? {
            if self.0.contains(&name.as_str()) {
                let value: Value = sent.next_value()?;
                if !value.is_null() {
                    known.insert(name, value);
                }
            } else {
                sent.next_value::<IgnoredAny>()?;
                if unknown.len() < MAX_WARNINGS {
                    unknown.push(format!("{name:?} is not known here and was ignored"));
                }
            }
        }
        Ok((known, unknown))
    }
}

/// How many unknown fields are named.
const MAX_WARNINGS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SessionId {
        "s".parse().unwrap()
    }

    #[test]
    fn unknown_fields_are_named_and_known_ones_have_to_be_right() {
        let read = create(br#"{"ttlSeconds": 60, "image": null, "gpu": 1}"#, &id()).unwrap();
        assert_eq!(read.params.ttl_seconds.get(), 60);
        assert_eq!(read.unknown, [r#""gpu" is not known here and was ignored"#]);
        assert_eq!(create(b"{}", &id()).unwrap().params, CreateParams::new(id()));
        for (body, part) in [
            (r#"{"ttlSeconds": 0}"#, "ttlSeconds"),
            (r#"{"ttlSeconds": "60"}"#, "ttlSeconds"),
            (r#"{"ttlSeconds": 1.5}"#, "from 1 to"),
            (r#"{"ttlSeconds": 1e999}"#, "out of range"),
            (r#"{"memoryLimit": "lots"}"#, "memoryLimit"),
            ("[]", "object"),
            ("{}{}", "trailing"),
            ("", "EOF"),
            ("\"\u{0}\"", "not a JSON object"),
        ] {
            let error = create(body.as_bytes(), &id()).unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        let deep = |name: &str| create(format!("{{\"{name}\": {deep}}}").as_bytes(), &id());
        assert!(deep("image").unwrap_err().contains("recursion"));
        assert_eq!(deep("gpu").unwrap().unknown.len(), 1);
        let many: Vec<String> = (0..1000).map(|n| format!("\"{n}\": {n}")).collect();
        let many = create(format!("{{{}}}", many.join(",")).as_bytes(), &id()).unwrap();
        assert_eq!(many.unknown.len(), MAX_WARNINGS);
        assert!(create(b"{\"image\": \"\xff\"}", &id()).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn what_the_socket_alone_has_is_not_known_here() {
        let body = br#"{"cmd": ["ls"], "stdin": "x", "sessionId": "t", "create": true}"#;
        let read = exec(body, &id()).unwrap();
        assert_eq!((read.params.session_id.as_str(), read.params.stdin.as_deref()), ("s", None));
        assert!(!read.params.create && read.unknown.len() == 3);
    }

    #[test]
    fn the_default_timeout_leaves_time_for_the_answer() {
        let timeout = |body: &str| exec(body.as_bytes(), &id()).unwrap().params.timeout_seconds;
        assert_eq!(timeout(r#"{"cmd": ["ls"]}"#).get(), 29.5);
        assert_eq!(timeout(r#"{"cmd": ["ls"], "timeoutSeconds": 30}"#).get(), 29.5);
        assert_eq!(timeout(r#"{"cmd": ["ls"], "timeoutSeconds": 31}"#).get(), 31.0);
    }
}
