//! What can be typed. Values are checked here, so that a wrong one is a usage
//! error before anything is asked of a daemon.

mod create;
mod files;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use noxrunner_client::v1::BaseUrl;
use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::{TimeoutSeconds, TtlSeconds};

pub(crate) use create::{CreateArgs, Lease};
pub(crate) use files::{CpArgs, Direction, DownloadArgs, UploadArgs};

use crate::error::CliError;
use crate::render::Out;

/// Make local sandboxes and run commands in them.
#[derive(Debug, Parser)]
#[command(name = "noxctl", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The daemon's socket [default: $NOXRUNNER_SOCKET, else this user's own]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) socket: Option<PathBuf>,
    /// A NoxRunner v1 backend, over HTTP or HTTPS, in place of this machine's daemon [also:
    /// $NOXRUNNER_BASE_URL]
    #[arg(long, value_name = "URL", global = true, conflicts_with_all = ["socket", "local_test"])]
    pub(crate) base_url: Option<BaseUrl>,
    /// The file with the token that the backend wants [also: $NOXRUNNER_TOKEN_FILE]
    #[arg(long, value_name = "FILE", global = true, conflicts_with_all = ["socket", "local_test"])]
    pub(crate) token_file: Option<PathBuf>,
    /// How long a backend may be silent; after a command, never less than its time and 30 seconds
    /// [default: 60]
    #[arg(long, value_name = "SECONDS", global = true, value_parser = timeout)]
    pub(crate) timeout: Option<TimeoutSeconds>,
    /// Of the tool before this one, which with it showed where in it an error arose
    #[arg(long, hide = true, global = true)]
    pub(crate) verbose: bool,
    /// Start a daemon for local tests if none answers
    #[arg(long, global = true)]
    pub(crate) local_test: bool,
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no warnings and no notes [also: NOXRUNNER_QUIET=1]
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// A daemon started from here ends after being idle this long
    #[arg(long, value_name = "SECONDS", default_value_t = 600, global = true)]
    pub(crate) idle_exit: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say whether the daemon is well
    Health,
    /// Make a sandbox, or keep the one of that name
    Create(CreateArgs),
    /// Run a command in a sandbox, which is made if it does not exist
    Exec(ExecArgs),
    /// Run the lines of standard input in a sandbox, one after the other
    Shell(ShellArgs),
    /// Copy files into a sandbox, by their last names, or all that a directory holds
    Upload(UploadArgs),
    /// Copy a directory or a file out of a sandbox
    Download(DownloadArgs),
    /// Copy between here and a sandbox, one side of which is SESSION_ID:PATH
    Cp(CpArgs),
    /// Start a sandbox's time to live anew
    Touch(SandboxArgs),
    /// Kill what runs in a sandbox and remove it with its files
    Delete(SandboxArgs),
    /// List the sandboxes
    List,
    /// Describe one sandbox
    Get(SandboxArgs),
    /// Print the policy, or ask what it makes of a command or a path
    Policy(PolicyArgs),
    /// Say what protects this machine from the sandboxes and what does not
    Doctor,
    /// Start, stop or describe the daemon
    #[command(subcommand)]
    Daemon(DaemonVerb),
    /// Print the OpenRPC document: every method, its params and its result
    Openrpc,
    /// Print the completions of a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// The sandbox's name
    pub(crate) session_id: SessionId,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Directory to run in
    #[arg(long, value_name = "PATH", default_value = "/workspace")]
    pub(crate) workdir: String,
    /// A variable of the command (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// How long the command may run
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    pub(crate) timeout_seconds: TimeoutSeconds,
    /// Exit with 0 whatever the command's status is
    #[arg(long)]
    pub(crate) ignore_exit_code: bool,
    /// Pass standard input on, read to its end first
    #[arg(short = 'i', long = "stdin")]
    pub(crate) stdin: bool,
    // One list, because only so clap leaves alone what follows the session id.
    /// The sandbox's name, then the command and its arguments; flags of exec come before them
    #[arg(value_names = ["SESSION_ID", "COMMAND"], num_args = 2.., required = true,
          trailing_var_arg = true)]
    rest: Vec<String>,
}

