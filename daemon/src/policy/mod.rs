//! What may run, and where paths lead.

pub mod path;
