//! One command a line, as the tool before this one did it. What a line leaves in its shell ends
//! with it, but for the directory of a `cd`.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use noxrunner_protocol::http::{ExecBody, Executed};
use noxrunner_protocol::{SessionId, limits};

use crate::cli::{SandboxArgs, ShellArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::render::Out;
use crate::{exec, interrupt, sandbox};

const HELP: &str = "exit, quit: leave\ntouch: start the sandbox's time to live anew\ncd DIRECTORY: \
                    run the next lines there\nanything else is a line for the sandbox's sh\n";

/// Changes to `$2`, then as `$1` says, and says where that is: from where it began, since the
/// directories of a sandbox may have other names to its commands.
const CHANGE_DIRECTORY: &str = r#"here=$(pwd -P); cd -- "$2" && eval "$1" >/dev/null || exit
case $(pwd -P) in
    "$here") echo . ;;
    "$here"/*) at=$(pwd -P); printf '%s\n' "${at#"$here"/}" ;;
    *) pwd -P ;;
esac"#;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Leave,
    Help,
    Touch,
    ChangeDirectory(&'a str),
    Run(&'a str),
}

/// `shell`. Its status is 1 where a line could not be handed over; how commands end is said, and
/// nothing more.
pub(crate) fn shell(context: &Context<'_>, args: ShellArgs) -> Result<u8, CliError> {
    interrupt::exit_at_once();
    let out = context.out;
    let prompts = io::stdin().is_terminal();
    if prompts {
        out.info(
            "This version has no interactive terminal: each line runs by itself, without input",
        );
        out.info("Type exit or quit to leave, help for help");
    }
    let mut session = Session { context, args, at: ".".to_owned(), status: 0 };
    let mut stdin = io::stdin().lock();
    loop {
        if prompts {
            let _ = write!(io::stderr(), "noxrunner:{}$ ", out.shown(session.id().as_str()));
        }
        let Some(line) = read_line(&mut stdin)? else { break };
        let Ok(line) = String::from_utf8(line) else {
            out.error("a line is not UTF-8");
            session.status = 1;
            continue;
        };
        match meaning(&line) {
            Line::Leave => break,
            Line::Nothing => {}
            Line::Help => out.stderr(HELP.as_bytes()),
            Line::Touch => session.touch(),
            Line::ChangeDirectory(line) => session.change_directory(line)?,
            Line::Run(line) => session.run(line)?,
        }
    }
    Ok(session.status)
}

struct Session<'a> {
    context: &'a Context<'a>,
    args: ShellArgs,
    /// Where the next line runs: from the directory it all began in, or an absolute path.
    at: String,
    status: u8,
}

impl Session<'_> {
    fn id(&self) -> &SessionId {
        &self.args.session_id
    }

    fn out(&self) -> &Out {
        self.context.out
    }

    fn touch(&mut self) {
        let args = SandboxArgs { session_id: self.id().clone() };
        if let Err(error) = sandbox::touch(self.context, args) {
            self.status = self.out().fail(&error);
        }
    }

    fn run(&mut self, line: &str) -> Result<(), CliError> {
        let workdir = match self.at.as_str() {
            "." => self.args.workdir.clone(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            below => format!("{}/{below}", self.args.workdir),
        };
        if let Some(ran) = self.ask(&["sh", "-c", line], workdir) {
            exec::finish(self.context, ran, false)?;
        }
        Ok(())
    }

    fn change_directory(&mut self, line: &str) -> Result<(), CliError> {
        let cmd = ["sh", "-c", CHANGE_DIRECTORY, "sh", line, &self.at.clone()];
        let Some(mut ran) = self.ask(&cmd, self.args.workdir.clone()) else { return Ok(()) };
        if ran.exit_code == 0 {
            let stdout = exec::decode(&ran.stdout, ran.encoding.unwrap_or_default())?;
            let at = String::from_utf8_lossy(&stdout).into_owned();
            self.at = at.strip_suffix('\n').unwrap_or(&at).to_owned();
            ran.stdout.clear();
        }
        exec::finish(self.context, ran, false)?;
        Ok(())
    }

    /// Runs a command and says how it ended, if not well. None where it was not run.
    fn ask(&mut self, cmd: &[&str], workdir: String) -> Option<Executed> {
        let body = ExecBody {
            cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
            workdir: Some(workdir),
            env: None,
            timeout_seconds: Some(self.args.timeout_seconds),
        };
        match exec::run(self.context, self.id(), body) {
            Ok(ran) => {
                if ran.exit_code != 0 && !self.out().json {
                    self.out().warn(&format!("Command exited with code {}", ran.exit_code));
                }
                Some(ran)
            }
            Err(error) => {
                self.status = self.out().fail(&error);
                None
            }
        }
    }
}

fn meaning(line: &str) -> Line<'_> {
    let line = line.trim();
    match line {
        "" => Line::Nothing,
        "exit" | "quit" => Line::Leave,
        "help" => Line::Help,
        "touch" => Line::Touch,
        line => {
            let alone = !line.contains([';', '&', '|', '<', '>', '(']);
            match line.split_whitespace().next() {
                Some("cd") if alone => Line::ChangeDirectory(line),
                Some(_) | None => Line::Run(line),
            }
        }
    }
}

/// A line without its end, or none where there are no more.
fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, CliError> {
    let mut line = Vec::new();
    let mut bounded = input.take(limits::MAX_LINE_BYTES as u64);
    bounded.read_until(b'\n', &mut line).map_err(CliError::Stdin)?;
    if line.len() == limits::MAX_LINE_BYTES {
        return Err(CliError::StdinTooLong);
    }
    Ok((!line.is_empty()).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_noxctl_or_for_the_sandbox() {
        for (line, expected) in [
            (" \n", Line::Nothing),
            ("exit\n", Line::Leave),
            (" quit", Line::Leave),
            ("exit 3", Line::Run("exit 3")),
            ("touch\n", Line::Touch),
            ("touch f\n", Line::Run("touch f")),
            ("cd\r\n", Line::ChangeDirectory("cd")),
            ("cd 'a b'\n", Line::ChangeDirectory("cd 'a b'")),
            ("cd a && ls", Line::Run("cd a && ls")),
            ("cdx", Line::Run("cdx")),
        ] {
            assert_eq!(meaning(line), expected, "{line:?}");
        }
    }
}
