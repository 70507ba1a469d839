//! A running command, from its start to its end, in a task of its own.
//!
//! ```text
//!            launch fails ───────────────────────────────┐
//!            │                                           │
//! launching ─┴─ running ── ended ── drained ── finished ─┴─→ Finished
//!                  │  deadline, hang-up: kill, then as above
//!                  └─ init gone ───────────────────────────→ Finished
//! ```
//!
//! Whoever waits for the result holds only its receiver. A handler is dropped when its
//! client hangs up; here that reads as the receiver going away, and the command is killed.

use std::sync::Arc;
use std::time::Duration;

use nix::libc::SIGKILL;
use noxrunner_init::message::{ExecId, ExecStep, Status, Usage};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::output::{Captured, discard, feed};
use super::pipes::{self, Ours, Theirs, receiver};
use crate::engine::init::{Ending, PATIENCE};
use crate::engine::{Engine, EngineError, Init};
use crate::sandbox::Sandbox;
use crate::sandbox::plan::ExecSpec;

/// How long after a command's end its answer waits for pipes that something it left behind holds.
const DRAIN: Duration = Duration::from_millis(250);

/// How long a command may take before its output is read as it comes. Only one that prints more than a pipe
/// holds waits for this; tokio's clock has ticks of a millisecond.
const QUICK: Duration = Duration::from_millis(2);

/// What goes in, how long it may take and how much is kept.
#[derive(Debug)]
pub struct Terms {
    /// When the command's time is over.
    pub deadline: Instant,
    /// What it reads on its standard input; nothing is an empty file.
    pub stdin: Option<Vec<u8>>,
    /// Most bytes kept of each output stream.
    pub max_output: usize,
}

/// How a command's life ended.
#[derive(Debug)]
pub enum End {
    /// It ended by itself or by a signal that somebody else sent.
    Own(Status),
    /// Its time was over.
    Timeout,
    /// It was never started: the step, and why, as errno(3) numbers it.
    NotStarted(ExecStep, i32),
    /// The sandbox ended around it.
    SandboxGone,
}

/// All there is to know of a command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// What it wrote on its standard output.
    pub stdout: Captured,
    /// What it wrote on its standard error.
    pub stderr: Captured,
    /// What it used; zero where nobody could count.
    pub usage: Usage,
    /// From its start to its end.
    pub duration: Duration,
}

/// Runs a command. Dropping the receiver kills it.
pub fn start(
    engine: Arc<Engine>,
    sandbox: Arc<Sandbox>,
    spec: ExecSpec,
    terms: Terms,
) -> oneshot::Receiver<Result<Finished, EngineError>> {
    let (mut result, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let finished = run(&engine, &sandbox, spec, terms, &mut result).await;
        let _ = result.send(finished);
    });
    receiver
}

/// A command that its init has got.
struct Launched {
    init: Arc<Init>,
    id: ExecId,
    ended: oneshot::Receiver<Ending>,
}

/// Inits that may die under a command's eyes before it gives up.
const LAUNCH_TRIES: u32 = 5;

/// Gives a command to its sandbox's init. One that is just dying has not taken it, so the next one is asked.
async fn launch(
    engine: &Engine,
    sandbox: &Sandbox,
    spec: ExecSpec,
    theirs: &Theirs,
) -> Result<Launched, EngineError> {
    let mut command = spec.into_command();
    let descriptors = theirs.descriptors();
    for _ in 0..LAUNCH_TRIES {
        let init = sandbox.init(engine).await?;
        match init.exec(&mut command, &descriptors).await {
            Ok((id, ended)) => return Ok(Launched { init, id, ended }),
            Err(EngineError::InitGone) => {}
            Err(error) => return Err(error),
        }
    }
    Err(EngineError::InitGone)
}

