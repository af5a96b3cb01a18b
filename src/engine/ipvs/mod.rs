//! The backend of IPVS mode: the IPVS plan over virtual servers, sets, the service device and rules.
//!
//! | file | what |
//! |---|---|
//! | `order` | the order across object families |
//! | `observe` | looking at the kernel |
//! | `backend` | moves, compares, what is due by time alone |
//! | `tend` | what drains goes with its last connection |
//! | `schedulers` | which schedulers the kernel has |
//! | `companion` | what iptables mode has of this: sets for egress, and what IPVS mode left |
//! | `describe` | a difference in words |

mod backend;
mod companion;
mod describe;
mod observe;
mod order;
mod schedulers;
mod tend;
#[cfg(test)]
mod tests;

pub use backend::{IpvsBackend, IpvsHooks, OnDenied, now};
pub use companion::{WithCompanion, has_leftovers};
pub use observe::{observe_servers, observe_sets_and_device};
pub use order::{Step, steps};

/// A kernel, by object families: real or simulated.
#[derive(Debug)]
pub struct Kernel<X, S, L, V> {
    pub rules: X,
    pub sets: S,
    pub links: L,
    pub servers: V,
}
