//! `health` over lines beside a bare echo of lines, and beside clients that misbehave.
//!
//! The echo is a process of its own with a runtime like the daemon's. What it answers is the very line
//! that the daemon answers, so that both arms move the same bytes and are checked the same way.

use std::io::{ErrorKind, Read, Write};
use std::iter::zip;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use noxrunner_tests::{TestDaemon, eventually};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::options::Options;
use crate::report::{Row, head, median, percentile};

const ONE_CORE: &str = "health, one core";
const MANY: &str = "health, 64 connections";
const BESIDE: &str = "health beside garbage and no reader";

/// What makes this program the echo, and nothing else of the benchmark.
const ECHO: &str = "--echo";

const REQUEST: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}}\n";

/// Calls of one arm before it is the other's turn: few enough that both see the same machine, and so
/// many that what is measured is an arm that runs, not one that is woken.
const TURN: usize = 50;

/// Connections of the arm with many.
const CONNECTIONS: usize = 64;

/// Everything about lines.
pub(crate) fn lines(options: &Options) -> Vec<Value> {
    let mut rows = Vec::new();
    if ![ONE_CORE, MANY, BESIDE].iter().any(|name| options.wants(name)) {
        return rows;
    }
    let daemon = TestDaemon::start_with(&options.daemon_arguments());
    let answer = Line::open(&daemon.socket).call();
    let echo = Echo::start(&answer);
    let servers = [(daemon.pid(), daemon.socket.as_path()), (echo.pid(), echo.socket.as_path())];
    if options.wants(ONE_CORE) {
        rows.extend(one_core(servers, options));
    }
    if options.wants(MANY) {
        rows.extend(many(servers, options));
    }
    if options.wants(BESIDE) {
        rows.extend(beside(&daemon, options));
    }
    rows
}

/// One connection, the client and the server on the same processor.
fn one_core(servers: [(Pid, &Path); 2], options: &Options) -> Vec<Value> {
    let core = *processors().last().unwrap();
    servers.iter().for_each(|(server, _)| keep_on(*server, core));
    // [health, echo], a list of samples a round.
    let mut rounds: [Vec<Vec<Duration>>; 2] = Default::default();
    on(core, || {
        let mut lines = servers.map(|(_, socket)| Line::open(socket));
        // The first round warms everything up and is not counted.
        for _ in 0..=options.scale.rounds {
            let mut samples = [Vec::new(), Vec::new()];
            for _ in 0..options.scale.lines.div_ceil(TURN) {
                for (line, samples) in zip(&mut lines, &mut samples) {
                    samples.extend((0..TURN).map(|_| line.timed()));
                }
            }
            zip(&mut rounds, samples).for_each(|(rounds, samples)| rounds.push(samples));
        }
    });
    head("lines, on one core");
    let [health, echo] = rounds.map(|rounds| rounds[1..].to_vec());
    vec![row("echo, one core", &echo, None), row(ONE_CORE, &health, Some(("echo", &echo)))]
}

/// Many connections, each with one call under way; client and server have a processor each, if there
/// are two. The client does less a call than either server, so what is measured is the server.
fn many(servers: [(Pid, &Path); 2], options: &Options) -> Vec<Value> {
    let processors = processors();
    servers.iter().for_each(|(server, _)| keep_on(*server, processors[0]));
    let mut rates: [Vec<f64>; 2] = Default::default();
    let mut samples: [Vec<Duration>; 2] = Default::default();
    on(*processors.last().unwrap(), || {
        let mut crowds = servers.map(|(_, socket)| Crowd::open(socket));
        for round in 0..=options.scale.rounds {
            for (n, crowd) in crowds.iter_mut().enumerate() {
                let (took, waits) = crowd.work(options.scale.lines);
                if round > 0 {
                    rates[n].push(waits.len() as f64 / took.as_secs_f64());
                    samples[n].extend(waits);
                }
            }
        }
    });
    head("lines, many connections");
    let ratios = zip(&rates[0], &rates[1]).map(|(health, echo)| health / echo).collect();
    let row = |name, n: usize, ratios, to| {
        let per_second = Some(median(&rates[n]));
        Row { name, samples: &samples[n], per_second, ratios, to }.show()
    };
    let name = "echo, 64 connections";
    vec![row(name, 1, Vec::new(), ""), row(MANY, 0, ratios, "the echo's a second")]
}