async fn run<T>(
    engine: &Engine,
    sandbox: &Sandbox,
    spec: ExecSpec,
    terms: Terms,
    client: &mut oneshot::Sender<T>,
) -> Result<Finished, EngineError> {
    let (mut stdout, mut stderr) =
        (Captured::new(terms.max_output), Captured::new(terms.max_output));
    let started = Instant::now();
    let (ours, theirs) = pipes::make(terms.stdin.is_some(), sandbox.host_uid())?;
    let launched = tokio::select! {
        // First, since it seldom waits, and then no timer is set.
        biased;
        launched = launch(engine, sandbox, spec, &theirs) => Some(launched?),
        () = client.closed() => None,
        () = sleep_until(terms.deadline) => None,
    };
    // The command has its own by now; ours would keep the pipes from ending.
    drop(theirs);
    let Some(Launched { init, id, mut ended }) = launched else {
        let (usage, duration) = (Usage::default(), started.elapsed());
        return Ok(Finished { end: End::Timeout, stdout, stderr, usage, duration });
    };

    let Ours { stdout: out, stderr: err, stdin } = ours;
    // Most commands are quick, say little and read nothing: their pipes hold all of it, and
    // are read once, without ever being waited for.
    let quick = match stdin {
        None => ends_soon(&mut ended, client, terms.deadline).await,
        Some(_) => None,
    };
    let (ending, timed_out, duration) = if let Some(ending) = quick {
        let duration = started.elapsed();
        if !(stdout.take_all(&out)? & stderr.take_all(&err)?) {
            let (mut out, mut err) = (receiver(out)?, receiver(err)?);
            let rest = async { tokio::join!(stdout.fill(&mut out), stderr.fill(&mut err)) };
            if timeout(DRAIN, rest).await.is_err() {
                leave(out, err);
            }
        }
        (ending, false, duration)
    } else {
        let (mut out, mut err) = (receiver(out)?, receiver(err)?);
        let watched = watch(&init, id, &mut ended, client, terms.deadline);
        let (ending, timed_out, duration, drained) = {
            let reading = async { tokio::join!(stdout.fill(&mut out), stderr.fill(&mut err)) };
            let writing = async {
                if let (Some(pipe), Some(bytes)) = (stdin, terms.stdin) {
                    feed(pipe, bytes).await;
                }
            };
            tokio::pin!(reading, writing, watched);
            let (mut drained, mut fed) = (false, false);
            let (ending, timed_out) = loop {
                tokio::select! {
                    outcome = &mut watched => break outcome,
                    _ = &mut reading, if !drained => drained = true,
                    () = &mut writing, if !fed => fed = true,
                }
            };
            let duration = started.elapsed();
            if !drained {
                drained = timeout(DRAIN, reading).await.is_ok();
            }
            (ending, timed_out, duration, drained)
        };
        if !drained {
            leave(out, err);
        }
        (ending, timed_out, duration)
    };
    stdout.finish();
    stderr.finish();
    let (end, usage) = match ending {
        None if timed_out => (End::Timeout, Usage::default()),
        None => (End::SandboxGone, Usage::default()),
        Some(Ending::Failed(step, errno)) => (End::NotStarted(step, errno), Usage::default()),
        Some(Ending::Ended(_, usage)) if timed_out => (End::Timeout, usage),
        Some(Ending::Ended(status, usage)) => (End::Own(status), usage),
    };
    Ok(Finished { end, stdout, stderr, usage, duration })
}

/// Goes on reading what nobody wants: whoever still holds the pipes was left behind by the
/// command, and is not to die or wait for what it writes there.
fn leave(out: pipe::Receiver, err: pipe::Receiver) {
    tokio::spawn(async move { tokio::join!(discard(out), discard(err)) });
}

/// The end of a command that comes at once: nothing where it takes longer, its time is over or its client gone.
async fn ends_soon<T>(
    ended: &mut oneshot::Receiver<Ending>,
    client: &mut oneshot::Sender<T>,
    deadline: Instant,
) -> Option<Option<Ending>> {
    tokio::select! {
        biased;
        ending = ended => Some(ending.ok()),
        () = client.closed() => None,
        () = sleep_until(deadline.min(Instant::now() + QUICK)) => None,
    }
}

/// Waits for a command's end, and brings it about when its time is over or its
/// client gone. The flag says that its time was over.
async fn watch<T>(
    init: &Init,
    id: ExecId,
    ended: &mut oneshot::Receiver<Ending>,
    client: &mut oneshot::Sender<T>,
    deadline: Instant,
) -> (Option<Ending>, bool) {
    let timed_out = tokio::select! {
        ending = &mut *ended => return (ending.ok(), false),
        () = sleep_until(deadline) => true,
        () = client.closed() => false,
    };
    (kill(init, id, ended).await, timed_out)
}

/// Kills a command, and its whole sandbox where its init does not answer in time.
async fn kill(init: &Init, id: ExecId, ended: &mut oneshot::Receiver<Ending>) -> Option<Ending> {
    let killed = async {
        init.signal(id, SIGKILL).await.ok()?;
        (&mut *ended).await.ok()
    };
    match timeout(PATIENCE, killed).await {
        Ok(ending) => ending,
        Err(_) => {
            tracing::warn!(
                pid = init.pid(),
                "an init did not kill a command in time: killing the init"
            );
            init.kill();
            timeout(PATIENCE, ended).await.ok()?.ok()
        }
    }
}
