//! Unpacking archives: those of other programs, and those of nobody's good intent.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // Whatever else it is fails a test.

#[path = "stage/damage.rs"]
mod damage;
#[path = "stage/formats.rs"]
mod formats;
#[path = "stage/hostile.rs"]
mod hostile;
#[path = "stage/support.rs"]
mod support;
