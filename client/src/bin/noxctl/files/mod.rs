//! The verbs that copy files in and out of sandboxes.
//!
//! | file | what it does |
//! |---|---|
//! | `upload`, `download`, `cp` | the verbs |
//! | `items` | what here is to be sent, and how much that is |
//! | `send`, `channel` | packs and sends it |
//! | `receive` | writes what arrives to a file, or unpacks it |
//! | `remote` | paths in a sandbox, and what is there |
//! | `error` | what can go wrong |

mod channel;
mod cp;
mod download;
mod error;
mod items;
mod receive;
mod remote;
mod send;
mod upload;

pub(crate) use cp::cp;
pub(crate) use download::download;
pub(crate) use error::FileError;
pub(crate) use upload::upload;
