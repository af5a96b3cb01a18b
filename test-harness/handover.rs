//! From kube-proxy to weir and back while clients connect, and then neither: `weir cleanup` leaves not a trace of either,
//! and everything of others as it was.
//!
//! | file | what kube-proxy left |
//! |---|---|
//! | `iptables` | rules of iptables mode, written by the contract, in each kind of tables and in both |
//! | `nftables` | its tables of nftables mode, written by the contract |
//! | `judge` | what a real kube-proxy leaves: where `WEIR_KUBE_PROXY` names its program |
//! | `refusals` | rules of others that use kube-proxy's chains; no permission |
//!
//! IPVS mode is in the suite `ipvs`, which has a kernel for it. What needs root says SKIPPED where it is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod api_server;
mod program;

#[allow(dead_code, reason = "the suite node uses more of it")]
#[path = "node/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "the suite node uses more of it")]
#[path = "node/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with other suites")]
#[path = "packets"]
mod shared {
    pub mod kube_proxy;
    pub mod left;
    pub mod manifests;
    pub mod node;
    pub mod seen;
    pub mod served;
    pub mod stream;
    pub mod variants;
    pub mod world;
}

#[path = "handover/iptables.rs"]
mod iptables;
#[path = "handover/judge.rs"]
mod judge;
#[path = "handover/nftables.rs"]
mod nftables;
#[path = "handover/refusals.rs"]
mod refusals;
#[path = "handover/snapshot.rs"]
mod snapshot;
#[path = "handover/tables.rs"]
mod tables;
#[path = "handover/world.rs"]
mod world;
