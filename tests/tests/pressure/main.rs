//! Clients that send garbage, too much, too little, too slowly or too often, through
//! every door: each gets its error or a close, and nobody else notices.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod crowds;
mod garbage;
mod mutated;
mod slow;
mod volume;
