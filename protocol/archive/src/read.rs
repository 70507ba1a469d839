//! Reading tar, block by block, with bounds on everything that is kept.
//!
//! The layouts are those of the crate `tar`; the loop is not, because its archive keeps names
//! and extension records of any length and cannot tell an end from a cut.

mod member;
mod number;
mod pax;
mod sparse;
mod stream;

pub(crate) use member::{Kind, Member, Reader};
pub(crate) use stream::Stream;

/// Bytes of a block; everything in an archive begins at a multiple of it (POSIX.1-2017, pax,
/// "ustar Interchange Format").
pub(crate) const BLOCK: usize = 512;
