//! Whom it believes to be the backend.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use noxrunner_tests::TestDaemon;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

/// A backend behind TLS that makes sandboxes and nothing else, on a connection each.
struct Secret {
    port: u16,
    /// Its certificate, for `localhost`, made by itself.
    certificate: PathBuf,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

impl Secret {
    fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // Authorities are told apart by their names first.
        parameters.distinguished_name.push(DnType::CommonName, name);
        let made = parameters.self_signed(&key).unwrap();
        let certificate = dir.join(name);
        fs::write(&certificate, made.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config =
            ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.der().clone()], key.into())
                .unwrap();
        let (config, asked) = (Arc::new(config), Arc::<AtomicUsize>::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counted = Arc::clone(&asked);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, asked) = (Arc::clone(&config), Arc::clone(&counted));
                // Who does not believe it hangs up midway.
                thread::spawn(move || drop(answer(stream.unwrap(), config, &asked)));
            }
        });
        Self { port, certificate, asked }
    }

    /// What making a sandbox comes to for a front that believes the certificates in a file.
    fn create(&self, host: &str, believed: &Path) -> Result<(), String> {
        let believed = format!("SSL_CERT_FILE={}", believed.display());
        let url = format!("https://{host}:{}", self.port);
        let front = TestDaemon::start_under(&["env", &believed], &["--base-url", &url]);
        match front.call("sandbox.create", json!({"sessionId": "s"})) {
            Ok(_) => Ok(()),
            Err(error) => {
                assert_eq!(error.kind.name(), "upstream");
                Err(error.message)
            }
        }
    }
}

fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let body = r#"{"podName": "pod", "expiresAt": "2999-01-01T00:00:00Z"}"#;
    let length = body.len();
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

#[test]
fn only_a_certificate_that_is_believed_for_that_name_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, other) = (Secret::new(dir.path(), "one"), Secret::new(dir.path(), "other"));
    backend.create("localhost", &backend.certificate).unwrap();
    let asked = backend.asked.load(Ordering::SeqCst);
    assert!(asked > 0);
    for (host, believed, words) in [
        ("localhost", &other.certificate, "certificate"),
        ("127.0.0.1", &backend.certificate, "certificate"),
    ] {
        let why = backend.create(host, believed).unwrap_err();
        assert!(why.contains("cannot connect") && why.contains(words), "{why}");
    }
    // None of these got as far as to ask for something.
    assert_eq!(backend.asked.load(Ordering::SeqCst), asked);
}
