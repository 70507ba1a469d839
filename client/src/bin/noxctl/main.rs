//! `noxctl`: the daemon's methods as verbs of a shell.
//!
//! | room | what it holds |
//! |---|---|
//! | `cli` | what can be typed |
//! | `context`, `target` | which daemon is meant, and the way to it |
//! | `start`, `spawn` | starting a daemon that is not there |
//! | `sandbox`, `exec`, `policy`, `doctor`, `daemon`, `openrpc` | the verbs |
//! | `backend` | the verbs that a backend elsewhere has, too |
//! | `shell` | one command a line |
//! | `files` | the verbs that copy files in and out |
//! | `interrupt` | what Ctrl-C does |
//! | `progress`, `render`, `terminal` | what is written, and how it looks |
//! | `error` | what can go wrong, and the exit status it leads to |

mod backend;
mod cli;
mod context;
mod daemon;
mod doctor;
mod error;
mod exec;
mod files;
mod interrupt;
mod openrpc;
mod policy;
mod progress;
mod render;
mod sandbox;
mod shell;
mod spawn;
mod start;
mod target;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Verb};
use context::Context;
use error::CliError;
use render::Out;

fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let out = Out::new(global.json, global.quiet);
    let status = run(&global, verb, &out).unwrap_or_else(|error| out.fail(&error));
    ExitCode::from(status)
}

fn run(global: &cli::Global, verb: Verb, out: &Out) -> Result<u8, CliError> {
    let context = |verb| Context::new(global, verb, out);
    match verb {
        Verb::Health => doctor::health(&context("health")?),
        Verb::Doctor => doctor::doctor(&context("doctor")?),
        Verb::Create(args) => sandbox::create(&context("create")?, args),
        Verb::Touch(args) => sandbox::touch(&context("touch")?, args),
        Verb::Delete(args) => sandbox::delete(&context("delete")?, args),
        Verb::Get(args) => sandbox::get(&context("get")?, args),
        Verb::List => sandbox::list(&context("list")?),
        Verb::Exec(args) => exec::exec(&context("exec")?, args),
        Verb::Shell(args) => shell::shell(&context("shell")?, args),
        Verb::Upload(args) => files::upload(&context("upload")?, &args),
        Verb::Download(args) => files::download(&context("download")?, &args),
        Verb::Cp(args) => files::cp(&context("cp")?, &args),
        Verb::Policy(args) => policy::policy(&context("policy")?, args),
        Verb::Daemon(verb) => daemon::daemon(&Context::here(global, out), &verb),
        Verb::Openrpc => openrpc::openrpc(&context("openrpc")?),
        Verb::Completions(args) => cli::completions(&args, out),
    }
}
