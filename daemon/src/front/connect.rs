//! Connections with the backend.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use noxrunner_protocol::http::BaseUrl;
use rustls::crypto::ring;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::error::chain;

/// Makes connections, each within a bounded time: from the host's name to the end of TLS's handshake.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    way: Way,
    patience: Duration,
}

#[derive(Debug, Clone)]
enum Way {
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
}

impl Connector {
    /// One for this address. What certificates are believed is what the machine believes (or
    /// the file that `SSL_CERT_FILE` names).
    ///
    /// # Errors
    /// Where the machine believes none at all, and TLS is asked for.
    pub(super) fn new(url: &BaseUrl, patience: Duration) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // What is asked is small and its answer is waited for.
        tcp.set_nodelay(true);
        let way = if url.is_tls() {
            let tls = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(ring::default_provider())?
                .https_only()
                .enable_http1()
                .wrap_connector(tcp);
            Way::Tls(tls)
        } else {
            Way::Plain(tcp)
        };
        Ok(Self { way, patience })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither of the two ever waits here.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let patience = self.patience;
        let connecting = match &mut self.way {
            Way::Plain(tcp) => {
                let connecting = tcp.call(uri);
                async { connecting.await.map_err(|e| chain(&e)).map(MaybeHttpsStream::Http) }
                    .boxed()
            }
            Way::Tls(tls) => {
                let connecting = tls.call(uri);
                async { connecting.await.map_err(|e| chain(e.as_ref())) }.boxed()
            }
        };
        async move {
            match timeout(patience, connecting).await {
                Ok(connected) => connected.map_err(io::Error::other),
                Err(_) => {
                    let why = format!("no connection within {} s", patience.as_secs_f64());
                    Err(io::Error::new(io::ErrorKind::TimedOut, why))
                }
            }
        }
        .boxed()
    }
}
