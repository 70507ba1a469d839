//! `noxrunnerd`.

use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use clap::Parser;
use nix::sys::stat::{Mode, umask};
use noxrunner_daemon::config::{Config, LogFormat};
use noxrunner_daemon::{front, logging, run};
use noxrunner_init::HandedError;

const NO_MODE: &str = "\
noxrunnerd runs the commands of its sandboxes on this machine, or has a NoxRunner backend elsewhere
run them. Say which:

    noxrunnerd --local-test
    noxrunnerd --base-url https://nox.example.org

The first is for development and tests.";

fn main() -> ExitCode {
    // First of all: what the starter had open is no business of a daemon's but for the socket that
    // it gives, and what the daemon makes is nobody else's.
    let handed = noxrunner_init::take_handed();
    umask(Mode::from_bits_truncate(0o077));
    let config = Config::parse();
    if !config.local_test && config.upstream.base_url.is_none() {
        eprintln!("{NO_MODE}");
        return ExitCode::from(2);
    }
    if config.detach {
        // Fails only for who leads a group already, and then there is nothing to leave.
        let _ = nix::unistd::setsid();
    }
    let format = config.log_format;
    match start(config, handed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match format {
                LogFormat::Human => eprintln!("noxrunnerd: {error}"),
                LogFormat::Json => tracing::error!("{error}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn start(
    config: Config,
    handed: Result<Option<UnixListener>, HandedError>,
) -> Result<(), Box<dyn std::error::Error>> {
    logging::start(config.log_format, config.log_level);
    let handed = handed?;
    if let Some(url) = config.upstream.base_url.clone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ran = runtime.block_on(front::run::run(config, url, handed));
        // A host's name that is being looked up would be waited for.
        runtime.shutdown_background();
        return Ok(ran?);
    }
    // Before the runtime has threads: only a process with one can fork safely.
    let zygote = noxrunner_init::start()?;
    // One thread: what it does between two system calls is little, and each task that another
    // thread would take up costs a command a wake-up. What may wait for a disk has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run::run(config, handed, zygote))?;
    Ok(())
}
