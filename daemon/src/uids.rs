//! A root daemon gives every sandbox a host user id of its own, and the group
//! id of the same number: what runs in one can neither signal nor read what
//! runs in another, and never is the host's root.
//!
//! Numbers only go up, through a file that all daemons of the machine share,
//! until the range is at its end. Then, or where that file is lost, numbers
//! that are in use are passed over: those that a process has, those that own
//! something in the base directory, and those that any living daemon holds.
//! A number is held by a lock on the byte of that number in one file for the
//! machine (open file description locks, fcntl(2)), which goes with its daemon.
//!
//! | room | what it holds |
//! |---|---|
//! | [`range`] | which numbers, and whether this machine has them |
//! | `locks` | numbers held against other daemons |
//! | `counter` | the next number, on disk |
//! | `in_use` | numbers of processes and files |

mod counter;
mod in_use;
mod locks;
pub mod range;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use counter::Counter;
use locks::Locks;
pub use range::UidRange;

use crate::lock::private_dir;

/// Where the daemons of a machine keep what they must agree on.
pub const STATE_DIR: &str = "/var/lib/noxrunner";

/// Most numbers taken at a time, so that a create rarely touches the disk.
const BLOCK: u32 = 64;

/// Why a sandbox gets no user id of its own.
#[derive(Debug, thiserror::Error)]
pub enum UidError {
    /// The state directory is somebody else's.
    #[error("{} must be a directory of this user's with mode 0700: remove it or mend it", .0.display())]
    Foreign(PathBuf),
    /// This machine, or the container, does not have the numbers.
    #[error(
        "the {kind} ids {range} for sandboxes are not mapped here (mapped: {mapped}): \
         choose some that are with --sandbox-uids FIRST-LAST"
    )]
    Unmapped {
        /// Users or groups.
        kind: &'static str,
        /// What was to be used.
        range: UidRange,
        /// What there is.
        mapped: String,
    },
    /// Every number is in use.
    #[error(
        "all user ids {0} for sandboxes are in use: delete sandboxes, or start the daemon with more \
         --sandbox-uids"
    )]
    Exhausted(UidRange),
    /// A sandbox has that number already.
    #[error("the user id {0} is another sandbox's")]
    Taken(u32),
    /// The file by which daemons agree is not the one that this daemon opened.
    #[error("{} was replaced while the daemon used it: start the daemon again", .0.display())]
    Replaced(PathBuf),
    /// The kernel refused.
    #[error("cannot keep user ids for sandboxes with {}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

/// The numbers that a root daemon gives its sandboxes.
#[derive(Debug, Clone)]
pub struct Uids(Arc<Book>);

#[derive(Debug)]
struct Book {
    range: UidRange,
    base: PathBuf,
    locks: Locks,
    counter: Counter,
    // Held while numbers are looked for, so that a returned one waits for no disk.
    looking: Mutex<()>,
    held: Mutex<Held>,
}

/// What this daemon has a lock on.
#[derive(Debug, Default)]
struct Held {
    all: BTreeSet<u32>,
    // Those of them that no sandbox has yet.
    spare: VecDeque<u32>,
}

impl Uids {
    /// The numbers of a range for sandboxes in that base directory. `state` is
    /// the directory that all daemons of the machine share; [`STATE_DIR`].
    ///
    /// # Errors
    /// Where the state directory cannot be used.
    pub fn open(state: &Path, range: UidRange, base: &Path) -> Result<Self, UidError> {
        let uid = nix::unistd::geteuid().as_raw();
        if !private_dir(state, uid).map_err(|e| UidError::Io(state.to_owned(), e))? {
            return Err(UidError::Foreign(state.to_owned()));
        }
        let locks = Locks::open(state.join("uids.lock"))?;
        let counter = Counter::new(state, range);
        Ok(Self(Arc::new(Book {
            range,
            base: base.to_owned(),
            locks,
            counter,
            looking: Mutex::default(),
            held: Mutex::default(),
        })))
    }

    /// Which numbers they are.
    pub fn range(&self) -> UidRange {
        self.0.range
    }

    /// A number that nothing has, for a new sandbox. Touches the disk: not for the async threads.
    ///
    /// # Errors
    /// Why there is none.
    pub fn reserve(&self) -> Result<HostUid, UidError> {
        let _looking = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.held().spare.is_empty() {
            self.0.refill()?;
        }
        let uid = self.0.held().spare.pop_front().ok_or(UidError::Exhausted(self.0.range))?;
        Ok(HostUid { uid, book: Arc::clone(&self.0) })
    }

    /// The number of a sandbox that is there already.
    ///
    /// # Errors
    /// [`UidError::Taken`] where any sandbox of a living daemon has it.
    pub fn claim(&self, uid: u32) -> Result<HostUid, UidError> {
        let _looking = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.0.hold(uid)? {
            return Err(UidError::Taken(uid));
        }
        Ok(HostUid { uid, book: Arc::clone(&self.0) })
    }
}

impl Book {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a number against every daemon, this one too. `false` where one has it.
    fn hold(&self, uid: u32) -> Result<bool, UidError> {
        let mut held = self.held();
        // The kernel keeps no lock of a file's against itself.
        if held.all.contains(&uid) || !self.locks.try_lock(uid)? {
            return Ok(false);
        }
        held.all.insert(uid);
        Ok(true)
    }

    fn let_go(&self, uid: u32) {
        let mut held = self.held();
        self.locks.unlock(uid);
        held.all.remove(&uid);
    }

    /// Takes the next free numbers. A daemon that dies in the middle wastes them at most.
    fn refill(&self) -> Result<(), UidError> {
        let _turn = self.locks.turn()?;
        let in_use = in_use::in_use(&self.base, self.range)?;
        // Of a small range no daemon takes much that others may want.
        let most = (self.range.len() / 1024).clamp(1, BLOCK);
        let mut found = Vec::new();
        let mut next = self.counter.read()?;
        let mut take = || {
            for _ in 0..self.range.len() {
                if found.len() as u64 == u64::from(most) {
                    break;
                }
                let uid = next;
                next = self.range.after(uid);
                if !in_use.contains(&uid) && self.hold(uid)? {
                    found.push(uid);
                }
            }
            self.counter.write(next)
        };
        let outcome = take();
        if let Err(error) = outcome {
            found.into_iter().for_each(|uid| self.let_go(uid));
            return Err(error);
        }
        self.held().spare.extend(found);
        Ok(())
    }
}

/// A number that one sandbox has, for as long as this lives.
#[derive(Debug)]
pub struct HostUid {
    uid: u32,
    book: Arc<Book>,
}

impl HostUid {
    /// The number.
    pub fn get(&self) -> u32 {
        self.uid
    }
}

impl Drop for HostUid {
    fn drop(&mut self) {
        self.book.let_go(self.uid);
    }
}
