//! Who is inside a sandbox's files. While it lives anybody may come in; its end
//! lets nobody in any more, tells those inside, and waits until they have left.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// The way into a sandbox's files.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

/// Somebody who is inside, until this is dropped.
#[derive(Debug)]
pub struct Pass(Gate);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Gate {
    /// Lets somebody in; `None` once it is closed.
    pub fn enter(&self) -> Option<Pass> {
        // Looked at and counted at once: nobody slips in behind a closing.
        let entered = self.0.send_if_modified(|state| {
            state.inside += usize::from(!state.closed);
            !state.closed
        });
        entered.then(|| Pass(self.clone()))
    }

    /// Closes it, and waits until nobody is inside.
    pub async fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
        // The sender is this very gate's, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|state| state.inside == 0).await;
    }
}

impl Pass {
    /// Whether the gate is closed.
    pub fn is_closing(&self) -> bool {
        self.0.0.borrow().closed
    }

    /// Waits until the gate is closed: time to leave, however little is done.
    pub async fn closing(&self) {
        let _ = self.0.0.subscribe().wait_for(|state| state.closed).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn closing_waits_for_those_inside_and_lets_nobody_in() {
        let gate = Gate::default();
        let pass = gate.enter().unwrap();
        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close().await }
        });
        timeout(Duration::from_secs(5), pass.closing()).await.unwrap();
        assert!(gate.enter().is_none());
        assert!(!closing.is_finished());
        drop(pass);
        timeout(Duration::from_secs(5), closing).await.unwrap().unwrap();
        assert!(gate.enter().is_none());
    }
}