/// A health while one other client sends mutated lines as fast as they are taken and another reads
/// none of its answers, to one in quiet. Nobody is told where to run.
fn beside(daemon: &TestDaemon, options: &Options) -> Vec<Value> {
    let mut line = Line::open(&daemon.socket);
    let mut measure = || -> Vec<Duration> {
        (0..options.scale.lines.div_ceil(10)).map(|_| line.timed()).collect()
    };
    all_processors(daemon.pid());
    let (mut quiet, mut beside, mut garbage) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=options.scale.rounds {
        quiet.push(measure());
        let reads_nothing = stuffed(&daemon.socket);
        let started = Instant::now();
        let (samples, refusals) = with_garbage(&daemon.socket, &mut measure);
        garbage.push(refusals as f64 / started.elapsed().as_secs_f64());
        beside.push(samples);
        drop(reads_nothing);
    }
    head("clients that misbehave");
    let (quiet, beside, garbage) = (&quiet[1..], &beside[1..], median(&garbage[1..]));
    assert!(garbage > 0.0, "no garbage was answered");
    let rows =
        vec![row("health in quiet", quiet, None), row(BESIDE, beside, Some(("quiet", quiet)))];
    println!("{:36} {garbage:>28.0}", "garbage answered meanwhile");
    rows
}

fn row(name: &str, rounds: &[Vec<Duration>], to: Option<(&str, &[Vec<Duration>])>) -> Value {
    let p50 = |samples: &Vec<Duration>| percentile(samples, 50);
    let ratios = to.map_or_else(Vec::new, |(_, base)| {
        zip(rounds, base).map(|(own, base)| p50(own) / p50(base)).collect()
    });
    let to = to.map_or("", |(to, _)| to);
    Row { name, samples: &rounds.concat(), per_second: None, ratios, to }.show()
}

/// A connection of which every answer is one line and says that all is well.
struct Line {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Line {
    fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        Self { stream, buffer: vec![0; 64 * 1024] }
    }

    fn ask(&mut self) {
        self.stream.write_all(REQUEST).unwrap();
    }

    /// The length of the next line, its end included.
    fn hear(&mut self) -> usize {
        let mut length = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[length..]).unwrap();
            assert!(read > 0, "the connection ended");
            length += read;
            if self.buffer[length - 1] == b'\n' {
                return length;
            }
        }
    }

    fn check(&self, length: usize) {
        let well = b"\"status\":\"ok\"";
        let answer = &self.buffer[..length];
        assert!(answer.windows(well.len()).any(|part| part == well), "{answer:?}");
    }

    fn call(&mut self) -> String {
        self.ask();
        let length = self.hear();
        self.check(length);
        String::from_utf8(self.buffer[..length - 1].to_vec()).unwrap()
    }

    fn timed(&mut self) -> Duration {
        let started = Instant::now();
        self.ask();
        let length = self.hear();
        let took = started.elapsed();
        self.check(length);
        took
    }
}

/// Connections that one thread serves in turn, each with a call under way while the others are.
struct Crowd(Vec<Line>);

impl Crowd {
    fn open(socket: &Path) -> Self {
        Self((0..CONNECTIONS).map(|_| Line::open(socket)).collect())
    }

