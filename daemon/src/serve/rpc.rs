//! JSON-RPC: from the bytes of a message to the text of its answer.
//!
//! Lines, POST and WebSocket all come through [`Rpc::start`], so they cannot differ.
//! jsonrpsee keeps the methods; the envelope is the protocol crate's, whose error table
//! is the only one that reaches a client.

mod batch;
mod text;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use jsonrpsee::core::server::{Extensions, MethodCallback, Methods};
use jsonrpsee::{ConnectionId, RpcModule};
use jsonrpsee_types::{ErrorObjectOwned, Id as JsonrpseeId, Params};
use noxrunner_protocol::message::{Call, Entry, Id, Incoming, parse};
use noxrunner_protocol::{ErrorKind, Method, RpcError};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::peer::Peer;
use super::room::{Bill, Room};
pub use text::error_answer;
pub(crate) use text::shown;

/// The methods of this daemon.
#[derive(Clone)]
pub struct Rpc {
    methods: Methods,
    quick: Arc<HashMap<&'static str, Quick>>,
    max_calls: usize,
    max_answer: usize,
    /// Who may write a large answer now.
    writers: Arc<Semaphore>,
}

/// One connection's side of its calls.
#[derive(Debug, Clone)]
pub struct Client {
    /// The user.
    pub peer: Peer,
    /// What its answers may take.
    pub room: Room,
}

/// Who calls, and when the call was read.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The user.
    pub peer: Peer,
    /// When the request was read.
    pub arrived: Instant,
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Answer {
    /// Its text, without a newline.
    pub text: String,
    /// What it has of its connection's room.
    pub bill: Bill,
}

/// A message that is being answered.
pub enum Work {
    /// It is; `None` where it asks for no answer.
    Done(Option<Answer>),
    /// It takes time.
    Running {
        /// How many calls are in it.
        calls: usize,
        /// Its answer. Dropping it drops the calls.
        answer: BoxFuture<'static, Answer>,
    },
}

/// A call, as its method gets it through jsonrpsee.
#[derive(Debug)]
struct Context {
    caller: Caller,
    room: Room,
    max_answer: usize,
    writers: Arc<Semaphore>,
    /// What the method leaves. jsonrpsee would read and copy all of an answer once more.
    answer: Mutex<Option<Answer>>,
    id: Id,
}

/// A method that has its result at once, from its params as they were sent to the text of its answer.
/// jsonrpsee does not see it: what that does for a call takes longer than such a method.
type Quick = Box<dyn Fn(Caller, Option<&str>, Reply<'_>) -> String + Send + Sync>;

/// How a method that has its result at once is answered.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    id: &'a Id,
    most: usize,
}

impl Reply<'_> {
    /// The text of the answer, which is written from a result that need not be copied for that.
    pub fn with(self, outcome: Result<impl Serialize, RpcError>) -> String {
        text::answer(self.id, outcome, self.most)
    }
}

/// Makes an [`Rpc`], method by method, for a daemon of whichever kind.
pub struct Builder<D> {
    daemon: Arc<D>,
    module: RpcModule<D>,
    quick: HashMap<&'static str, Quick>,
}

impl<D: Send + Sync + 'static> Builder<D> {
    /// With no methods yet.
    pub fn new(daemon: Arc<D>) -> Self {
        let module = RpcModule::from_arc(Arc::clone(&daemon));
        Self { daemon, module, quick: HashMap::new() }
    }

    /// Adds a method that has its result at once. What it replies with is written as its result is.
    #[must_use]
    pub fn quick_method<M, F>(mut self, handler: F) -> Self
    where
        M: Method,
        F: Fn(&D, Caller, M::Params, Reply<'_>) -> String + Send + Sync + 'static,
    {
        let daemon = Arc::clone(&self.daemon);
        let quick =
            move |caller, params: Option<&str>, reply: Reply<'_>| match text::params::<M>(params) {
                Ok(params) => handler(&daemon, caller, params, reply),
                Err(error) => reply.with(Err::<(), _>(error)),
            };
        let known = self.quick.insert(M::NAME, Box::new(quick));
        debug_assert!(known.is_none(), "{} is registered twice", M::NAME);
        self
    }

    /// Adds a method whose results are small.
    #[must_use]
    pub fn method<M, F, Fut, E>(self, handler: F) -> Self
    where
        RpcError: From<E>,
        E: Send,
        M: Method,
        M::Params: Send,
        M::Result: Send + Sync + 'static,
        F: Fn(Arc<D>, Caller, M::Params) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Result, E>> + Send + 'static,
    {
        self.heavy_method::<M, _, _, _>(|_| 0, |_| 0, handler)
    }

    /// Adds a method whose results may be large. `most` says of params how many bytes their result
    /// may have: it does not begin before its connection has room for them. 0 where other
    /// calls may have to wait for what it does; it takes room when it has its result. `bulk` says how
    /// many a result has, about; a large one is written on a thread of its own.
    #[must_use]
    pub fn heavy_method<M, F, Fut, E>(
        mut self,
        most: fn(&M::Params) -> usize,
        bulk: fn(&M::Result) -> usize,
        handler: F,
    ) -> Self
    where
        RpcError: From<E>,
        E: Send,
        M: Method,
        M::Params: Send,
        M::Result: Send + Sync + 'static,
        F: Fn(Arc<D>, Caller, M::Params) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Result, E>> + Send + 'static,
    {
        let registered = self.module.register_async_method(M::NAME, move |params, daemon, ext| {
            let handler = handler.clone();
            async move {
                let context = context(&ext)?;
                let params = text::params::<M>(params.as_str());
                drop(ext);
                let (outcome, bill) = match params {
                    Ok(params) => {
                        let bill = match most(&params).min(context.max_answer) {
                            0 => Bill::none(),
                            most => context.room.take(most).await,
                        };
                        let outcome = handler(daemon, context.caller, params).await;
                        (outcome.map_err(RpcError::from), bill)
                    }
                    Err(error) => (Err(error), Bill::none()),
                };
                let large = matches!(&outcome, Ok(result) if bulk(result) >= text::LARGE);
                let (text, bill) = if large {
                    text::large(&context, outcome, bill).await
                } else {
                    (text::answer(&context.id, outcome, context.max_answer), bill)
                };
                context.leave(text, bill);
                Ok::<_, ErrorObjectOwned>(())
            }
        });
        debug_assert!(registered.is_ok(), "{} is registered twice", M::NAME);
        self
    }

    /// The finished set. Messages are held to these bounds.
    pub fn build(self, max_calls: usize, max_answer: usize) -> Rpc {
        // One less than there are processors, so that the daemon's own thread has one.
        let writers = std::thread::available_parallelism().map_or(1, |n| n.get().max(2) - 1);
        let writers = Arc::new(Semaphore::new(writers));
        let (methods, quick) = (self.module.into(), Arc::new(self.quick));
        Rpc { methods, quick, max_calls, max_answer, writers }
    }
}

