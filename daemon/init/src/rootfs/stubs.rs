//! Programs that stand before those of the same names in directories of the host.
//!
//! They are the upper of two read-only layers (overlayfs), so whatever the host does to the
//! directory below, a name that they have is theirs. A file bound over a program would go as
//! soon as the host renames another one over it, as every upgrade of a package does.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, Permissions, hard_link};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, getuid};

use super::{Failed, at, attach, below_root, directory, io_at};
use crate::message::PrepareStep;
use crate::sys::{self, Attributes};
use crate::template::{Stub, Unstubbed};

/// The layers that are put, each in a directory of the ground that inits leave behind.
#[derive(Default)]
pub(super) struct Layers {
    count: usize,
    /// A file for each program, whatever it is called.
    files: HashMap<Vec<u8>, PathBuf>,
    pub(super) unstubbed: Vec<Unstubbed>,
}

/// Where the ground is while it is built; it is the working directory then.
const GROUND: &str = "/proc";

impl Layers {
    /// Puts stubs before the programs of a directory; as a last resort over those that are there now.
    pub(super) fn put(&mut self, path: &CStr, stubs: &[Stub]) -> Result<(), Failed> {
        let layer = PathBuf::from(format!("stubs/{}", self.count));
        self.count += 1;
        directory(&layer).map_err(io_at(PrepareStep::Stubs))?;
        for stub in stubs {
            self.file(&layer.join(name(stub)), stub).map_err(io_at(PrepareStep::Stubs))?;
        }
        let place = below_root(path);
        let put = chdir(&place).and_then(|()| cover(&layer));
        chdir(GROUND).map_err(at(PrepareStep::Stubs))?;
        if let Err(errno) = put {
            for stub in stubs {
                let _ = bind(&layer.join(name(stub)), &place.join(name(stub)));
            }
            self.unstubbed.push(Unstubbed { directory: path.to_owned(), errno: errno as i32 });
        }
        Ok(())
    }

    fn file(&mut self, at: &Path, stub: &Stub) -> io::Result<()> {
        if let Some(same) = self.files.get(&stub.program) {
            return hard_link(same, at);
        }
        fs::write(at, &stub.program)?;
        fs::set_permissions(at, Permissions::from_mode(0o755))?;
        self.files.insert(stub.program.clone(), at.to_owned());
        Ok(())
    }
}

fn name(stub: &Stub) -> &OsStr {
    OsStr::from_bytes(stub.name.to_bytes())
}

/// Mounts a layer over the working directory. By its own name a directory could not always be
/// said: overlayfs knows colons and commas as signs of its own.
fn cover(layer: &Path) -> Result<(), Errno> {
    let mut flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if statvfs(".")?.flags().contains(FsFlags::ST_NOEXEC) {
        flags |= MsFlags::MS_NOEXEC;
    }
    // Nothing of the host's directory is to lead out of it.
    let mut options = format!("lowerdir={GROUND}/{}:.,redirect_dir=nofollow", layer.display());
    if !getuid().is_root() {
        // Who is root in a namespace of its own alone has no use for attributes of the real one's.
        options.push_str(",userxattr");
    }
    mount(Some("noxrunner"), ".", Some("overlay"), flags, Some(options.as_str()))
}

/// Binds a stub over one program.
fn bind(stub: &Path, place: &Path) -> Result<(), Errno> {
    let stub = CString::new(stub.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let tree = sys::copy_of(&stub)?;
    let set = Attributes::RDONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
    sys::seal(tree.as_fd(), c"", set, false)?;
    attach(&tree, place)
}
