//! Packing, checked by others' readers: GNU tar and Python's tarfile.

// Its helpers are in modules, which the allowance for tests does not reach.
#![allow(clippy::unwrap_used)]

#[path = "pack/hostile.rs"]
mod hostile;
#[path = "pack/race.rs"]
mod race;
#[path = "pack/round_trip.rs"]
mod round_trip;
#[path = "pack/support.rs"]
mod support;
