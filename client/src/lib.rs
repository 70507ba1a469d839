//! Talk to the daemon: a blocking connection, and the `noxctl` that uses it.
