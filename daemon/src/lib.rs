//! The daemon.
#![forbid(unsafe_code)]

pub mod policy;
pub mod tree;
