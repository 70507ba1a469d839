//! A request to run a command, judged.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use noxrunner_protocol::types::{Denial, PolicyCheck};

use super::path::{Inside, PathError, PathUse, RootNames, decide};
use super::resolve::{Resolved, Search, View, resolve};
use super::rules::{FoldedName, Rule, base_name};
use super::{CommandList, Policy, multicall};

/// The search path where neither the sandbox nor the caller sets `PATH`, as execvp(3) has it.
pub const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command that a caller asks for.
#[derive(Clone, Copy)]
pub struct CommandRequest<'a> {
    /// The program and its arguments.
    pub cmd: &'a [String],
    /// The directory to run in.
    pub workdir: &'a str,
    /// The caller's variables; they win over `base_env`.
    pub env: &'a BTreeMap<String, String>,
    /// The sandbox's own variables, composed already. Its `PATH` is the one that `allow` trusts.
    pub base_env: &'a BTreeMap<OsString, OsString>,
    /// The file system as the command will see it.
    pub view: View<'a>,
}

/// A command that policy lets run. Only [`Policy::approve`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    argv: Vec<CString>,
    env: Vec<CString>,
    workdir: Inside,
}

impl Approved {
    /// The program as the caller named it, and its arguments; never empty.
    pub fn argv(&self) -> &[CString] {
        &self.argv
    }

    /// The whole environment as `NAME=value`, sorted by name, each name once.
    pub fn env(&self) -> &[CString] {
        &self.env
    }

    /// The directory to run in.
    pub fn workdir(&self) -> &Inside {
        &self.workdir
    }

    /// The argument vector, the environment and the working directory.
    pub fn into_parts(self) -> (Vec<CString>, Vec<CString>, Inside) {
        (self.argv, self.env, self.workdir)
    }
}

/// Why a command is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Policy denies it. This is a result, not an error: its words are the
    /// command's stderr and its exit status is 1.
    #[error("Command not allowed: {}", .0.rule)]
    Denied(Denial),
    /// It is no command that could be run; the words say which part of the request is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// What the lists say of a command that is no nonsense.
struct Verdict {
    resolved: Resolved,
    outcome: Result<Option<Denial>, Denial>,
}

impl Policy {
    /// Judges a command. Looks at the file system, so call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Refusal::Denied`] if the policy's list denies it, whether or not such a
    /// program exists. [`Refusal::Invalid`] if execve(2) could not be given it: no
    /// command, an empty program, a NUL anywhere, a variable without a proper name.
    pub fn approve(&self, request: &CommandRequest<'_>) -> Result<Approved, Refusal> {
        let workdir = request.place()?;
        let argv = arguments(request.cmd)?;
        let env = request.env()?;
        self.judge(request, &workdir).outcome.map_err(Refusal::Denied)?;
        let env = env.into_values().collect();
        Ok(Approved { argv, env, workdir })
    }

    /// Says what [`Policy::approve`] would, and which program would run.
    ///
    /// # Errors
    /// If the request is invalid; a denial is an answer here.
    pub fn check_command(&self, request: &CommandRequest<'_>) -> Result<PolicyCheck, Refusal> {
        let workdir = request.place()?;
        arguments(request.cmd)?;
        request.env()?;
        let Verdict { resolved, outcome } = self.judge(request, &workdir);
        let allowed = outcome.is_ok();
        let (rule, setting) = match outcome {
            Ok(None) => (None, None),
            Ok(Some(by)) | Err(by) => (Some(by.rule), Some(by.setting)),
        };
        let resolved = resolved.program.map(|program| program.to_string_lossy().into_owned());
        Ok(PolicyCheck { allowed, rule, setting, resolved, redirected: false })
    }

    fn judge(&self, request: &CommandRequest<'_>, workdir: &Inside) -> Verdict {
        let typed = request.cmd.first().map(OsStr::new).unwrap_or_default();
        let own_path = request.base_env.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let own_path = own_path.unwrap_or(OsStr::new(DEFAULT_PATH));
        let path = request.env.get("PATH").map_or(own_path, OsStr::new);
        let search = Search { view: request.view, path, workdir };
        let resolved = resolve(typed, search);
        let outcome = match &self.list {
            CommandList::Block { rules, also_from } => {
                let mut names = resolved.names.clone();
                names.extend(multicall::asked_for(&names, request.cmd).map(OsStr::to_owned));
                blocked(rules, *also_from, &names).map_or(Ok(None), Err)
            }
            CommandList::Allow(rules) => {
                // The root directory alone has no base name.
                let name = Some(base_name(typed)).filter(|name| !name.is_empty()).unwrap_or(typed);
                let own = resolve(name, Search { path: own_path, ..search });
                // Of a bare name on the sandbox's own PATH, the run itself will say that it is missing.
                let missing = own.program.is_none() && typed == name && path == own_path;
                allowed(rules, name, missing || same_program(&own, &resolved)).map(Some)
            }
        };
        Verdict { resolved, outcome }
    }
}

