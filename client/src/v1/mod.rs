//! A backend elsewhere that speaks the NoxRunner v1 REST API, over HTTP or HTTPS.
//!
//! ```no_run
//! use noxrunner_client::protocol::http::ExecBody;
//! use noxrunner_client::v1::Client;
//!
//! let backend = Client::new("https://gw.example/nox".parse()?, None)?;
//! let id = "my-session".parse()?;
//! backend.create(&id, &Default::default())?;
//! let echo = ExecBody { cmd: vec!["echo".into(), "hi".into()], ..Default::default() };
//! assert_eq!(backend.exec(&id, &echo)?.stdout, "hi\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Redirects are not followed and the environment's proxies not used: commands, files and the
//! token go to who was named, or nowhere.

mod client;
mod error;
mod names;

use std::sync::Arc;
use std::sync::OnceLock;

use rustls::{ClientConfig, RootCertStore};

pub use client::Client;
pub use error::{Problem, RemoteError};
pub(crate) use names::addresses;
pub use noxrunner_protocol::http::{BaseUrl, BaseUrlError, PlainToken, Token, TokenError};

/// A backend: where it is, and what it wants to see.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Where it is.
    pub(crate) base: BaseUrl,
    /// What it wants to see.
    pub(crate) token: Option<Token>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Backend {
    /// How to encrypt, and whom to trust: the authorities that this machine trusts, or those in
    /// SSL_CERT_FILE and SSL_CERT_DIR. Read once, and only where it is needed.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, Problem> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Problem::NoRoots);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Problem::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}
