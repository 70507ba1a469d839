//! A sandbox's directory tree.
