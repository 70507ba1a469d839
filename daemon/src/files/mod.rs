//! Files of sandboxes, from outside.
//!
//! | file | what it does |
//! |---|---|
//! | [`places`] | from a path to a descriptor, whatever code inside does meanwhile |
//! | [`staging`] | where things are made before they are moved into place |
//! | [`content`] | reading and writing a file |
//! | [`entries`] | listing and describing |
//! | [`change`] | making, removing and renaming |
//! | [`archive`] | a tree in or out |
//! | [`work`] | how these get a thread, and at most so many |
//! | [`error`] | what can go wrong |
//!
//! Everything here blocks, and looks at what is there only through descriptors.

pub mod archive;
pub mod change;
pub mod content;
pub mod entries;
pub mod error;
pub mod places;
pub mod staging;
pub mod work;

pub use error::FileError;
pub use places::Places;
