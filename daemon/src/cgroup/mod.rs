//! Control groups of version 1 and 2 (cgroups(7)): one for each sandbox, with
//! limits of memory, cpu and processes.
//!
//! [`Hierarchy::establish`] finds out what this machine lets us do and makes
//! one directory for the daemon; [`Hierarchy::make`] makes a [`Group`] in it.
//! No descriptor stays open for a group: files are opened relative to the
//! daemon's directory each time, which costs a few microseconds.
//!
//! Everything here blocks for microseconds, but for [`Group::kill`],
//! [`Group::remove`] and `establish`, which wait for processes to die.

mod caps;
mod controller;
mod directory;
mod error;
mod group;
mod hierarchy;
mod killing;
mod leftovers;
mod legacy;
mod mend;
mod place;
mod text;
mod unified;

#[cfg(test)]
mod tests;

pub use controller::Controller;
pub use error::{CgroupError, Unavailable};
pub use group::{Caps, Events, Group, GroupUsage, NotRemoved, rearm};
pub use hierarchy::{Hierarchy, Lacking, Version};
