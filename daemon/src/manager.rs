//! What the service manager hears of the daemon, where one listens (sd_notify(3)): that it is ready,
//! that it ends, and a line of how it is.

use std::convert::Infallible;
use std::time::Duration;
use std::{io, thread};

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::serve::service::Service;

/// The variable that says where the service manager listens. The daemon's own: no command has it.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How long a line stands at the least. A client that runs a command comes and goes within a
/// millisecond, and the service manager tells everybody of each line.
const LINE_STANDS: Duration = Duration::from_secs(1);

/// How long a service manager that does not read may hold up the daemon's end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says that the daemon answers, and from then on how it is. Ends only by being dropped.
pub async fn report(
    service: &Service,
    mut sandboxes: watch::Receiver<usize>,
    tier: &str,
) -> Infallible {
    if !is_there() {
        return std::future::pending().await;
    }
    let (mut clients, mut by_tcp) = service.counts();
    let mut line = String::new();
    loop {
        let now = status(
            *sandboxes.borrow_and_update(),
            *clients.borrow_and_update() + *by_tcp.borrow_and_update(),
            tier,
        );
        if now != line {
            // The first one comes with the news that there is something to report on.
            let first = line.is_empty();
            line.clone_from(&now);
            say(move || {
                let status = NotifyState::Status(&now);
                if first {
                    sd_notify::notify(&[NotifyState::Ready, status])
                } else {
                    sd_notify::notify(&[status])
                }
            })
            .await;
        }
        sleep(LINE_STANDS).await;
        tokio::select! {
            _ = sandboxes.changed() => {}
            _ = clients.changed() => {}
            _ = by_tcp.changed() => {}
        }
    }
}

/// Says that the daemon is on its way out, and what it does until then.
pub async fn ending(what: &'static str) {
    if is_there() {
        let states = move || sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(what)]);
        let _ = timeout(PATIENCE, say(states)).await;
    }
}

fn is_there() -> bool {
    std::env::var_os(NOTIFY_SOCKET).is_some_and(|name| !name.is_empty())
}

/// On a thread of its own, since the kernel holds up who sends to a manager that does not read; and
/// not one of the runtime's, which would wait for it at the end.
async fn say(send: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (done, said) = oneshot::channel();
    let thread = thread::Builder::new().name("notify".to_owned()).spawn(move || {
        // Nobody waits any more where the daemon ends meanwhile.
        let _ = done.send(send());
    });
    let said = match thread {
        Ok(_) => said.await.unwrap_or(Ok(())),
        Err(error) => Err(error),
    };
    if let Err(error) = said {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

fn status(sandboxes: usize, clients: usize, tier: &str) -> String {
    let counted = |count: usize, one: &str, more: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    };
    let sandboxes = counted(sandboxes, "sandbox", "sandboxes");
    format!("{sandboxes}, {}, tier {tier}", counted(clients, "client", "clients"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts() {
        assert_eq!(status(0, 1, "full"), "0 sandboxes, 1 client, tier full");
        assert_eq!(status(1, 2, "none"), "1 sandbox, 2 clients, tier none");
    }
}
