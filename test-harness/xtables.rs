//! iptables as it really is: captured output, and the installed tools in private network namespaces.
//!
//! What needs root or iptables says SKIPPED where they are missing.

// A test may panic in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "xtables/captures.rs"]
mod captures;
#[path = "xtables/generate.rs"]
mod generate;
#[path = "xtables/namespace.rs"]
mod namespace;
#[path = "xtables/parity.rs"]
mod parity;
#[path = "xtables/round_trip.rs"]
mod round_trip;
#[path = "xtables/speed.rs"]
mod speed;
