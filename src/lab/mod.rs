//! A node, its pods, a second node and outside clients, each in a network namespace of its own.
//!
//! For `weir demo`, for the suites that send real packets, and for benchmarks. Nothing outlives the process: a
//! namespace is held by threads and file descriptors only, never by a name in the file system.
//!
//! ```text
//!                      lan: 192.168.99.0/24, 2001:db8:99::/64
//!   ┌──────────┬───────────────┬───────────────┬──────────────┐
//! gateway    node            node2           client        blocked
//!   .1       .10               .20            .100           .200
//!          ┌──┴───────┐      ┌──┴───────┐
//!        pod1 …    podN    podN+1 …  podN+M
//!        10.244.1.0/24      10.244.2.0/24
//!        fd00:10:244:1::/64 fd00:10:244:2::/64
//! ```
//!
//! Pods reach each other and the clients without address translation. The clients send what is meant for a service
//! network to `node`. Whatever no one answers for ends at the gateway, which says *host unreachable* at once: so a
//! probe can tell a packet that no rule touched ([`Failure::Unreachable`]) from one that was rejected
//! ([`Failure::Refused`]) and from one that was dropped ([`Failure::TimedOut`]). It says so to a client five times in a
//! row, then once a second: the kernel limits errors of routes (`net.ipv4.route.error_burst`, `error_cost`), by a setting
//! of the whole machine. A probe in between is as good as dropped.
//!
//! [`Lab::new`] needs the right to make network namespaces: root has it, and so has a program that called
//! [`sandbox::enter`] first. Tests ask [`rerun::allowed`].

mod address;
mod child;
mod echo;
mod error;
mod host;
mod links;
pub mod rerun;
pub mod sandbox;
mod skip;
mod socket;
mod topology;
mod traffic;

pub use address::{LAN_V4, LAN_V6, NODE_PODS_V4, NODE_PODS_V6, NODE2_PODS_V4, NODE2_PODS_V6};
pub use child::HostChild;
pub use echo::EchoServer;
pub use error::LabError;
pub use host::Host;
pub use skip::skipped;
pub use socket::sctp_available;
pub use topology::{Lab, LabConfig, PodNetwork};
pub use traffic::{DROP_TIMEOUT, Failure, Flow, Probe, Reply, connect};
