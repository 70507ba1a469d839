//! The front of a NoxRunner backend elsewhere: the same socket and the same methods, and every
//! sandbox lives there. Of this machine it uses nothing but the socket.
//!
//! | room | what it does |
//! |---|---|
//! | [`token`] | what lets this daemon in at the backend |
//! | `connect` | connections with it |
//! | [`upstream`] | asking, and asking again where that does no harm |
//! | `answer` | what its answers mean |
//! | [`error`] | what goes wrong, and how clients hear of it |
//! | `names` | whose session id means which sandbox there |
//! | `known` | what was seen of sandboxes, since the backend does not tell |
//! | `health` | whether the backend is well |
//! | `calls`, `exec` | operations, as v1 has them |
//! | `archives` | archives as answers and params of JSON-RPC |
//! | `files`, `shell` | files, by commands that look and archives that bring |
//! | `stream` | archives on their way through |
//! | [`methods`](mod@methods), `door` | JSON-RPC, and the REST API |
//! | [`run`] | the daemon's life |
//!
//! What v1 does not have is refused as `unsupported`, never made up.

mod answer;
mod archives;
mod calls;
mod connect;
mod door;
pub mod error;
mod exec;
mod files;
mod health;
mod known;
pub mod methods;
mod names;
pub mod run;
mod shell;
mod stream;
pub mod token;
pub mod upstream;

use std::sync::Arc;

use noxrunner_protocol::SessionId;
use noxrunner_protocol::types::{Isolation, MissingFeature, Tier};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::serve::rpc::Caller;
use crate::serve::service::Service;
use error::FrontError;
use health::Checked;
use known::Known;
use upstream::Upstream;

/// The daemon, where its sandboxes live elsewhere.
#[derive(Debug)]
pub struct Front {
    /// What its clients' side needs.
    pub service: Arc<Service>,
    /// What it was told.
    pub config: Config,
    /// Where its sandboxes live.
    pub upstream: Upstream,
    known: Known,
    health: Mutex<Option<Checked>>,
}

impl Front {
    /// A front that nobody has used yet.
    pub fn new(service: Arc<Service>, config: Config, upstream: Upstream) -> Self {
        Self { service, config, upstream, known: Known::default(), health: Mutex::default() }
    }

    /// The id that the backend knows a caller's sandbox by.
    fn name(&self, caller: Caller, id: &SessionId) -> Result<SessionId, FrontError> {
        names::upstream_id(self.service.uid, caller.peer.uid, id)
    }

    /// The user whose sandboxes a caller's are. Root has none of its own here.
    fn owner(&self, caller: Caller) -> u32 {
        if caller.peer.uid == 0 { self.service.uid } else { caller.peer.uid }
    }

    /// Whose sandboxes a caller sees: everybody's where there is nobody.
    fn sees(caller: Caller) -> Option<u32> {
        Some(caller.peer.uid).filter(|uid| *uid != 0)
    }

    /// What isolates sandboxes of whose isolation the backend says nothing.
    fn isolation(&self) -> Isolation {
        let missing = MissingFeature {
            feature: "isolation".to_owned(),
            why: format!("{} does not tell how it isolates its sandboxes", self.upstream.url),
            mend: "ask who runs it".to_owned(),
        };
        // Nothing is known of it, so nothing may be counted on.
        Isolation { tier: Tier::None, features: Vec::new(), missing: vec![missing] }
    }
}