    /// So many calls: how long all took, and each.
    fn work(&mut self, calls: usize) -> (Duration, Vec<Duration>) {
        let (started, mut asked) = (Instant::now(), Vec::new());
        for line in &mut self.0 {
            asked.push(Instant::now());
            line.ask();
        }
        let mut waits = Vec::new();
        while waits.len() < calls {
            for (line, asked) in zip(&mut self.0, &mut asked) {
                let length = line.hear();
                waits.push(asked.elapsed());
                line.check(length);
                *asked = Instant::now();
                line.ask();
            }
        }
        let took = started.elapsed();
        for line in &mut self.0 {
            let length = line.hear();
            line.check(length);
        }
        (took, waits)
    }
}

/// A client that has asked until nothing more of it was taken, and reads nothing.
fn stuffed(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_nonblocking(true).unwrap();
    let full = |stream: &mut UnixStream| loop {
        match stream.write(REQUEST) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Instant::now(),
            Err(error) => panic!("{error}"),
        }
    };
    let mut last = full(&mut stream);
    eventually("it takes no more", Duration::from_secs(10), || {
        let now = stream.write(REQUEST).is_ok();
        if now {
            last = full(&mut stream);
        }
        last.elapsed() > Duration::from_millis(50)
    });
    stream
}

/// Does something while a client sends what is nearly a request, and takes what is said to it: how many
/// lines that was.
fn with_garbage<T>(socket: &Path, work: impl FnOnce() -> T) -> (T, usize) {
    let stream = UnixStream::connect(socket).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            loop {
                let mut lines = REQUEST.repeat(16);
                for at in (0..lines.len()).step_by(8) {
                    // Xorshift: the same garbage in every run.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let [byte, dice, ..] = random.to_le_bytes();
                    if dice < 32 {
                        lines[at] = byte;
                    }
                }
                if (&stream).write_all(&lines).is_err() {
                    return;
                }
            }
        });
        let refusals = scope.spawn(|| {
            let (mut heard, mut lines) = (vec![0; 64 * 1024], 0);
            loop {
                match (&stream).read(&mut heard) {
                    Ok(0) | Err(_) => return lines,
                    Ok(n) => lines += heard[..n].iter().filter(|byte| **byte == b'\n').count(),
                }
            }
        });
        let done = work();
        // The daemon may have closed it already.
        let _ = stream.shutdown(Shutdown::Both);
        (done, refusals.join().unwrap())
    })
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|n| set.is_set(*n).unwrap()).collect()
}

fn keep_on(thread: Pid, processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).unwrap();
    sched_setaffinity(thread, &set).unwrap();
}

/// Undoes [`keep_on`].
fn all_processors(thread: Pid) {
    sched_setaffinity(thread, &sched_getaffinity(Pid::from_raw(0)).unwrap()).unwrap();
}

/// Does something on one processor, in a thread of its own.
fn on(processor: usize, work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            keep_on(Pid::from_raw(0), processor);
            work();
        });
    });
}

/// The echo, until it is dropped.
struct Echo {
    child: Child,
    socket: std::path::PathBuf,
    _dir: TempDir,
}

impl Echo {
    fn start(answer: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        let socket = dir.path().join("echo.sock");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let child =
            command.arg(ECHO).arg(&socket).arg(answer).stdin(Stdio::null()).spawn().unwrap();
        eventually("the echo answers", Duration::from_secs(10), || {
            UnixStream::connect(&socket).is_ok()
        });
        Self { child, socket, _dir: dir }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the echo where this process was started as that.
pub(crate) fn echo() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ECHO) {
        return;
    }
    let (socket, answer) = (arguments.next().unwrap(), arguments.next().unwrap() + "\n");
    // As the daemon's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let answer: &'static str = answer.leak();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_lines(stream, answer));
        }
    });
}

async fn answer_lines(mut stream: tokio::net::UnixStream, answer: &str) {
    let mut buffer = Vec::with_capacity(8 * 1024);
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        for _ in buffer.iter().filter(|byte| **byte == b'\n') {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        buffer.clear();
    }
}
