//! The kernel, one folder per object family: typed objects, encoding, decoding, order and I/O.
//!
//! A family's *observe* returns the types that [`plan`](crate::plan) makes; its *apply* takes a
//! difference of them and nothing else.

pub mod conntrack;
pub mod ipset;
pub mod ipvs;
pub mod link;
pub mod netlink;
pub mod nfacct;
pub mod nftables;
pub mod process;
pub mod sysctl;
mod traffic;
pub mod watch;
pub mod xtables;

pub use traffic::{KernelTraffic, Traffic};
pub use xtables::{ApplyError, ApplyErrorKind, ObserveError};
