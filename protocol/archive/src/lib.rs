//! Tar archives of directory trees, in and out, for both sides of the wire: what the daemon
//! does with an archive of a client's, `noxctl` does with one of a daemon's, and neither
//! trusts who sent it.
//!
//! | file | what it does |
//! |---|---|
//! | `read` | reads the members of a stream, with bounds on everything |
//! | `name` | says where members go by their names |
//! | `cursor` | walks the staging directory |
//! | `stage` | unpacks a stream into an empty directory that nobody else can reach |
//! | `merge` | moves what was staged into a tree that somebody may be changing |
//! | `pack` | packs a tree that somebody may be changing |
//!
//! An archive is never unpacked in place. [`stage`] has seen all of it, to its last checksum,
//! before [`merge`] touches the destination; what fails before leaves nothing there.

mod cursor;
mod merge;
mod name;
mod pack;
mod read;
mod stage;

pub use merge::{MergeError, merge};
pub use name::stays_beneath;
pub use pack::{PackError, Packed, Packer, Tree, measure};
pub use stage::{Limits, Report, Rules, StageError, stage};

/// How many directories deep a tree may be.
pub const MAX_DEPTH: usize = 256;
