//! `noxctl`: the daemon's methods as verbs of a shell.
//!
//! | room | what it holds |
//! |---|---|
//! | `cli` | what can be typed |
//! | `context`, `target` | which daemon is meant, and the way to it |
//! | `start`, `spawn` | starting a daemon that is not there |
//! | `sandbox`, `exec`, `policy`, `doctor`, `daemon` | the verbs |
//! | `files` | the verbs that copy files in and out |
//! | `interrupt` | what Ctrl-C does |
//! | `progress`, `render`, `terminal` | what is written, and how it looks |
//! | `error` | what can go wrong, and the exit status it leads to |

mod cli;
mod context;
mod daemon;
mod doctor;
mod error;
mod exec;
mod files;
mod interrupt;
mod policy;
mod progress;
mod render;
mod sandbox;
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
    let context = || Context::new(global, out);
    match verb {
        Verb::Health => doctor::health(&context()?),
        Verb::Doctor => doctor::doctor(&context()?),
        Verb::Create(args) => sandbox::create(&context()?, args),
        Verb::Touch(args) => sandbox::touch(&context()?, args),
        Verb::Delete(args) => sandbox::delete(&context()?, args),
        Verb::Get(args) => sandbox::get(&context()?, args),
        Verb::List => sandbox::list(&context()?),
        Verb::Exec(args) => exec::exec(&context()?, args),
        Verb::Upload(args) => files::upload(&context()?, &args),
        Verb::Download(args) => files::download(&context()?, &args),
        Verb::Cp(args) => files::cp(&context()?, &args),
        Verb::Policy(args) => policy::policy(&context()?, args),
        Verb::Daemon(verb) => daemon::daemon(&Context::here(global, out), &verb),
        Verb::Completions(args) => cli::completions(&args, out),
    }
}
