//! `noxrunnerd`.

use std::process::ExitCode;

use clap::Parser;
use nix::sys::stat::{Mode, umask};
use noxrunner_daemon::config::{Config, LogFormat};
use noxrunner_daemon::{logging, run};

const NO_MODE: &str = "\
noxrunnerd runs the commands of its sandboxes on this machine. Say that you want that:

    noxrunnerd --local-test

It is for development and tests. There is no other mode yet.";

fn main() -> ExitCode {
    // First of all: what the starter had open is no business of a daemon's, and
    // what the daemon makes is nobody else's.
    noxrunner_init::close_inherited_descriptors();
    umask(Mode::from_bits_truncate(0o077));
    let config = Config::parse();
    if !config.local_test {
        eprintln!("{NO_MODE}");
        return ExitCode::from(2);
    }
    if config.detach {
        // Fails only for who leads a group already, and then there is nothing to leave.
        let _ = nix::unistd::setsid();
    }
    let format = config.log_format;
    match start(config) {
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

fn start(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    logging::start(config.log_format, config.log_level);
    // Before the runtime has threads: only a process with one can fork safely.
    let zygote = noxrunner_init::start()?;
    // One thread: what it does between two system calls is little, and each task that another
    // thread would take up costs a command a wake-up. What may wait for a disk has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run::run(config, zygote))?;
    Ok(())
}
