//! HTTPS: whom noxctl trusts, and that everything goes over it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;

use noxrunner_tests::archive::built;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;

use super::fake::{Asked, Fake, gzip};
use super::{Said, ask, fails, noxctl, said};

/// A server with a certificate for `localhost` that it made itself, and the file of that.
struct Server {
    fake: Fake,
    certificate: PathBuf,
    _dir: TempDir,
}

impl Server {
    fn new(name: &str, reads: bool, answer: impl FnMut(&mut Asked) + Send + 'static) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // Authorities are told apart by their names first.
        parameters.distinguished_name.push(DnType::CommonName, name);
        let made = parameters.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let certificate = dir.path().join("certificate.pem");
        fs::write(&certificate, made.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.der().clone()], key.into())
            .unwrap();
        let fake = Fake::with(Some(Arc::new(config)), reads, answer);
        Self { fake, certificate, _dir: dir }
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.fake.address.port())
    }

    /// What noxctl says that trusts the certificates in a file, and no others.
    fn ask(&self, host: &str, trusted: &Path, arguments: &[&str]) -> Said {
        let mut command = noxctl(&["--base-url", &self.url(host)]);
        said(command.args(arguments).env("SSL_CERT_FILE", trusted))
    }
}

#[test]
fn only_a_certificate_of_a_trusted_authority_for_the_right_name_will_do() {
    let server = Server::new("one", true, |asked| asked.answer(200, "text/plain", "OK"));
    let other = Server::new("other", true, |_| {});
    assert_eq!(server.ask("localhost", &server.certificate, &["health"]).0, 0);
    assert_eq!(server.fake.lines(), ["GET /healthz"]);
    let url = server.url("localhost");
    let answer = server.ask("localhost", &other.certificate, &["health"]);
    fails(answer, &[&url, "not signed by anybody", "SSL_CERT_FILE"]);
    let answer = server.ask("127.0.0.1", &server.certificate, &["health"]);
    fails(answer, &[&server.url("127.0.0.1"), "for another name"]);
    let answer = server.ask("localhost", Path::new("/dev/null"), &["health"]);
    fails(answer, &[&url, "no certificates of authorities"]);
    // And without a word about whom to trust, those of this machine.
    fails(ask(&url, &["health"]), &[&url, "certificate"]);
    // None of these got as far as to ask for something.
    assert_eq!(server.fake.lines(), [""; 0]);
    // A server that does not speak TLS.
    let plain = Fake::early(|asked| asked.answer(400, "text/plain", "speak HTTP"));
    let url = format!("https://localhost:{}", plain.address.port());
    let mut command = noxctl(&["--base-url", &url, "health"]);
    fails(said(command.env("SSL_CERT_FILE", &server.certificate)), &[&url]);
}

#[test]
fn archives_go_both_ways_encrypted() {
    let archive = gzip(&built("w", "import random\nadd('f', random.randbytes(3_000_000))"));
    let sent = archive.clone();
    let server = Server::new("one", true, move |asked| match asked.seen.line.starts_with("GET") {
        true => asked.answer(200, "application/x-tar", &sent),
        false => asked.answer(200, "text/plain", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().to_str().unwrap();
    let trusted = &server.certificate;
    let (status, _, stderr) =
        server.ask("localhost", trusted, &["download", "s", "--extract", into]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(dir.path().join("f").metadata().unwrap().len(), 3_000_000);
    server.fake.next();
    let (status, _, stderr) = server.ask("localhost", trusted, &["upload", "s", "--dir", into]);
    assert_eq!(status, 0, "{stderr}");
    let body = server.fake.next().body;
    let mut content = Vec::new();
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(&body[..]));
    for entry in tar.entries().unwrap() {
        entry.unwrap().read_to_end(&mut content).unwrap();
    }
    assert!(content == fs::read(dir.path().join("f")).unwrap());
}

#[test]
fn an_upload_that_is_refused_midway_says_why_through_tls() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(dir.path().join("big")).unwrap();
    let mut random = fs::File::open("/dev/urandom").unwrap().take(20_000_000);
    std::io::copy(&mut random, &mut file).unwrap();
    let upload = ["upload", "s", "--dir", dir.path().to_str().unwrap()];
    let (ended, has_ended) = channel::<()>();
    let server = Server::new("one", false, move |asked| {
        asked.json(413, r#"{"error": "too large"}"#);
        // It reads no more: who goes on sending waits for ever.
        let _ = has_ended.recv();
    });
    let said = server.ask("localhost", &server.certificate, &upload);
    drop(ended);
    fails(said, &["too large", &server.url("localhost")]);
    // An answer that is cut off is not taken for a whole one, though nothing says how long it is.
    let server =
        Server::new("one", true, |asked| asked.say("HTTP/1.1 200 OK\r\n\r\n{\"exitCode\": 0"));
    let said = server.ask("localhost", &server.certificate, &["exec", "s", "x"]);
    fails(said, &[&server.url("localhost")]);
}