impl ExecArgs {
    /// The sandbox, and the command without the `--` that may stand before it.
    pub(crate) fn take_command(&mut self) -> Result<(SessionId, Vec<String>), CliError> {
        let mut rest = std::mem::take(&mut self.rest).into_iter().peekable();
        let id = rest.next().unwrap_or_default();
        let id = id.parse().map_err(|e| usage("exec", format!("{id:?}: {e}")))?;
        rest.next_if(|first| first == "--");
        match rest.collect::<Vec<_>>() {
            command if command.is_empty() => Err(usage("exec", "name a command to run")),
            command => Ok((id, command)),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The sandbox's name
    pub(crate) session_id: SessionId,
    /// Directory to run in
    #[arg(long, value_name = "PATH", default_value = "/workspace")]
    pub(crate) workdir: String,
    /// How long each line may run
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    pub(crate) timeout_seconds: TimeoutSeconds,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<PolicyVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Ask whether a command may run, or where a path leads; exits with 1 where it is denied
    Check(PolicyCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCheckArgs {
    /// A file path in a sandbox
    #[arg(long, value_name = "PATH", conflicts_with = "command")]
    pub(crate) path: Option<PathBuf>,
    /// A command and its arguments
    #[arg(value_name = "COMMAND", required_unless_present = "path", trailing_var_arg = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum DaemonVerb {
    /// Start one if none answers
    Start,
    /// End it and wait until it is gone
    Stop,
    /// Describe it; exits with 1 where there is none
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints what makes a shell complete these verbs and flags.
pub(crate) fn completions(args: &CompletionsArgs, out: &Out) -> Result<u8, CliError> {
    // Not straight to standard output: the generator panics where that is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "noxctl", &mut script);
    out.stdout(&script)?;
    Ok(0)
}

pub(crate) fn usage(verb: &str, message: impl std::fmt::Display) -> CliError {
    let mut root = Cli::command();
    root.build();
    let command = root.find_subcommand(verb).cloned().unwrap_or(root);
    CliError::Usage(command.clone().error(ErrorKind::ValueValidation, message))
}

fn ttl(text: &str) -> Result<TtlSeconds, String> {
    let seconds: u64 = text.parse().map_err(|_| "not a whole number of seconds".to_owned())?;
    TtlSeconds::try_from(seconds).map_err(|e| e.to_string())
}

fn timeout(text: &str) -> Result<TimeoutSeconds, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    TimeoutSeconds::try_from(seconds).map_err(|e| e.to_string())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write a name, `=` and a value, as in GREETING=hello".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    /// The global flags, the exec's flags, its session id and its command.
    fn exec(line: &str) -> (Global, ExecArgs, String, String) {
        let Cli { global, verb: Verb::Exec(mut args) } = parse(line).unwrap() else {
            panic!("{line}: not an exec")
        };
        let (id, command) = args.take_command().unwrap();
        (global, args, id.into(), command.join(" "))
    }

    pub(super) fn refused(line: &str) -> String {
        match parse(line) {
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{line}");
                error.to_string()
            }
            Ok(Cli { verb: Verb::Exec(mut args), .. }) => match args.take_command() {
                Err(CliError::Usage(error)) => error.to_string(),
                other => panic!("{line}: {other:?}"),
            },
            Ok(other) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_exec_come_before_the_session_id() {
        let (_, args, id, command) = exec("noxctl exec -i --env A=B --env C= s -- ls -l");
        assert!(args.stdin);
        assert_eq!(args.env, [("A".into(), "B".into()), ("C".into(), String::new())]);
        assert_eq!((id.as_str(), command.as_str()), ("s", "ls -l"));
        let (global, args, ..) =
            exec("noxctl exec --json --workdir /tmp --timeout-seconds 0.5 --ignore-exit-code s ls");
        assert!(global.json && args.ignore_exit_code && !args.stdin);
        assert_eq!((args.workdir.as_str(), args.timeout_seconds.get()), ("/tmp", 0.5));
    }

    #[test]
    fn what_follows_the_session_id_is_the_command() {
        for (line, expected) in [
            ("noxctl exec s ls --workdir x", "ls --workdir x"),
            ("noxctl exec s ls --json --quiet", "ls --json --quiet"),
            ("noxctl exec s --json", "--json"),
            ("noxctl exec s -i", "-i"),
            ("noxctl exec s -- --help", "--help"),
            ("noxctl exec s --help", "--help"),
            ("noxctl exec s -- -- a -- b", "-- a -- b"),
            ("noxctl exec s sh -c -- exit", "sh -c -- exit"),
            ("noxctl exec -- s ls --socket /x", "ls --socket /x"),
            ("noxctl exec -- s -- ls", "ls"),
        ] {
            let (global, args, id, command) = exec(line);
            assert_eq!((id.as_str(), command.as_str()), ("s", expected), "{line}");
            assert!(!global.json && !global.quiet && !args.stdin, "{line}");
            assert_eq!((global.socket, args.workdir.as_str()), (None, "/workspace"), "{line}");
        }
        assert_eq!(exec("noxctl exec -- -s ls").2, "-s");
    }

    #[test]
    fn usage_errors_say_what_is_wrong() {
        for (line, part) in [
            ("noxctl exec --env A s ls", "as in GREETING=hello"),
            ("noxctl exec --env =A s ls", "as in GREETING=hello"),
            ("noxctl exec s", "2"),
            ("noxctl exec s --", "name a command"),
            ("noxctl exec --frob s ls", "--frob"),
            ("noxctl exec --timeout-seconds 0 s ls", "at most 86400"),
            ("noxctl exec --timeout-seconds NaN s ls", "at most 86400"),
            ("noxctl exec a\u{7}b ls", "control characters"),
            ("noxctl create --ttl 0 s", "from 1 to 2592000"),
            ("noxctl create --ttl -5 s", "-5"),
            ("noxctl create --mem lots s", "is not a quantity"),
            ("noxctl create --network lan s", "none, host"),
            ("noxctl create", "SESSION_ID"),
            ("noxctl policy check", "COMMAND"),
            ("noxctl policy check --path /x ls", "--path"),
            ("noxctl frobnicate s f", "frobnicate"),
            ("noxctl", "Usage"),
            ("noxctl daemon", "Usage"),
            ("noxctl --json", "subcommand"),
        ] {
            let message = refused(line);
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    #[test]
    fn global_flags_stand_before_and_after_the_verb() {
        for line in ["noxctl --local-test --socket /s list", "noxctl list --socket /s --local-test"]
        {
            let global = parse(line).unwrap().global;
            assert!(global.local_test && !global.json, "{line}");
            assert_eq!(global.socket, Some("/s".into()), "{line}");
            assert_eq!(global.idle_exit, 600);
        }
    }

    #[test]
    fn policy_check_takes_a_command_as_it_is() {
        for line in ["noxctl policy check -- rm -r x", "noxctl policy check rm -r x"] {
            let Verb::Policy(PolicyArgs { verb: Some(PolicyVerb::Check(args)) }) =
                parse(line).unwrap().verb
            else {
                panic!("{line}")
            };
            assert_eq!(args.command, ["rm", "-r", "x"]);
        }
    }
}
