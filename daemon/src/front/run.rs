//! The life of a front: socket, service, end.

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use nix::unistd::geteuid;
use noxrunner_protocol::http::BaseUrl;
use tokio::sync::watch;

use super::Front;
use super::methods::methods;
use super::token::{self, TokenError};
use super::upstream::Upstream;
use crate::config::{Config, LogFormat};
use crate::run::{Doors, RunError, Signals, idle, raise_descriptor_limit, socket_path};
use crate::serve::handlers::VERSION;
use crate::serve::service::Service;
use crate::serve::{self, Served};
use crate::{logging, manager};

/// Why there is no way to the backend.
#[derive(Debug, thiserror::Error)]
pub enum FrontStartError {
    /// There is no token to send.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is nobody whose certificates could be believed.
    #[error(
        "cannot check the certificate of {0}: {1}; install ca-certificates, or set SSL_CERT_FILE"
    )]
    Tls(BaseUrl, #[source] io::Error),
}

/// Runs the front of this backend until it is told to end, or is idle for long enough. `handed` is
/// the socket that a service manager gave it.
///
/// # Errors
/// Why it could not start.
pub async fn run(
    config: Config,
    url: BaseUrl,
    handed: Option<UnixListener>,
) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(|e| RunError::Os("wait for signals", e))?;
    let uid = geteuid().as_raw();
    let token = config.upstream.base_url_token_file.as_deref();
    let token = token.map(|path| token::header(path, &url)).transpose();
    let upstream =
        Upstream::new(url.clone(), token.map_err(FrontStartError::from)?, &config.upstream)
            .map_err(|e| FrontStartError::Tls(url.clone(), e))?;
    let socket = socket_path(&config, handed.as_ref(), uid)?;
    // Each call of a client's takes one more.
    raise_descriptor_limit();
    let is_handed = handed.is_some();
    let Doors { listener, bound, tcp, group } = Doors::open(&config, handed, &socket, uid)?;
    let http = tcp.as_ref().map(|door| door.address);
    let service = Arc::new(Service::new(&config, socket, group, http));
    let front = Arc::new(Front::new(service, config, upstream));
    say(&url, front.config.log_format);
    let (socket, http) = (front.service.socket.display(), http.map(tracing::field::display));
    tracing::info!(%socket, http, %url, uid, version = VERSION, is_handed, "listening");

    let served = Served {
        service: Arc::clone(&front.service),
        rpc: methods(&front),
        sandboxes: Arc::new(Arc::clone(&front)),
    };
    // Sandboxes stay where they are, whether there is a front or not.
    let (_none, no_sandboxes) = watch::channel(0);
    let end = async {
        let why = tokio::select! {
            signal = signals.next() => signal,
            () = idle(&front.service, no_sandboxes, front.config.idle_exit) => "idle for long enough",
        };
        tracing::info!(why, "ending");
        front.service.stop.send_replace(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serve::serve(listener, tcp, served) => {}
        () = end => {}
        never = manager::report(&front.service, front.known.count(), "remote") => match never {},
    }
    drop(bound);
    front.service.stop.send_replace(true);
    manager::ending("its sandboxes stay where they are").await;
    tracing::info!("ended");
    Ok(())
}

/// Says at start where commands run, on stderr.
fn say(url: &BaseUrl, format: LogFormat) {
    let line = format!("commands run at {url}, not on this machine");
    match format {
        LogFormat::Json => tracing::info!("{line}"),
        LogFormat::Human => {
            let (on, off) = if logging::in_colour() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "{on}ℹ {line}{off}");
        }
    }
}
