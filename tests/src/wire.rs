//! A client of bare bytes: what a program in any language could write.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::SOON;

/// One connection that speaks lines.
pub struct Wire {
    reader: BufReader<UnixStream>,
}

impl Wire {
    /// Connects and sends nothing yet.
    #[track_caller]
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    /// The socket itself.
    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a request and does not wait for its answer.
    #[track_caller]
    pub fn request(&mut self, id: u64, method: &str, params: Value) {
        self.send(format!("{}\n", request(id, method, params)));
    }

    /// The next line that comes.
    #[track_caller]
    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the connection ended after {line:?}");
        serde_json::from_str(&line).unwrap()
    }

    /// Sends a request and gives its answer, the only one under way.
    #[track_caller]
    pub fn call(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.request(id, method, params);
        let answer = self.receive();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Says that nothing more will be asked.
    #[track_caller]
    pub fn half_close(&self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }

    /// Waits for the other side to close, with nothing more said.
    #[track_caller]
    pub fn closed(&mut self) {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => {}
            // What the daemon closed before it had read all of it (unix(7) knows no other word for it).
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?} {line:?}"),
        }
    }
}

/// A request.
pub fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// The kind and the message of an answer that is an error, after a look at its form.
#[track_caller]
pub fn refusal(answer: &Value) -> (String, String) {
    use noxrunner_protocol::ErrorKind;
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    assert!(answer.get("result").is_none() && answer.get("id").is_some(), "{answer}");
    let error = answer["error"].as_object().unwrap_or_else(|| panic!("no error: {answer}"));
    let members: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(members, ["code", "data", "message"], "{answer}");
    let (code, message) = (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap());
    let kind = ErrorKind::from_code(code.try_into().unwrap());
    let kind = kind.unwrap_or_else(|| panic!("code {code} is not in the table: {answer}"));
    assert_eq!(error["data"]["kind"], kind.name(), "{answer}");
    assert!(!message.is_empty() && !message.contains('\n'), "{answer}");
    if let Some(hint) = error["data"].get("hint") {
        assert!(!hint.as_str().unwrap().is_empty(), "{answer}");
    }
    (kind.name().to_owned(), message.to_owned())
}