/// The call that jsonrpsee passes on. It is always there, as [`Rpc::call`] puts it there.
fn context(extensions: &Extensions) -> Result<Arc<Context>, ErrorObjectOwned> {
    extensions.get::<Arc<Context>>().cloned().ok_or_else(|| {
        let code = jsonrpsee_types::ErrorCode::InternalError;
        ErrorObjectOwned::from(code)
    })
}

impl Context {
    fn leave(&self, text: String, mut bill: Bill) {
        bill.settle(text.len());
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Answer { text, bill });
    }

    fn take(&self) -> Answer {
        let left = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        left.unwrap_or_else(|| {
            let error = RpcError::new(ErrorKind::Internal, "the method left no answer");
            error_answer(self.id.clone(), error)
        })
    }
}

impl Rpc {
    /// Begins to answer a message.
    pub fn start(&self, message: &[u8], client: &Client) -> Work {
        let caller = Caller { peer: client.peer, arrived: Instant::now() };
        match parse(message, self.max_calls) {
            Err(error) => Work::Done(Some(error_answer(Id::Null, error))),
            Ok(Incoming::Single(entry)) => self.entry(entry, caller, client),
            Ok(Incoming::Batch(entries)) => {
                let work = entries.into_iter().map(|entry| self.entry(entry, caller, client));
                batch::answer(work.collect(), self.max_answer)
            }
        }
    }

    fn entry(&self, entry: Entry<'_>, caller: Caller, client: &Client) -> Work {
        match entry {
            Entry::Notification => Work::Done(None),
            Entry::Bad(id, error) => Work::Done(Some(error_answer(id, error))),
            Entry::Call(call) => self.call(call, caller, client),
        }
    }

    fn call(&self, Call { id, method, params }: Call<'_>, caller: Caller, client: &Client) -> Work {
        let params = params.map(serde_json::value::RawValue::get);
        if let Some(quick) = self.quick.get(method.as_ref()) {
            let text = quick(caller, params, Reply { id: &id, most: self.max_answer });
            return Work::Done(Some(Answer { text, bill: Bill::none() }));
        }
        let Some((_, callback)) = self.methods.method_with_name(&method) else {
            let error = RpcError::new(ErrorKind::MethodNotFound, format!("no method {method:?}"));
            let error = error.hint("rpc.discover describes every method");
            return Work::Done(Some(error_answer(id, error)));
        };
        let context = Arc::new(Context {
            caller,
            room: client.room.clone(),
            max_answer: self.max_answer,
            writers: Arc::clone(&self.writers),
            answer: Mutex::new(None),
            id,
        });
        let mut extensions = Extensions::new();
        extensions.insert(Arc::clone(&context));
        let params = Params::new(params);
        let (id, connection) = (JsonrpseeId::Null, ConnectionId(0));
        match callback {
            MethodCallback::Async(method) => {
                let done = method(id, params.into_owned(), connection, usize::MAX, extensions);
                let answer = async move {
                    done.await;
                    context.take()
                };
                Work::Running { calls: 1, answer: Box::pin(answer) }
            }
            // None is registered.
            MethodCallback::Sync(_)
            | MethodCallback::Subscription(_)
            | MethodCallback::Unsubscription(_) => Work::Done(Some(context.take())),
        }
    }
}
