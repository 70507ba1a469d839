//! From what policy approved to what an init runs. The only place that makes
//! an [`ExecSpec`], so nothing reaches a process around policy.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use noxrunner_init::message::Exec;

use crate::files::{FileError, Places};
use crate::policy::{Approved, RootNames};
use crate::sandbox::{Sandbox, dir};

/// A command as an init takes it.
#[derive(Debug)]
pub struct ExecSpec {
    workdir: CString,
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl ExecSpec {
    /// The programs that will be tried, as paths on this machine.
    pub(crate) fn program_paths(&self) -> Vec<PathBuf> {
        let path = |c: &CStr| Path::new(OsStr::from_bytes(c.to_bytes())).to_path_buf();
        self.programs.iter().map(|program| path(&self.workdir).join(path(program))).collect()
    }

    /// What an init is sent; whoever sends it gives it its id.
    pub(crate) fn into_command(self) -> Exec {
        let Self { workdir, programs, argv, env } = self;
        Exec { id: 0, workdir, programs, argv, env }
    }
}

/// A plan, and what its making changed.
#[derive(Debug)]
pub struct Plan {
    /// What to run.
    pub spec: ExecSpec,
    /// Whether the working directory was missing and is there now.
    pub workdir_created: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The working directory cannot be used.
    #[error("the working directory {0}")]
    Workdir(#[from] FileError),
    /// The directory's name is none.
    #[error("cannot use the working directory: {0}")]
    Name(#[from] io::Error),
}

/// Plans a command. Its working directory, made where it is missing, is named as commands
/// name it: as on this machine, or as in the sandbox's mount tree. Touches the disk.
///
/// # Errors
/// Why the working directory cannot be used.
pub fn plan(approved: Approved, sandbox: &Sandbox, names: &RootNames) -> Result<Plan, PlanError> {
    let (argv, env, inside) = approved.into_parts();
    let (_, workdir_created) = Places::of(sandbox, names).make_directory(&inside)?;
    let seen = match names.has_mount_tree() {
        true => PathBuf::from(OsString::from_vec(inside.display_path())),
        false => sandbox.dir.host_path(&inside),
    };
    let programs = programs(argv.first().map_or(c"", |name| name), &env);
    let workdir = dir::c_path(&seen).map_err(io::Error::from)?;
    Ok(Plan { spec: ExecSpec { workdir, programs, argv, env }, workdir_created })
}

/// The paths that execvp(3) would try: a name with a slash as it is, any other in each entry of PATH.
fn programs(name: &CStr, env: &[CString]) -> Vec<CString> {
    if name.to_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().find_map(|v| v.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    let joined = std::env::split_paths(OsStr::from_bytes(path)).map(|entry| {
        // An empty entry is the working directory.
        let entry = if entry.as_os_str().is_empty() { ".".into() } else { entry };
        entry.join(OsStr::from_bytes(name.to_bytes()))
    });
    joined.filter_map(|program| dir::c_path(&program).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_execvp_does() {
        let env =
            |path: &str| vec![c"A=B".to_owned(), CString::new(format!("PATH={path}")).unwrap()];
        assert_eq!(programs(c"./x", &env("/bin")), [c"./x".to_owned()]);
        assert_eq!(
            programs(c"x", &env("/bin::/b")),
            [c"/bin/x".into(), c"./x".into(), c"/b/x".to_owned()]
        );
    }
}
