//! The difference as a value, and what a driver does with it.

use std::collections::BTreeMap;

use super::{ObservedRealServer, ObservedVirtualServer, RealServer, Scheduler, VirtualServer, VirtualServerKey};
use crate::kernel::{ApplyError, ObserveError};
use crate::net::{Endpoint, Family};

/// What becomes of one real server. `None` = it is not there.
///
/// A driver makes `after` true whatever is there: `before` is for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealServerChange {
    pub before: Option<RealServer>,
    pub after: Option<RealServer>,
}

/// What becomes of one virtual server, and of those of its real servers that change. One that goes takes all its real
/// servers with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualServerChange {
    pub before: Option<VirtualServer>,
    pub after: Option<VirtualServer>,
    pub real_servers: BTreeMap<Endpoint, RealServerChange>,
}

impl VirtualServerChange {
    pub fn is_nothing(&self) -> bool {
        self.before == self.after && self.real_servers.values().all(|change| change.before == change.after)
    }
}

/// A difference: the only thing that a driver applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub servers: BTreeMap<VirtualServerKey, VirtualServerChange>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

/// Applying failed. All that did not fail is in force.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The first failure.
    pub error: ApplyError,
    /// The virtual server that it is about.
    pub server: Option<VirtualServerKey>,
}

/// A kernel that holds virtual servers: the real one, or the simulated one. Calls block.
pub trait Ipvs: Send {
    /// Visits every virtual server of the family that has a protocol, an address and a port, with its real servers.
    /// Those by firewall mark are not visited.
    ///
    /// # Errors
    /// The kernel has no IPVS, permission is missing, or the list cannot be read.
    fn observe(&mut self, family: Family, visit: &mut dyn FnMut(ObservedVirtualServer)) -> Result<(), ObserveError>;

    /// The real servers of one virtual server; `None` if there is no such virtual server.
    ///
    /// # Errors
    /// As for [`Ipvs::observe`].
    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
    ) -> Result<Option<BTreeMap<Endpoint, ObservedRealServer>>, ObserveError>;

    /// Makes these changes: virtual servers with their real servers in the order of the keys, but what is added before
    /// what goes. What is there already is set, what is already gone is left alone: the result is `after`, whatever was
    /// there. One that fails does not keep the others from being made.
    ///
    /// # Errors
    /// The first failure, with the virtual server that it is about.
    fn apply(&mut self, changes: &Changes) -> Result<(), Refused>;

    /// Whether the kernel has the scheduler, its module loaded if need be. Leaves nothing behind.
    ///
    /// # Errors
    /// The kernel has no IPVS, or permission is missing.
    fn has_scheduler(&mut self, scheduler: &Scheduler) -> Result<bool, ObserveError>;

    /// How long connections live without a packet, in seconds, 0 = as it is: TCP, TCP after a FIN, UDP (contract 4.1).
    ///
    /// # Errors
    /// As for [`Ipvs::has_scheduler`].
    fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), ObserveError>;
}
