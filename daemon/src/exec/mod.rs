//! Running commands, from a request to its answer.
//!
//! | room | what it does |
//! |---|---|
//! | [`command`] | one exec, from its params to its answer |
//! | [`hint`] | what a newcomer's failure most likely means |
//! | `outcome` | what each way that a command ends means |
//! | `pipes` | the pipes of a command |
//! | [`supervise`] | owns a running command: its deadline, its pipes, its end |
//! | [`output`] | keeps the beginning of a stream and counts the rest |
//!
//! Only [`crate::sandbox::plan`] makes an [`ExecSpec`](crate::sandbox::plan::ExecSpec), and only
//! from what [`crate::policy`] approved.

pub mod command;
pub mod hint;
mod outcome;
pub mod output;
mod pipes;
pub mod supervise;
