//! The policy file (`--policy FILE`), in TOML. Every key may be left out:
//!
//! ```toml
//! commands = "direct"            # or "everywhere", the default
//! block = ["rm", "mkfs*"]        # replaces the default list
//! also_block = ["curl"]          # adds to it
//! allow = ["ls", "python3*"]     # instead of both: nothing else runs
//! exec = "system-only"           # or "anywhere", the default
//! delete = "never"               # or "allowed", the default
//! env_passthrough = ["LC_ALL"]   # variables of the daemon's that commands see
//! expose = ["~/venv", "/srv/x"]  # what sandboxes see read-only beside the system
//! network_allowed = ["none"]     # networks that a sandbox may ask for
//! network_default = "none"       # the one for who does not ask
//! max_upload = "8Gi"             # bytes that one archive may unpack to
//! keep_free = "512Mi"            # bytes that uploads and commands leave free on the disk
//! default_memory = "4Gi"         # limits of a sandbox that asks for none
//! default_cpu = "1500m"
//! default_pids = "1024"
//! default_storage = "10Gi"
//! default_inodes = "1M"
//! default_open_files = "4096"
//! max_output = "1Gi"             # bytes that a command may print before it is stopped
//! max_timeout = "10m"            # the longest time that a command may be given
//! ```

mod problem;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use noxrunner_protocol::ids::TimeoutSeconds;
use noxrunner_protocol::quantity::Quantity;
use noxrunner_protocol::types::{CommandScope, DeleteScope, ExecScope, Network};
use toml::{Table, Value};

use super::rules::Rule;
use super::{CommandList, Policy};
use crate::limits::Defaults;
use crate::limits::bounds::{LEAST_CPU_MILLIS, LEAST_MEMORY, LEAST_OPEN_FILES, LEAST_PIDS};
pub use problem::{PolicyFileError, PolicyFileProblem};

/// Largest policy file, in bytes.
pub const MAX_POLICY_FILE_BYTES: u64 = 1024 * 1024;

const COMMANDS: &str = "commands";
const BLOCK: &str = "block";
const ALSO_BLOCK: &str = "also_block";
const ALLOW: &str = "allow";
const EXEC: &str = "exec";
const DELETE: &str = "delete";
const ENV_PASSTHROUGH: &str = "env_passthrough";
const EXPOSE: &str = "expose";
const NETWORK_ALLOWED: &str = "network_allowed";
const NETWORK_DEFAULT: &str = "network_default";
const MAX_UPLOAD: &str = "max_upload";
const KEEP_FREE: &str = "keep_free";
const DEFAULT_MEMORY: &str = "default_memory";
const DEFAULT_CPU: &str = "default_cpu";
const DEFAULT_PIDS: &str = "default_pids";
const DEFAULT_STORAGE: &str = "default_storage";
const DEFAULT_INODES: &str = "default_inodes";
const DEFAULT_OPEN_FILES: &str = "default_open_files";
const MAX_OUTPUT: &str = "max_output";
const MAX_TIMEOUT: &str = "max_timeout";
const KEYS: [&str; 20] = [
    COMMANDS,
    BLOCK,
    ALSO_BLOCK,
    ALLOW,
    EXEC,
    DELETE,
    ENV_PASSTHROUGH,
    EXPOSE,
    NETWORK_ALLOWED,
    NETWORK_DEFAULT,
    MAX_UPLOAD,
    KEEP_FREE,
    DEFAULT_MEMORY,
    DEFAULT_CPU,
    DEFAULT_PIDS,
    DEFAULT_STORAGE,
    DEFAULT_INODES,
    DEFAULT_OPEN_FILES,
    MAX_OUTPUT,
    MAX_TIMEOUT,
];

