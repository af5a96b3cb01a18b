//! To come.

pub mod scenario;
