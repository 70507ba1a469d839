//! The thin client.

fn main() {}
