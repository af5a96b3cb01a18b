//! nf_tables by netlink in private network namespaces, judged by the tools of iptables.
//!
//! What needs root or iptables says SKIPPED where they are missing.

// A test may panic in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "nft_driver/atomic.rs"]
mod atomic;
#[path = "xtables/generate.rs"]
#[allow(dead_code, reason = "shared with another suite")]
mod generate;
#[path = "nft_driver/handles.rs"]
mod handles;
#[path = "nft_driver/namespace.rs"]
mod namespace;
#[path = "nft_driver/parity.rs"]
mod parity;
#[path = "nft_driver/races.rs"]
mod races;
#[path = "nft_driver/refusals.rs"]
mod refusals;
#[path = "nft_driver/sets.rs"]
mod sets;
