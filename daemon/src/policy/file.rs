//! The policy file (`--policy FILE`), in TOML. Every key may be left out:
//!
//! ```toml
//! commands = "direct"            # or "everywhere", the default
//! block = ["rm", "mkfs*"]        # replaces the default list
//! also_block = ["curl"]          # adds to it
//! allow = ["ls", "python3*"]     # instead of both: nothing else runs
//! env_passthrough = ["LC_ALL"]   # variables of the daemon's that commands see
//! ```

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use noxrunner_protocol::types::CommandScope;
use toml::{Table, Value};

use super::rules::{Rule, RuleError};
use super::{CommandList, Policy};

/// Largest policy file, in bytes.
pub const MAX_POLICY_FILE_BYTES: u64 = 1024 * 1024;

const COMMANDS: &str = "commands";
const BLOCK: &str = "block";
const ALSO_BLOCK: &str = "also_block";
const ALLOW: &str = "allow";
const ENV_PASSTHROUGH: &str = "env_passthrough";
const KEYS: [&str; 5] = [COMMANDS, BLOCK, ALSO_BLOCK, ALLOW, ENV_PASSTHROUGH];

/// A policy file that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("policy file {}: {problem}", file.display())]
pub struct PolicyFileError {
    /// The file, as it was given.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub problem: PolicyFileProblem,
}

/// What is wrong with a policy file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileProblem {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}; check the path and that the daemon's user may read it")]
    Read(io::Error),
    /// It is a directory, a device, a FIFO or a socket.
    #[error("is not a regular file; name a TOML file")]
    NotRegular,
    /// It is larger than [`MAX_POLICY_FILE_BYTES`].
    #[error("is larger than {MAX_POLICY_FILE_BYTES} bytes; is it the right file?")]
    TooLarge,
    /// It is not UTF-8.
    #[error("is not UTF-8, as TOML must be; save it as UTF-8")]
    NotUtf8,
    /// It is not TOML.
    #[error("is not TOML: line {line}: {message}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// It has a key that a policy does not have.
    #[error("unknown key `{key}`; the keys are {}", KEYS.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key's value, or an entry of it, is of another type than it must be.
    #[error("`{key}` must have {want}, not {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it must have.
        want: &'static str,
        /// The type of TOML that it is.
        found: &'static str,
    },
    /// `commands` is neither of its words.
    #[error("`commands` must be \"everywhere\" or \"direct\", not {value:?}")]
    UnknownScope {
        /// What it says.
        value: String,
    },
    /// An entry of a list of commands is no rule.
    #[error("`{key}` has {rule:?}: {why}")]
    BadRule {
        /// The key.
        key: &'static str,
        /// The entry.
        rule: String,
        /// Why it is none.
        why: RuleError,
    },
    /// An entry of `env_passthrough` is no variable's name.
    #[error(
        "`env_passthrough` has {name:?}: write the variable's whole name, without `=`, `*` or NUL"
    )]
    BadVariable {
        /// The entry.
        name: String,
    },
    /// It says both what may run and what may not.
    #[error("`allow` and `{key}` exclude each other; set one of them")]
    AllowAndBlock {
        /// The other key.
        key: &'static str,
    },
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// If it is not a regular file of at most [`MAX_POLICY_FILE_BYTES`], cannot
    /// be read, is not TOML, or says something that a policy cannot say.
    pub fn load(file: &Path) -> Result<Self, PolicyFileError> {
        let policy = read(file)
            .and_then(|text| parse(&text))
            .map_err(|problem| PolicyFileError { file: file.to_owned(), problem })?;
        // Clients have other working directories than the daemon.
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Ok(Self { file: Some(file), ..policy })
    }
}

fn read(file: &Path) -> Result<String, PolicyFileProblem> {
    use PolicyFileProblem as Problem;
    // O_NONBLOCK: a FIFO without a writer must not hold the daemon's start.
    let flags = (nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY).bits();
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(file).map_err(Problem::Read)?;
    if !file.metadata().map_err(Problem::Read)?.is_file() {
        return Err(Problem::NotRegular);
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_POLICY_FILE_BYTES + 1).read_to_end(&mut bytes);
    if read.map_err(Problem::Read)? as u64 > MAX_POLICY_FILE_BYTES {
        return Err(Problem::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Problem::NotUtf8)
}

fn parse(text: &str) -> Result<Policy, PolicyFileProblem> {
    use PolicyFileProblem as Problem;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        Problem::Syntax { line, message: error.message().to_owned() }
    })?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(Problem::UnknownKey { key: key.clone() });
    }
    let rules = |key| strings(&table, key)?.map(|list| rules(key, list)).transpose();
    let (block, also_block) = (rules(BLOCK)?, rules(ALSO_BLOCK)?);
    let list = match rules(ALLOW)? {
        Some(_) if block.is_some() => return Err(Problem::AllowAndBlock { key: BLOCK }),
        Some(_) if also_block.is_some() => return Err(Problem::AllowAndBlock { key: ALSO_BLOCK }),
        Some(allow) => CommandList::Allow(allow),
        None => {
            let mut rules = block.unwrap_or_else(super::default_block);
            let also_from = rules.len();
            for rule in also_block.unwrap_or_default() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            CommandList::Block { rules, also_from }
        }
    };
    let env_passthrough = strings(&table, ENV_PASSTHROUGH)?.unwrap_or_default();
    if let Some(name) =
        env_passthrough.iter().find(|n| n.is_empty() || n.contains(['=', '*', '\0']))
    {
        return Err(Problem::BadVariable { name: name.clone() });
    }
    Ok(Policy { file: None, commands: scope(&table)?, list, env_passthrough })
}

