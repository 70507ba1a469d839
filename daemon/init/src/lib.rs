//! Zygote and init.
