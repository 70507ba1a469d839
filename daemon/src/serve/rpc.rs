//! JSON-RPC: from the bytes of a message to the text of its answer.
//!
//! Lines and POST both come through [`Rpc::start`], so they cannot differ.
//! jsonrpsee keeps the methods; the envelope is the protocol crate's, whose error table
//! is the only one that reaches a client.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all, ready};
use jsonrpsee::core::server::{Extensions, MethodCallback, MethodResponse, Methods};
use jsonrpsee::{ConnectionId, RpcModule};
use jsonrpsee_types::{ErrorObjectOwned, Id as JsonrpseeId, Params};
use noxrunner_protocol::message::{Call, Entry, Id, Incoming, parse, response};
use noxrunner_protocol::{ErrorKind, Method, RpcError, limits};
use serde_json::value::to_raw_value;
use tokio::time::Instant;

use super::peer::Peer;
use crate::daemon::Daemon;
use crate::error::CallError;

/// The methods of this daemon.
#[derive(Debug, Clone)]
pub struct Rpc {
    methods: Methods,
}

/// Who calls, and when the call was read.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The user.
    pub peer: Peer,
    /// When the request was read.
    pub arrived: Instant,
}

/// A message that is being answered.
pub struct Work {
    /// How many calls are in it.
    pub calls: usize,
    /// The text of its answer, without a newline; `None` where it asks for none.
    pub answer: BoxFuture<'static, Option<String>>,
}

/// Makes an [`Rpc`], method by method.
pub struct Builder {
    module: RpcModule<Daemon>,
}

impl Builder {
    /// With no methods yet.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { module: RpcModule::from_arc(daemon) }
    }

    /// Adds a method.
    #[must_use]
    pub fn method<M, F, Fut>(mut self, handler: F) -> Self
    where
        M: Method,
        F: Fn(Arc<Daemon>, Caller, M::Params) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Result, CallError>> + Send + 'static,
    {
        let registered = self.module.register_async_method(M::NAME, move |params, daemon, ext| {
            let handler = handler.clone();
            async move {
                let caller = ext.get::<Caller>().copied();
                let caller = caller.ok_or_else(|| RpcError::new(ErrorKind::Internal, "no caller"));
                let outcome = async {
                    let params = parse_params::<M>(params.as_str())?;
                    Ok(handler(daemon, caller?, params).await?)
                };
                outcome.await.map_err(|error| error_object(&error))
            }
        });
        debug_assert!(registered.is_ok(), "{} is registered twice", M::NAME);
        self
    }

    /// The finished set.
    pub fn build(self) -> Rpc {
        Rpc { methods: self.module.into() }
    }
}

/// Params as a method takes them: an object, or nothing where nothing is required.
fn parse_params<M: Method>(text: Option<&str>) -> Result<M::Params, RpcError> {
    let invalid = |why: String| RpcError::new(ErrorKind::InvalidArgument, why);
    let text = text.filter(|text| *text != "null").unwrap_or("{}");
    if !text.starts_with('{') {
        return Err(invalid(format!("{} takes its params by name", M::NAME))
            .hint(r#"send an object, as in "params": {"sessionId": "my-session"}"#));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner();
        // The place in the params' text means nothing to a person.
        let why = why.to_string();
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        invalid(if path == "." { why.to_owned() } else { format!("{path}: {why}") })
            .hint("rpc.discover describes the params of every method")
    })
}

fn error_object(error: &RpcError) -> ErrorObjectOwned {
    let data = serde_json::json!({"kind": error.kind.name(), "hint": error.hint});
    let data = match &error.hint {
        Some(_) => data,
        None => serde_json::json!({"kind": error.kind.name()}),
    };
    ErrorObjectOwned::owned(error.kind.code(), error.message.clone(), to_raw_value(&data).ok())
}

/// The text of an answer that is an error.
pub fn error_answer(id: Id, error: RpcError) -> String {
    // None of the protocol's types fails to be written.
    response::<()>(id, Err(error)).unwrap_or_default()
}

impl Rpc {
    /// Begins to answer a message. Dropping the answer drops its calls.
    pub fn start(&self, message: &[u8], peer: Peer) -> Work {
        let caller = Caller { peer, arrived: Instant::now() };
        match parse(message) {
            Err(error) => Work::done(Some(error_answer(Id::Null, error))),
            Ok(Incoming::Single(entry)) => self.entry(entry, caller),
            Ok(Incoming::Batch(entries)) => {
                let work: Vec<Work> = entries.into_iter().map(|e| self.entry(e, caller)).collect();
                let calls = work.iter().map(|w| w.calls).sum();
                let answers = join_all(work.into_iter().map(|w| w.answer));
                Work { calls, answer: Box::pin(async { compose(answers.await) }) }
            }
        }
    }

    fn entry(&self, entry: Entry<'_>, caller: Caller) -> Work {
        match entry {
            Entry::Notification => Work::done(None),
            Entry::Bad(id, error) => Work::done(Some(error_answer(id, error))),
            Entry::Call(call) => self.call(call, caller),
        }
    }

    fn call(&self, Call { id, method, params }: Call<'_>, caller: Caller) -> Work {
        let Some((_, MethodCallback::Async(method))) = self.methods.method_with_name(&method)
        else {
            let error = RpcError::new(ErrorKind::MethodNotFound, format!("no method {method:?}"));
            let error = error.hint("rpc.discover describes every method");
            return Work::done(Some(error_answer(id, error)));
        };
        let mut extensions = Extensions::new();
        extensions.insert(caller);
        let params = Params::new(params.map(serde_json::value::RawValue::get)).into_owned();
        let most = limits::MAX_RESPONSE_BYTES;
        let answer = method(jsonrpsee_id(&id), params, ConnectionId(0), most, extensions);
        Work { calls: 1, answer: Box::pin(async move { Some(text_of(id, answer.await)) }) }
    }
}

impl Work {
    fn done(answer: Option<String>) -> Self {
        Self { calls: 0, answer: Box::pin(ready(answer)) }
    }
}

fn jsonrpsee_id(id: &Id) -> JsonrpseeId<'static> {
    match id {
        Id::Null => JsonrpseeId::Null,
        Id::Number(n) => JsonrpseeId::Number(*n),
        Id::String(s) => JsonrpseeId::Str(s.clone().into()),
    }
}

/// The text of a method's answer. An error code that is jsonrpsee's own, not
/// the table's, is said in the table's words: the only one it makes for a call is "too large".
fn text_of(id: Id, answer: MethodResponse) -> String {
    match answer.as_error_code().map(ErrorKind::from_code) {
        None | Some(Some(_)) => String::from(Box::<str>::from(answer.into_json())),
        Some(None) => error_answer(
            id,
            RpcError::new(
                ErrorKind::PayloadTooLarge,
                format!("the answer is larger than {} bytes", limits::MAX_RESPONSE_BYTES),
            )
            .hint("ask for less at a time"),
        ),
    }
}

/// The answer to a batch; `None` where it was notifications only.
fn compose(answers: Vec<Option<String>>) -> Option<String> {
    let answers: Vec<String> = answers.into_iter().flatten().collect();
    if answers.is_empty() {
        return None;
    }
    let text = format!("[{}]", answers.join(","));
    Some(if text.len() <= limits::MAX_RESPONSE_BYTES {
        text
    } else {
        let error = RpcError::new(
            ErrorKind::PayloadTooLarge,
            format!("the answers of a batch have at most {} bytes", limits::MAX_RESPONSE_BYTES),
        );
        error_answer(Id::Null, error.hint("the calls were carried out; ask for less at a time"))
    })
}