fn scope(table: &Table) -> Result<CommandScope, PolicyFileProblem> {
    match table.get(COMMANDS) {
        None => Ok(CommandScope::default()),
        Some(Value::String(word)) if word == "everywhere" => Ok(CommandScope::Everywhere),
        Some(Value::String(word)) if word == "direct" => Ok(CommandScope::Direct),
        Some(Value::String(word)) => Err(PolicyFileProblem::UnknownScope { value: word.clone() }),
        Some(other) => Err(PolicyFileProblem::WrongType {
            key: COMMANDS,
            want: "a string",
            found: other.type_str(),
        }),
    }
}

fn strings(table: &Table, key: &'static str) -> Result<Option<Vec<String>>, PolicyFileProblem> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let wrong =
        |want, found: &Value| PolicyFileProblem::WrongType { key, want, found: found.type_str() };
    let entries = value.as_array().ok_or_else(|| wrong("an array of strings", value))?;
    let text = |entry: &Value| {
        entry.as_str().map(str::to_owned).ok_or_else(|| wrong("strings in its array", entry))
    };
    entries.iter().map(text).collect::<Result<_, _>>().map(Some)
}

fn rules(key: &'static str, list: Vec<String>) -> Result<Vec<Rule>, PolicyFileProblem> {
    list.into_iter()
        .map(|rule| Rule::parse(&rule).map_err(|why| PolicyFileProblem::BadRule { key, rule, why }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(text: impl AsRef<[u8]>) -> Result<Policy, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        fs::write(&file, text).unwrap();
        Policy::load(&file).map_err(|error| {
            let text = error.to_string();
            let prefix = format!("policy file {}: ", file.display());
            text.strip_prefix(&prefix).expect("the file is named").to_owned()
        })
    }

    #[test]
    fn an_empty_file_is_the_built_in_policy() {
        let info = load("").unwrap().info();
        assert!(info.file.as_deref().is_some_and(|file| file.ends_with("/policy.toml")));
        let built_in = Policy::built_in().info();
        assert_eq!(noxrunner_protocol::types::PolicyInfo { file: None, ..info }, built_in);
    }

    #[test]
    fn block_replaces_and_also_block_adds() {
        let block = |text| load(text).unwrap().info().block;
        assert_eq!(block("block = ['curl']"), ["curl"]);
        assert_eq!(block("block = []"), [""; 0]);
        assert_eq!(block("block = ['a']\nalso_block = ['b', 'a']"), ["a", "b"]);
        let added = block("also_block = ['curl', 'rm']");
        let default = Policy::built_in().info().block;
        assert_eq!(added[..default.len()], default);
        assert_eq!(added[default.len()..], ["curl"]);
    }

    #[test]
    fn the_other_keys() {
        let policy =
            load("commands = 'direct'\nallow = ['ls']\nenv_passthrough = ['LC_ALL']").unwrap();
        assert_eq!(policy.env_passthrough(), ["LC_ALL"]);
        let info = policy.info();
        assert_eq!((info.commands, info.allow), (CommandScope::Direct, vec!["ls".to_owned()]));
        assert_eq!(info.block, [""; 0]);
    }

    #[test]
    fn what_cannot_be_followed_is_named_with_what_to_do() {
        for (text, want) in [
            (
                "blok = []",
                "unknown key `blok`; the keys are commands, block, also_block, allow, env_passthrough",
            ),
            ("[block]", "`block` must have an array of strings, not table"),
            ("block = 'rm'", "`block` must have an array of strings, not string"),
            ("also_block = ['a', 1]", "`also_block` must have strings in its array, not integer"),
            ("commands = true", "`commands` must have a string, not boolean"),
            (
                "commands = 'Direct'",
                "`commands` must be \"everywhere\" or \"direct\", not \"Direct\"",
            ),
            ("allow = []\nblock = []", "`allow` and `block` exclude each other; set one of them"),
            (
                "allow = []\nalso_block = []",
                "`allow` and `also_block` exclude each other; set one of them",
            ),
            (
                "allow = ['/bin/ls']",
                "`allow` has \"/bin/ls\": it has a slash; write the command's name alone",
            ),
            ("block = ['']", "`block` has \"\": it is empty"),
            (
                "env_passthrough = ['A=b']",
                "`env_passthrough` has \"A=b\": write the variable's whole name",
            ),
            ("env_passthrough = ['LC_*']", "`env_passthrough` has \"LC_*\""),
            ("env_passthrough = ['']", "`env_passthrough` has \"\""),
            ("\nblock = [", "is not TOML: line 2: "),
            ("block = []\nblock = []", "is not TOML: line 2: duplicate key"),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
        assert!(load(b"\xff").unwrap_err().starts_with("is not UTF-8"));
    }

    #[test]
    fn what_is_no_policy_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let problem = |name: &str| Policy::load(&dir.path().join(name)).unwrap_err().problem;
        assert!(matches!(problem("missing"), PolicyFileProblem::Read(_)));
        assert!(matches!(problem(""), PolicyFileProblem::NotRegular));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(problem("fifo"), PolicyFileProblem::NotRegular));
        let most = usize::try_from(MAX_POLICY_FILE_BYTES).unwrap();
        load(" ".repeat(most)).unwrap();
        assert!(load(" ".repeat(most + 1)).unwrap_err().starts_with("is larger"));
    }
}
