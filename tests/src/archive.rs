//! Archives as others make them, and the ways of sending one.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{TestDaemon, run, text};

/// The Python that builds odd archives.
const PYTHON: &str = "/usr/bin/python3";

/// What every builder starts with: `add(name, data, …)` and the raw archive `t`.
const PREAMBLE: &str = r#"
import io, os, struct, sys, tarfile
out = io.BytesIO()
t = tarfile.open(fileobj=out, mode=sys.argv[1], format=tarfile.GNU_FORMAT)
def add(name, data=b'', type=tarfile.REGTYPE, link='', mode=None, **more):
    i = tarfile.TarInfo(name)
    if mode is None:
        mode = 0o755 if type == DIR else 0o644
    i.type, i.linkname, i.mode, i.size = type, link, mode, len(data)
    for k, v in more.items():
        setattr(i, k, v)
    t.addfile(i, io.BytesIO(data))
DIR, SYM, LNK, CHR, BLK, FIFO = b'5', b'2', b'1', b'3', b'4', b'6'
"#;

/// An archive that lines of Python add to. `mode` is `w` or `w:gz`.
#[track_caller]
pub fn built(mode: &str, code: &str) -> Vec<u8> {
    let script =
        format!("{PREAMBLE}\n{code}\nt.close()\nsys.stdout.buffer.write(out.getvalue())\n");
    let output = run(Command::new(PYTHON).args(["-c", &script, mode]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

/// An archive of a directory's contents, by GNU tar.
#[track_caller]
pub fn tarred(dir: &Path, flags: &[&str]) -> Vec<u8> {
    let output = run(Command::new("tar").args(flags).arg("-cC").arg(dir).arg("."));
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

/// Which way an archive goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `file.upload`, as base64.
    Rpc,
    /// `POST /v1/sandboxes/{id}/files/upload` on the socket.
    Http,
    /// The same on TCP, where the daemon listens there.
    Tcp,
}

impl Door {
    /// Those of the socket.
    pub const BOTH: [Self; 2] = [Self::Rpc, Self::Http];

    /// All of them, for a daemon that listens on TCP too.
    pub const ALL: [Self; 3] = [Self::Rpc, Self::Http, Self::Tcp];

    /// curl on a path of the REST API, not yet run.
    #[track_caller]
    pub fn curl(self, daemon: &TestDaemon, path: &str) -> Command {
        match self {
            Self::Rpc => panic!("no HTTP"),
            Self::Http => curl(daemon, path),
            Self::Tcp => {
                let mut curl = Command::new("curl");
                // Some have a proxy for everything.
                curl.args(["--silent", "--noproxy", "*"]);
                curl.arg(format!("http://{}{path}", daemon.http()));
                curl
            }
        }
    }

    /// Sends an archive: its result, or the kind and the message of the error.
    #[track_caller]
    pub fn upload(
        self,
        daemon: &TestDaemon,
        id: &str,
        dest: &str,
        archive: &[u8],
    ) -> Result<Value, (String, String)> {
        match self {
            Self::Rpc => {
                let archive = STANDARD.encode(archive);
                let params = json!({"sessionId": id, "dest": dest, "archive": archive});
                let answer = daemon.call("file.upload", params);
                answer.map_err(|error| (error.kind.name().to_owned(), error.message))
            }
            Self::Http | Self::Tcp => {
                let (status, answer) = self.http_upload(daemon, id, dest, archive);
                let answer: Value = serde_json::from_slice(&answer)
                    .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&answer)));
                if status == 200 {
                    return Ok(answer);
                }
                let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                let kind = noxrunner_protocol::ErrorKind::ALL
                    .iter()
                    .find(|kind| kind.name() == text("kind"));
                assert_eq!(kind.map(|kind| kind.http_status()), Some(status), "{answer}");
                Err((text("kind"), text("error")))
            }
        }
    }

    /// The status and the body of an upload's answer, streamed in pieces by curl.
    #[track_caller]
    fn http_upload(
        self,
        daemon: &TestDaemon,
        id: &str,
        dest: &str,
        archive: &[u8],
    ) -> (u16, Vec<u8>) {
        let path = format!("/v1/sandboxes/{id}/files/upload?dest={dest}");
        let mut curl = self.curl(daemon, &path);
        curl.args(["-X", "POST", "-H", "content-type: application/x-tar", "-T", "-"]);
        curl.args(["-w", "\n%{http_code}"]);
        let output = fed(&mut curl, archive);
        // 55: it could not send all of it, which is no failure where the answer came first.
        assert!(matches!(output.status.code(), Some(0 | 55)), "{output:?}");
        let (status, answer) = answered(&output);
        assert!(status >= 200, "none came: {output:?}");
        (status, answer)
    }

    /// Downloads: the status and the body; an error where the body ends before its end.
    #[track_caller]
    pub fn download(
        self,
        daemon: &TestDaemon,
        id: &str,
        query: &str,
    ) -> Result<(u16, Vec<u8>), Output> {
        let mut curl = self.curl(daemon, &format!("/v1/sandboxes/{id}/files/download?{query}"));
        let output = run(curl.args(["-w", "\n%{http_code}"]));
        if output.status.success() { Ok(answered(&output)) } else { Err(output) }
    }
}

/// What curl wrote: the status behind the body.
#[track_caller]
fn answered(output: &Output) -> (u16, Vec<u8>) {
    let at = output.stdout.iter().rposition(|b| *b == b'\n').unwrap();
    (text(&output.stdout[at + 1..]).parse().unwrap(), output.stdout[..at].to_vec())
}

/// Downloads over the socket.
#[track_caller]
pub fn http_download(daemon: &TestDaemon, id: &str, query: &str) -> Result<(u16, Vec<u8>), Output> {
    Door::Http.download(daemon, id, query)
}

/// curl on a daemon's socket, not yet run.
pub fn curl(daemon: &TestDaemon, path: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.arg("--silent").arg("--unix-socket").arg(&daemon.socket);
    curl.arg(format!("http://noxrunner{path}"));
    curl
}

/// Unpacks an archive by GNU tar, gzip or not, into a directory that exists.
#[track_caller]
pub fn untar(archive: &[u8], dir: &Path) {
    let gzip = archive.starts_with(b"\x1f\x8b");
    let mut tar = Command::new("tar");
    tar.arg(if gzip { "-xzpC" } else { "-xpC" }).arg(dir).arg("--no-same-owner");
    let output = fed(&mut tar, archive);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Runs a command with bytes on its standard input.
#[track_caller]
pub fn fed(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Who needs no more of it closes its side.
            let _ = stdin.write_all(input);
        });
        let mut stdout = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        let mut output = child.wait_with_output().unwrap();
        output.stdout = stdout;
        output
    })
}