fn same_program(own: &Resolved, found: &Resolved) -> bool {
    own.program.is_some() && own.program == found.program
}

fn blocked(rules: &[Rule], also_from: usize, names: &[OsString]) -> Option<Denial> {
    let names: Vec<FoldedName> = names.iter().map(|name| FoldedName::new(name)).collect();
    let hit = |rule: &Rule| names.iter().any(|name| rule.matches_any_case(name));
    let (at, rule) = rules.iter().enumerate().find(|(_, rule)| hit(rule))?;
    let setting = if at < also_from { "block" } else { "also_block" };
    Some(Denial { rule: rule.to_string(), setting: setting.to_owned() })
}

/// The rule that lets `name` run, or the denial, which names the command: there is no rule to name.
fn allowed(rules: &[Rule], name: &OsStr, is_the_systems: bool) -> Result<Denial, Denial> {
    let by = |rule: String| Denial { rule, setting: "allow".to_owned() };
    match rules.iter().find(|rule| rule.matches(name)) {
        Some(rule) if is_the_systems => Ok(by(rule.to_string())),
        Some(_) | None => Err(by(name.to_string_lossy().into_owned())),
    }
}

impl CommandRequest<'_> {
    fn place(&self) -> Result<Inside, Refusal> {
        decide(self.workdir.as_bytes(), PathUse::Directory, self.view.names)
            .map_err(|error| Refusal::Invalid(format!("workdir {error}")))
    }

    fn env(&self) -> Result<BTreeMap<&OsStr, CString>, Refusal> {
        let callers = self.env.iter().map(|(k, v)| (OsStr::new(k), OsStr::new(v)));
        let own = self.base_env.iter().map(|(k, v)| (k.as_os_str(), v.as_os_str()));
        let mut env = BTreeMap::new();
        for (name, value) in own.chain(callers) {
            env.insert(name, assignment(name, value)?);
        }
        Ok(env)
    }
}

fn arguments(cmd: &[String]) -> Result<Vec<CString>, Refusal> {
    match cmd {
        [] => return Err(Refusal::Invalid("cmd is empty".to_owned())),
        [program, ..] if program.is_empty() => {
            return Err(Refusal::Invalid("cmd[0] is empty".to_owned()));
        }
        [_, ..] => {}
    }
    let argument =
        |(n, text): (usize, &String)| c_string(text.as_bytes().to_vec(), || format!("cmd[{n}]"));
    cmd.iter().enumerate().map(argument).collect()
}

/// Checks a command and its variables as [`Policy::approve`] does, before
/// there is a sandbox to run it in.
///
/// # Errors
/// What makes it no command, in words.
pub fn check_words(cmd: &[String], env: &BTreeMap<String, String>) -> Result<(), String> {
    arguments(cmd).map_err(|refusal| refusal.to_string())?;
    check_env(env)
}

/// Checks variables as [`Policy::approve`] does, before there is a command.
///
/// # Errors
/// Which variable is none, in words.
pub fn check_env<'a>(
    env: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), String> {
    let checked = |(name, value): (&String, &String)| {
        assignment(OsStr::new(name), OsStr::new(value)).map(drop)
    };
    env.into_iter().try_for_each(checked).map_err(|refusal| refusal.to_string())
}

fn assignment(name: &OsStr, value: &OsStr) -> Result<CString, Refusal> {
    let shown = || format!("the variable name {name:?} in env");
    if name.is_empty() {
        return Err(Refusal::Invalid("env has a variable with an empty name".to_owned()));
    }
    if name.as_bytes().contains(&b'=') {
        return Err(Refusal::Invalid(format!("{} has an equals sign", shown())));
    }
    c_string(name.as_bytes().to_vec(), shown)?;
    let text = [name.as_bytes(), value.as_bytes()].join(&b'=');
    c_string(text, || format!("env[{name:?}]"))
}

fn c_string(bytes: Vec<u8>, what: impl FnOnce() -> String) -> Result<CString, Refusal> {
    CString::new(bytes).map_err(|_| Refusal::Invalid(format!("{} has a NUL byte", what())))
}

/// Says where a file path would lead, for `policy.check`. A path that is not
/// UTF-8 is answered with replacement characters.
///
/// # Errors
/// If the path has a NUL byte.
pub fn check_path(path: &[u8], names: &RootNames) -> Result<PolicyCheck, PathError> {
    let inside = decide(path, PathUse::File, names)?;
    Ok(PolicyCheck {
        allowed: true,
        rule: None,
        setting: None,
        resolved: Some(String::from_utf8_lossy(&inside.display_path()).into_owned()),
        redirected: inside.redirected(),
    })
}

#[cfg(test)]
mod tests;
