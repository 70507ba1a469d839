//! The daemon as the front of a backend elsewhere: a real one behind it, or one that misbehaves.
//!
//! | file | what it shows |
//! |---|---|
//! | `life` | sandboxes, commands and files, as clients of this machine use them |
//! | `files` | archives and files through it, whatever their size |
//! | `options` | how it starts, and what it refuses to start with |
//! | `tls` | whom it believes to be the backend |
//! | `users` | several users of one machine |
//! | `broken` | a backend that is slow, silent, gone or out of its mind |
//! | `again` | what is tried again, and what never is |
//! | `server` | that backend |
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod again;
mod broken;
mod files;
mod life;
mod options;
mod server;
mod tls;
mod users;

use noxrunner_tests::{ON_TCP, TestDaemon};

/// A backend, and a front of it. The front is dropped first.
struct Both {
    front: TestDaemon,
    backend: TestDaemon,
}

impl Both {
    #[track_caller]
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments for the front.
    #[track_caller]
    fn start_with(arguments: &[&str]) -> Self {
        let backend = TestDaemon::start_with(&ON_TCP);
        let url = format!("http://{}", backend.http());
        Self { front: TestDaemon::front_of(&url, arguments), backend }
    }
}
