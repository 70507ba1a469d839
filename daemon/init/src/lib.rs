//! The zygote and the init of a sandbox: how every command is started.
//!
//! ```text
//! noxrunnerd (tokio, many threads)
//!   └─ zygote      forked before tokio starts, one thread; forks inits on request
//!        └─ init   one a sandbox; starts that sandbox's commands and reaps what they leave
//!             ├─ command
//!             └─ supervisor   where there is more than one command: keeps its processes together
//!                  └─ command
//! ```
//!
//! The daemon talks to each over a `SOCK_SEQPACKET` pair, one message a packet
//! ([`message`], [`transport`]). End of file on its pair ends a zygote or an init
//! with everything below it, so nothing outlives the daemon however it dies.
//!
//! An exec installs nothing: whatever is to hold a command was put on its init
//! once, and the command inherits it.
//!
//! This is the one crate with `unsafe`, all of it in the private room `sys`. It knows no runtime and
//! starts no thread. Between the clone of a command and its execve nothing
//! allocates, locks or writes `errno` (which it shares with its init).

mod commands;
mod descendants;
mod ground;
mod init;
mod landlock;
mod launch;
pub mod message;
mod probe;
mod rootfs;
mod seccomp;
mod streams;
mod supervisor;
mod sys;
pub mod template;
pub mod transport;
mod walls;
mod zygote;

pub use descendants::trees;
pub use sys::{HandedError, kill_by_pidfd, peer_groups, take_handed};
pub use zygote::{StartError, Zygote, start};
