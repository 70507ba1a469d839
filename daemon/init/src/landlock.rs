//! What a sandbox may do with which files, landlock(7): a second wall behind
//! the mounts where there is a mount tree, and the first where there is none.

use std::error::Error;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use nix::errno::Errno;

use crate::message::Places;

/// The newest version whose effects are known here. On an older kernel the rest is left out;
/// what that leaves open, the probe reports.
const KNOWN: ABI = ABI::V6;

/// Where everything may be done.
pub(crate) const OPEN: &[&CStr] = &[c"/workspace", c"/home/nox", c"/tmp", c"/dev/shm"];

/// Devices of the host that may be written, too. Not its pseudo terminals: among those are the
/// ones that the user sits at.
pub(crate) const DEVICES: &[&CStr] =
    &[c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/urandom", c"/dev/tty"];

/// The rules of a process that has none of its own yet.
pub(crate) struct Rules(RulesetCreated);

impl Rules {
    /// Nothing may be done anywhere, and nobody outside be signalled or reached by an abstract socket.
    pub(crate) fn new() -> Result<Self, Errno> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))
            .and_then(|ruleset| ruleset.scope(Scope::from_all(KNOWN)))
            .and_then(Ruleset::create);
        Ok(Self(ruleset.map_err(|e| errno_of(&e))?))
    }

    /// Everything below may be read and executed.
    pub(crate) fn read(self, path: &CStr) -> Result<Self, Errno> {
        let fd = open(path)?;
        self.allow(fd, AccessFs::from_read(KNOWN))
    }

    /// Everything below may be read, nothing executed.
    pub(crate) fn look(self, path: &CStr) -> Result<Self, Errno> {
        let fd = open(path)?;
        self.allow(fd, AccessFs::from_read(KNOWN) & !AccessFs::Execute)
    }

    /// Files below may be written, none made.
    pub(crate) fn write(self, path: &CStr, places: Places) -> Result<Self, Errno> {
        let fd = open(path)?;
        self.allow(fd, writing() & !refused(places))
    }

    /// As [`Rules::read`], where there is such a path and it may be looked at.
    pub(crate) fn read_if_there(self, path: &CStr) -> Result<Self, Errno> {
        match open(path) {
            Ok(fd) => self.allow(fd, AccessFs::from_read(KNOWN)),
            Err(_) => Ok(self),
        }
    }

    /// As [`Rules::write`], where there is such a path.
    pub(crate) fn write_if_there(self, path: &CStr, places: Places) -> Result<Self, Errno> {
        match open(path) {
            Ok(fd) => self.allow(fd, writing() & !refused(places)),
            Err(_) => Ok(self),
        }
    }

    /// Everything may be done below but what is refused in all places.
    pub(crate) fn open(self, path: &CStr, places: Places) -> Result<Self, Errno> {
        let fd = open(path)?;
        self.allow(fd, AccessFs::from_all(KNOWN) & !refused(places))
    }

    fn allow(self, fd: PathFd, access: BitFlags<AccessFs>) -> Result<Self, Errno> {
        let added = self.0.add_rule(PathBeneath::new(fd, access));
        Ok(Self(added.map_err(|e| errno_of(&e))?))
    }

    /// Binds this process and all it starts to the rules. Needs no_new_privs.
    pub(crate) fn enforce(self) -> Result<(), Errno> {
        self.0.restrict_self().map(drop).map_err(|e| errno_of(&e))
    }
}

fn open(path: &CStr) -> Result<PathFd, Errno> {
    PathFd::new(OsStr::from_bytes(path.to_bytes())).map_err(|e| errno_of(&e))
}

/// Whoever may not remove may not rename either, nor rename over something.
fn refused(places: Places) -> BitFlags<AccessFs> {
    let mut refused = BitFlags::empty();
    if places.no_exec {
        refused |= AccessFs::Execute;
    }
    if places.no_delete {
        refused |= AccessFs::RemoveFile | AccessFs::RemoveDir;
    }
    refused
}

fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_read(KNOWN) | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
}

/// The number somewhere below a library's words.
fn errno_of(error: &(dyn Error + 'static)) -> Errno {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Errno::from_raw(number);
        }
        cause = error.source();
    }
    Errno::EINVAL
}
