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

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::libc::SIGKILL;
use noxrunner_init::message::{ExecId, ExecStep, Status, Usage};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::output::{Budget, Captured, discard, feed};
use super::pipes::{self, receiver};
use crate::engine::init::{Course, Ending, PATIENCE, Pipes};
use crate::engine::{Engine, EngineError, Init};
use crate::limits::{self, Stop};
use crate::sandbox::Sandbox;
use crate::sandbox::plan::ExecSpec;

/// How long after a command's end its answer waits for pipes that something it left behind holds.
const DRAIN: Duration = Duration::from_millis(250);

/// How long the start of a command may keep others waiting: many times what one takes on processors that
/// are not all busy. On those that are, waiting in line would only leave them to who keeps them busy.
const TURN: Duration = Duration::from_millis(50);

/// What goes in, how long it may take and how much is kept.
#[derive(Debug)]
pub struct Terms {
    /// When the command's time is over.
    pub deadline: Instant,
    /// What it reads on its standard input; nothing is an empty file.
    pub stdin: Option<Vec<u8>>,
    /// Most bytes kept of each output stream.
    pub max_output: usize,
    /// Most bytes that it may print on both, where that is limited.
    pub stop_after: Option<u64>,
    /// Bytes that it leaves free on the disk.
    pub keep_free: u64,
    /// Who may start a command now.
    pub spawns: Arc<Semaphore>,
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
    /// The kernel killed something of it for want of memory.
    OutOfMemory(Status),
    /// It printed more than the policy lets it.
    TooMuchOutput,
    /// Everything in the sandbox was stopped for what it used.
    Stopped(Stop),
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

/// Inits that may die under a command's eyes before it gives up.
const LAUNCH_TRIES: u32 = 5;

/// Gives a command to its sandbox's init. One that is just dying has not taken it, so the next one is asked.
async fn launch(
    engine: &Engine,
    sandbox: &Sandbox,
    spec: ExecSpec,
    stdin: Option<BorrowedFd<'_>>,
) -> Result<(Arc<Init>, Course), EngineError> {
    let mut command = spec.into_command();
    for _ in 0..LAUNCH_TRIES {
        let init = sandbox.init(engine).await?;
        match init.exec(&mut command, stdin).await {
            Ok(course) => return Ok((init, course)),
            Err(EngineError::InitGone) => {}
            Err(error) => return Err(error),
        }
    }
    Err(EngineError::InitGone)
}

async fn run<T>(
    engine: &Engine,
    sandbox: &Arc<Sandbox>,
    spec: ExecSpec,
    terms: Terms,
    client: &mut oneshot::Sender<T>,
) -> Result<Finished, EngineError> {
    let started = Instant::now();
    let Terms { deadline, stdin, max_output, stop_after, keep_free, spawns } = terms;
    let (input, theirs) = match stdin {
        Some(bytes) => {
            let (ours, theirs) = pipes::input(sandbox.host_uid())?;
            (Some((ours, bytes)), Some(theirs))
        }
        None => (None, None),
    };
    let starting = async {
        // First come, first served. It never closes.
        let turn = spawns.acquire().await.ok();
        let stdin = theirs.as_ref().map(AsFd::as_fd);
        Ok((launch(engine, sandbox, spec, stdin).await?, turn))
    };
    let launched: Option<Result<_, EngineError>> = tokio::select! {
        // First, since it seldom waits, and then no timer is set.
        biased;
        launched = starting => Some(launched),
        () = client.closed() => None,
        () = sleep_until(deadline) => None,
    };
    // The command has its own by now.
    drop(theirs);
    let budget = stop_after.map(Budget::new);
    let captured = || Captured::new(max_output, budget.as_ref());
    let (mut stdout, mut stderr) = (captured(), captured());
    let Some(((init, Course { id, slow, mut ended }), turn)) = launched.transpose()? else {
        let (usage, duration) = (Usage::default(), started.elapsed());
        return Ok(Finished { end: End::Timeout, stdout, stderr, usage, duration });
    };

    // Pipes come only from a command that takes longer; what a quick one wrote comes with its end.
    let mut pipes = None;
    let (ending, cut, duration) = {
        let reading = async {
            let mut slow = slow;
            // It runs, or has run already: somebody else's turn. Nor do others wait for an init that
            // its own sandbox keeps from saying so.
            let begun = timeout(TURN, &mut slow).await;
            drop(turn);
            let Ok(slow) = (match begun {
                Ok(slow) => slow,
                Err(_) => slow.await,
            }) else {
                return Ok(());
            };
            limits::watch::start(sandbox, &init, keep_free);
            read(slow, &mut pipes, &mut stdout, &mut stderr).await
        };
        let writing = async {
            if let Some((pipe, bytes)) = input {
                feed(pipe, bytes).await;
            }
        };
        let watched = watch(&init, id, &mut ended, client, deadline, budget.as_deref());
        tokio::pin!(reading, writing, watched);
        let (mut drained, mut fed) = (false, false);
        let (ending, cut) = loop {
            tokio::select! {
                biased;
                outcome = &mut watched => break outcome,
                done = &mut reading, if !drained => { done?; drained = true; }
                () = &mut writing, if !fed => fed = true,
            }
        };
        let duration = started.elapsed();
        if !drained {
            // At once, where there was never a pipe.
            timeout(DRAIN, reading).await.unwrap_or(Ok(()))?;
        }
        (ending, cut, duration)
    };
    let (mut end, mut usage) = (End::SandboxGone, Usage::default());
    match ending {
        None => {
            // The kernel takes the init, too, where who it killed before has not given its memory back yet.
            if !sandbox.is_ended() && out_of_memory(sandbox).await {
                sandbox.confines.stop(init.pid(), Stop::Memory);
            }
        }
        Some(Ending::Failed(step, errno)) => end = End::NotStarted(step, errno),
        Some(Ending::Ended(status, used, output, rest)) => {
            (end, usage) = (End::Own(status), used);
            stdout.add(&output.stdout);
            stderr.add(&output.stderr);
            if let Some([out, err]) = rest {
                let (out, err) = pipes.insert((receiver(out)?, receiver(err)?));
                let rest = async { tokio::join!(stdout.fill(out), stderr.fill(err)) };
                if timeout(DRAIN, rest).await.is_ok() {
                    pipes = None;
                }
            }
            if !init.is_quiet() {
                limits::watch::start(sandbox, &init, keep_free);
            }
            // Something of it, which may not be the process that was waited for.
            if status != Status::Exited(0) && out_of_memory(sandbox).await {
                end = End::OutOfMemory(status);
            }
        }
    }
    if let Some(why) = sandbox.confines.why_stopped(init.pid()) {
        end = End::Stopped(why);
    }
    match cut {
        Cut::Never | Cut::HungUp => {}
        Cut::Deadline => end = End::Timeout,
        Cut::Output => end = End::TooMuchOutput,
    }
    if let Some((out, err)) = pipes {
        leave(out, err);
    }
    stdout.finish();
    stderr.finish();
    Ok(Finished { end, stdout, stderr, usage, duration })
}

/// The pipes of one command.
type Streams = (pipe::Receiver, pipe::Receiver);

/// Reads what a command that takes longer writes, to the end of file of both. The pipes stay in `open` until then.
async fn read(
    [out, err]: Pipes,
    open: &mut Option<Streams>,
    stdout: &mut Captured,
    stderr: &mut Captured,
) -> Result<(), EngineError> {
    let (out, err) = open.insert((receiver(out)?, receiver(err)?));
    tokio::join!(stdout.fill(out), stderr.fill(err));
    *open = None;
    Ok(())
}

/// Goes on reading what nobody wants: whoever still holds the pipes was left behind by the
/// command, and is not to die or wait for what it writes there.
fn leave(out: pipe::Receiver, err: pipe::Receiver) {
    tokio::spawn(async move { tokio::join!(discard(out), discard(err)) });
}

/// Why a command was not left to its own end.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Never,
    Deadline,
    HungUp,
    Output,
}

/// Waits for a command's end, and brings it about when its time is over, its
/// client gone, or too much printed.
async fn watch<T>(
    init: &Init,
    id: ExecId,
    ended: &mut oneshot::Receiver<Ending>,
    client: &mut oneshot::Sender<T>,
    deadline: Instant,
    budget: Option<&Budget>,
) -> (Option<Ending>, Cut) {
    let exceeded = async {
        match budget {
            Some(budget) => budget.exceeded().await,
            None => std::future::pending().await,
        }
    };
    let cut = tokio::select! {
        ending = &mut *ended => return (ending.ok(), Cut::Never),
        () = sleep_until(deadline) => Cut::Deadline,
        () = client.closed() => Cut::HungUp,
        () = exceeded => Cut::Output,
    };
    (kill(init, id, ended).await, cut)
}

/// Whether the kernel has killed something in the sandbox for want of memory. Reads a file of a control group.
async fn out_of_memory(sandbox: &Arc<Sandbox>) -> bool {
    if !sandbox.confines.enforcers().limits_memory() {
        return false;
    }
    let confines = Arc::clone(&sandbox.confines);
    spawn_blocking(move || confines.ran_out_of_memory()).await.unwrap_or(false)
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
