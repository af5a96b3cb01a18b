//! A kernel in memory, the packet tracer, and the scenarios that all judges share.

pub mod scenario;
pub mod trace;
