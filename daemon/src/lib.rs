//! `noxrunnerd`: owns every local sandbox of one user on one machine.
//!
//! | room | what it does |
//! |---|---|
//! | [`config`] | what the daemon is told when it starts |
//! | [`run`] | its life: lock, socket, adoption, service, end |
//! | [`serve`] | connections in, answers out |
//! | [`daemon`] | its state, and the life of its sandboxes |
//! | [`policy`] | what may run, and where paths lead |
//! | [`rootfs`] | what sandboxes see beside their own places |
//! | [`sandbox`] | where sandboxes live, how long, and what is in them |
//! | [`exec`] | running commands, from a request to its answer |
//! | [`files`] | files of sandboxes, from outside |
//! | [`engine`] | zygote and inits, by way of the crate `noxrunner-init` |
//! | [`isolation`] | how strongly sandboxes are isolated here |
//! | [`scene`] | keeps what sandboxes see as the host has it |
//! | [`reaper`] | expiry |
//! | [`front`] | all of it, where sandboxes live on a backend elsewhere |
//! | [`uids`] | a host user id for each sandbox of root's |
//! | [`tree`] | directory trees that somebody else may be writing |
//! | [`cgroup`] | control groups, which hold memory, cpu and processes of a sandbox |
//! | [`manager`] | what systemd hears of it |
//! | [`wait`], [`clock`] | descriptors and time |
//! | [`error`] | what can go wrong with a call, and how clients hear of it |
//!
//! An exec goes one way: serve → policy (`Approved`) → sandbox (`plan`) →
//! exec → engine → init. Only events come back, and one cancel.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod exec;
pub mod files;
pub mod front;
pub mod isolation;
pub mod limits;
pub mod lock;
pub mod logging;
pub mod manager;
pub mod policy;
pub mod reaper;
pub mod rootfs;
pub mod run;
pub mod sandbox;
pub mod scene;
pub mod serve;
pub mod tree;
pub mod uids;
pub mod wait;
pub mod warning;