impl Policy {
    /// Reads a policy file. What it leaves out depends on whether the daemon runs as root.
    ///
    /// # Errors
    /// If it is not a regular file of at most [`MAX_POLICY_FILE_BYTES`], cannot
    /// be read, is not TOML, or says something that a policy cannot say.
    pub fn load(file: &Path) -> Result<Self, PolicyFileError> {
        let policy = read(file)
            .and_then(|text| parse(&text, nix::unistd::geteuid().is_root()))
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

pub(super) fn parse(text: &str, is_root: bool) -> Result<Policy, PolicyFileProblem> {
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
    let (network_allowed, network_default) = networks(&table, is_root)?;
    Ok(Policy {
        file: None,
        commands: word(&table, COMMANDS, SCOPES)?,
        list,
        exec: word(&table, EXEC, EXEC_SCOPES)?,
        delete: word(&table, DELETE, DELETE_SCOPES)?,
        env_passthrough,
        expose: expose(&table)?,
        network_allowed,
        network_default,
        max_upload: bytes(&table, MAX_UPLOAD)?.unwrap_or(super::MAX_UPLOAD),
        keep_free: bytes(&table, KEEP_FREE)?.unwrap_or(super::KEEP_FREE),
        defaults: defaults(&table)?,
        max_output: bytes(&table, MAX_OUTPUT)?,
        max_timeout: max_timeout(&table)?,
    })
}

fn expose(table: &Table) -> Result<Vec<PathBuf>, PolicyFileProblem> {
    let path = |entry: String| {
        let rooted = entry.starts_with('/') || entry.starts_with("~/");
        if rooted && !entry.contains('\0') {
            Ok(PathBuf::from(entry))
        } else {
            Err(PolicyFileProblem::BadExpose { entry })
        }
    };
    strings(table, EXPOSE)?.unwrap_or_default().into_iter().map(path).collect()
}

/// The networks that may be asked for, where the file says it, and the default one.
fn networks(
    table: &Table,
    is_root: bool,
) -> Result<(Option<Vec<Network>>, Network), PolicyFileProblem> {
    let allowed = match table.get(NETWORK_ALLOWED) {
        Some(Value::String(word)) => Some(vec![network(NETWORK_ALLOWED, word)?]),
        _ => strings(table, NETWORK_ALLOWED)?
            .map(|words| words.iter().map(|word| network(NETWORK_ALLOWED, word)).collect())
            .transpose()?,
    };
    let default = match table.get(NETWORK_DEFAULT) {
        None => None,
        Some(Value::String(word)) => Some(network(NETWORK_DEFAULT, word)?),
        Some(other) => {
            let (want, found) = ("a string", other.type_str());
            return Err(PolicyFileProblem::WrongType { key: NETWORK_DEFAULT, want, found });
        }
    };
    let chosen = default.unwrap_or_default();
    let in_force = allowed.as_deref().unwrap_or_else(|| super::default_networks(is_root));
    if in_force.contains(&chosen) {
        return Ok((allowed, chosen));
    }
    Err(PolicyFileProblem::DefaultNotAllowed {
        default: chosen,
        default_is_set: default.is_some(),
        allowed_is_set: allowed.is_some(),
    })
}

fn network(key: &'static str, word: &str) -> Result<Network, PolicyFileProblem> {
    match word {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(PolicyFileProblem::UnknownNetwork { key, value: other.to_owned() }),
    }
}

/// The limits of who asks for none: those that the file has, and the built-in ones.
fn defaults(table: &Table) -> Result<Defaults, PolicyFileProblem> {
    let built_in = Defaults::built_in();
    let or = |key, built_in| Ok::<_, PolicyFileProblem>(bytes(table, key)?.unwrap_or(built_in));
    let cpu = quantity(table, DEFAULT_CPU)?;
    let cpu = cpu.map_or(built_in.cpu_millis, |q| u64::try_from(q.milli()).unwrap_or(u64::MAX));
    let given = Defaults {
        memory: or(DEFAULT_MEMORY, built_in.memory)?,
        cpu_millis: cpu,
        pids: or(DEFAULT_PIDS, built_in.pids)?,
        storage: or(DEFAULT_STORAGE, built_in.storage)?,
        inodes: or(DEFAULT_INODES, built_in.inodes)?,
        open_files: or(DEFAULT_OPEN_FILES, built_in.open_files)?,
    };
    let least = [
        (DEFAULT_MEMORY, given.memory, LEAST_MEMORY),
        (DEFAULT_CPU, given.cpu_millis, LEAST_CPU_MILLIS),
        (DEFAULT_PIDS, given.pids, u64::from(LEAST_PIDS)),
        (DEFAULT_OPEN_FILES, given.open_files, LEAST_OPEN_FILES),
    ];
    match least.into_iter().find(|(_, given, least)| given < least) {
        Some((key, _, least)) => {
            let unit = if key == DEFAULT_CPU { "m" } else { "" };
            Err(PolicyFileProblem::TooSmall { key, least: format!("{least}{unit}") })
        }
        None => Ok(given),
    }
}

/// An amount of bytes, or of anything that is counted, as Kubernetes writes them.
fn bytes(table: &Table, key: &'static str) -> Result<Option<u64>, PolicyFileProblem> {
    let quantity = quantity(table, key)?;
    Ok(quantity.map(|quantity| u64::try_from(quantity.units()).unwrap_or(u64::MAX)))
}

/// The longest time that a command may be given.
fn max_timeout(table: &Table) -> Result<TimeoutSeconds, PolicyFileProblem> {
    let longest = TimeoutSeconds::LONGEST;
    let Some(value) = table.get(MAX_TIMEOUT) else { return Ok(longest) };
    let text = value.as_str().ok_or(PolicyFileProblem::WrongType {
        key: MAX_TIMEOUT,
        want: "a time in quotes, as in \"10m\"",
        found: value.type_str(),
    })?;
    let seconds = crate::config::duration(text).map(|time| time.as_secs_f64());
    let timeout = seconds.ok().and_then(|seconds| TimeoutSeconds::try_from(seconds).ok());
    // Who names no timeout gets the default one.
    timeout
        .filter(|timeout| *timeout >= TimeoutSeconds::default())
        .ok_or_else(|| PolicyFileProblem::BadTime { key: MAX_TIMEOUT, value: text.to_owned() })
}

fn quantity(table: &Table, key: &'static str) -> Result<Option<Quantity>, PolicyFileProblem> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let text = value.as_str().ok_or(PolicyFileProblem::WrongType {
        key,
        want: "a quantity in quotes, as in \"8Gi\"",
        found: value.type_str(),
    })?;
    let quantity = text.parse().map_err(|why| PolicyFileProblem::BadQuantity { key, why })?;
    Ok(Some(quantity))
}

const SCOPES: [(&str, CommandScope); 2] =
    [("everywhere", CommandScope::Everywhere), ("direct", CommandScope::Direct)];
const EXEC_SCOPES: [(&str, ExecScope); 2] =
    [("anywhere", ExecScope::Anywhere), ("system-only", ExecScope::SystemOnly)];
const DELETE_SCOPES: [(&str, DeleteScope); 2] =
    [("allowed", DeleteScope::Allowed), ("never", DeleteScope::Never)];

/// One of two words.
fn word<T: Copy + Default>(
    table: &Table,
    key: &'static str,
    words: [(&'static str, T); 2],
) -> Result<T, PolicyFileProblem> {
    let Some(value) = table.get(key) else { return Ok(T::default()) };
    let Some(said) = value.as_str() else {
        let (want, found) = ("a string", value.type_str());
        return Err(PolicyFileProblem::WrongType { key, want, found });
    };
    let known = words.iter().find(|(word, _)| *word == said);
    known.map(|(_, meant)| *meant).ok_or_else(|| PolicyFileProblem::UnknownWord {
        key,
        words: words.map(|(word, _)| word),
        value: said.to_owned(),
    })
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
mod tests;
