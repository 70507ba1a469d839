//! The wire between `noxrunnerd` and its clients, and nothing else: no file
//! system, no processes, no runtime.
//!
//! | room | what it holds |
//! |---|---|
//! | [`method`] | the methods: a name, the type of its params, the type of its result |
//! | [`types`] | those types |
//! | [`ids`], [`quantity`] | values that are checked once, when they are parsed |
//! | [`message`] | the JSON-RPC 2.0 envelope |
//! | [`framing`] | lines out of bytes |
//! | [`error`] | the one closed table of errors |
//! | [`http`] | the paths of the HTTP API, and its errors |
//! | [`limits`] | the numbers both sides keep to |
//! | [`socket`] | where the daemon listens when nobody says otherwise |
//! | `openrpc` | the OpenRPC document (feature `openrpc`) |

pub mod error;
pub mod framing;
pub mod http;
pub mod ids;
pub mod limits;
pub mod message;
pub mod method;
#[cfg(feature = "openrpc")]
pub mod openrpc;
pub mod quantity;
pub mod socket;
pub mod types;

pub use error::{ErrorKind, RpcError};
pub use ids::SessionId;
pub use method::Method;
