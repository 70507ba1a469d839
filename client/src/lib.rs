//! Talk to the daemon: a blocking connection, and the `noxctl` that uses it.
//!
//! Plain `std`, without a runtime or threads, because `noxctl` lives for a
//! millisecond. One [`Connection`] makes one call at a time. Archives that are
//! longer than a line go over [`Transfers`], which speak HTTP on the same socket. A backend
//! elsewhere is a [`v1::Client`].
//!
//! ```no_run
//! use noxrunner_client::Connection;
//! use noxrunner_protocol::method::SandboxExec;
//! use noxrunner_protocol::types::ExecParams;
//!
//! let mut daemon = Connection::open("/run/user/1000/noxrunner/noxrunnerd.sock".as_ref())?;
//! let mut echo = ExecParams::new("my-session".parse()?, vec!["echo".into(), "hi".into()]);
//! echo.create = true;
//! assert_eq!(daemon.call::<SandboxExec>(&echo)?.stdout, "hi\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connection;
mod error;
mod request;
mod transfer;
mod transfer_error;
mod transport;
pub mod trust;
pub mod v1;
mod wire;

pub use connection::Connection;
pub use error::{CallError, ConnectError};
pub use noxrunner_protocol as protocol;
pub use transfer::{Download, Transfers};
pub use transfer_error::TransferError;
