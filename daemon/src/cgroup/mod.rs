//! Control groups of version 1 and 2 (cgroups(7)): one for each sandbox, with
//! limits of memory, cpu and processes.
//!
//! [`Hierarchy::establish`] finds out what this machine lets us do and makes
//! one directory for the daemon; [`Hierarchy::make`] makes a [`Group`] in it.
//! No descriptor stays open for a group, since there may be thousands: files
//! are opened relative to the daemon's directory each time, at 10 to 15 µs a
//! file. [`Group::counters`] keeps those open that are read often.
//!
//! Everything here blocks for less than a millisecond mostly, but for [`Group::kill`],
//! [`Group::remove`] and `establish`, which wait for processes to die.

mod caps;
mod controller;
mod directory;
mod error;
mod events;
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
pub use events::{Counters, Events, rearm};
pub use group::{Caps, Group, GroupUsage, NotRemoved};
pub use hierarchy::{Hierarchy, Lacking, Version};
