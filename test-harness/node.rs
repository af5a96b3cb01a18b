//! `weir proxy` as a process.
