//! Whether the backend is well.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use noxrunner_protocol::RpcError;
use noxrunner_protocol::http::HEALTH;
use noxrunner_protocol::types::Health;
use tokio::time::Instant;

use super::Front;
use super::error::FrontError;
use super::methods::UNSUPPORTED;
use super::upstream::Ask;
use crate::serve::handlers::VERSION;
use crate::serve::rpc::Caller;

/// How long the backend may take to say OK. Who asks for the front's health hears within a second.
const WITHIN: Duration = Duration::from_millis(700);

/// How long that counts.
const STANDS: Duration = Duration::from_secs(1);

/// What the backend said last, and when.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    at: Instant,
    /// What is wrong with it, if something is.
    wrong: Option<String>,
}

impl Front {
    /// Why the backend is not well, if it is not.
    pub(super) async fn ails(self: &Arc<Self>) -> Option<String> {
        let front = Arc::clone(self);
        // Goes on when whoever asked has hung up: those who ask meanwhile wait for the same answer.
        let checked = tokio::spawn(async move {
            let mut last = front.health.lock().await;
            match &*last {
                Some(checked) if checked.at.elapsed() < STANDS => checked.wrong.clone(),
                Some(_) | None => {
                    let wrong = front.check().await;
                    *last = Some(Checked { at: Instant::now(), wrong: wrong.clone() });
                    wrong
                }
            }
        });
        checked.await.unwrap_or_else(|_| Some("the daemon is stopping".to_owned()))
    }

    async fn check(&self) -> Option<String> {
        let ask = Ask::new(Method::GET, HEALTH.to_owned(), "its health");
        let answered = match self.upstream.again(ask, WITHIN).await {
            Ok(answered) => answered,
            Err(error) => return Some(RpcError::from(error).message),
        };
        let said = String::from_utf8_lossy(&answered);
        // An intermediary may have a page for everything.
        (!said.contains("OK")).then(|| format!("{}: does not say OK", self.upstream.url))
    }
}

/// `health`.
pub(super) async fn health(front: Arc<Front>, caller: Caller) -> Result<Health, FrontError> {
    let status = match front.ails().await {
        _ if *front.service.stop.borrow() => "stopping".to_owned(),
        Some(wrong) => format!("upstream: {wrong}"),
        None => "ok".to_owned(),
    };
    Ok(Health {
        status,
        version: VERSION.to_owned(),
        uptime_seconds: front.service.uptime(),
        sandboxes: front.known.len(Front::sees(caller)),
        isolation: front.isolation(),
        backend: "remote".to_owned(),
        unsupported: UNSUPPORTED.iter().map(|name| (*name).to_owned()).collect(),
    })
}
