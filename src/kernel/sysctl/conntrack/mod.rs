//! How many connections the kernel tracks, and for how long (contract 6.6).
//!
//! [`decide`] compares what is asked for with what is there, purely; [`Conntrack::settle`] reads, decides and writes in
//! that order. Only what differs is written, so a second start needs no permission to write.
//!
//! What is different from kube-proxy:
//!
//! * `nf_conntrack_max` is never lowered: a larger value that is there stays.
//! * A minimum above 1,048,576 counts; only what the number of CPUs gives is capped there.
//! * A timeout below one second is one second, not 0, with which the kernel would forget connections at once.
//! * A parameter that is pinned by name stays as it is. A file of the administrator's that says another value does not
//!   keep it from being changed, as these are settings that were asked for, but is told.

mod apply;
mod cpus;
mod decide;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use apply::{Conntrack, ConntrackError};
pub use cpus::cpus;
pub use decide::{ConntrackAction, ConntrackDecision, Parameter, decide, maximum};

/// What is asked for: `conntrack` of the configuration. A duration of zero leaves a timeout alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConntrackSettings {
    /// Tracked connections for each CPU; 0 leaves the limit alone, whatever `min` says.
    pub max_per_core: u32,
    /// At least so many.
    pub min: u32,
    pub tcp_established: Duration,
    pub tcp_close_wait: Duration,
    /// Packets outside of the window are no reason to call them invalid. `false` leaves the kernel's setting alone.
    pub tcp_be_liberal: bool,
    pub udp: Duration,
    pub udp_stream: Duration,
}
