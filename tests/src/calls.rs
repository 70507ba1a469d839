//! What tests ask a daemon for, and what they find in its directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use noxrunner_client::Connection;
use noxrunner_protocol::types::{CreateParams, CreateResult, ExecParams, ExecResult, SandboxRef};
use noxrunner_protocol::{RpcError, method};
use serde_json::Value;

use crate::processes::{Numbers, Process};
use crate::wire::{Wire, refusal};
use crate::{SOON, TestDaemon, exec_params, number_in, program};

impl TestDaemon {
    /// A connection of bare lines.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::open(&self.socket)
    }

    /// Calls a method that is refused, and gives the kind and the message of its error.
    #[track_caller]
    pub fn refused(&self, method: &str, params: Value) -> (String, String) {
        refusal(&self.wire().call(1, method, params))
    }

    /// The workspace of a sandbox, as this machine names it.
    #[track_caller]
    pub fn workspace(&self, id: &str) -> PathBuf {
        let info = self.call("sandbox.get", serde_json::json!({"sessionId": id})).unwrap();
        Path::new(info["sandboxDir"].as_str().unwrap()).join("workspace")
    }

    /// A connection of the client library.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(&self.socket).unwrap()
    }

    /// Creates a sandbox with defaults.
    #[track_caller]
    pub fn create(&self, id: &str) -> CreateResult {
        let params = CreateParams::new(id.parse().unwrap());
        self.connect().call::<method::SandboxCreate>(&params).unwrap()
    }

    /// Creates a sandbox that lives for so many seconds.
    #[track_caller]
    pub fn create_for(&self, id: &str, ttl_seconds: u64) -> CreateResult {
        let mut params = CreateParams::new(id.parse().unwrap());
        params.ttl_seconds = ttl_seconds.try_into().unwrap();
        self.connect().call::<method::SandboxCreate>(&params).unwrap()
    }

    /// Deletes a sandbox.
    #[track_caller]
    pub fn delete(&self, id: &str) {
        let params = SandboxRef { session_id: id.parse().unwrap() };
        self.connect().call::<method::SandboxDelete>(&params).unwrap();
    }

    /// Runs a command in a sandbox that exists.
    #[track_caller]
    pub fn exec(&self, id: &str, cmd: &[&str]) -> ExecResult {
        self.exec_params(exec_params(id, cmd))
    }

    /// Runs a shell script in a sandbox that exists.
    #[track_caller]
    pub fn sh(&self, id: &str, script: &str) -> ExecResult {
        self.exec(id, &["sh", "-c", script])
    }

    /// Runs a command with params of the test's own.
    #[track_caller]
    pub fn exec_params(&self, params: ExecParams) -> ExecResult {
        self.connect().call::<method::SandboxExec>(&params).unwrap()
    }

    /// Calls a method by name with any JSON, and gives its result or its error.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let request = serde_json::json!(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        );
        let mut answers = self.lines(format!("{request}\n"));
        let mut answer: Value = serde_json::from_str(&answers.remove(0)).unwrap();
        match answer.get_mut("error") {
            Some(error) => Err(serde_json::from_value(error.take()).unwrap()),
            None => Ok(answer["result"].take()),
        }
    }

    /// Sends bytes, closes the sending side, and gives every line that comes back.
    #[track_caller]
    pub fn lines(&self, text: impl AsRef<[u8]>) -> Vec<String> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(text.as_ref()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().map(str::to_owned).collect()
    }

    /// `noxctl --socket …` with these arguments, not yet run.
    pub fn noxctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("noxctl"));
        command.arg("--socket").arg(&self.socket).args(arguments).stdin(Stdio::null());
        command
    }

    /// Names of the sandbox directories that are there.
    pub fn directories(&self) -> Vec<String> {
        let names = fs::read_dir(&self.base).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with("noxrunner_sandbox_"));
        names.sort();
        names
    }

    /// The process whose command has written its number to a file in the workspace, once it has; it is alive.
    #[track_caller]
    pub fn process_in(&self, id: &str, file: &str) -> Process {
        let workspace = self.workspace(id);
        let number = number_in(&workspace.join(file));
        let process = Numbers::now().find(&workspace, number);
        process.unwrap_or_else(|| panic!("{file} ({number}) does not live"))
    }
}
