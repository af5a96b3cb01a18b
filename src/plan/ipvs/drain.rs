//! Real servers that go: they get no new connections and keep those that they have, for a while.
//!
//! A real server that is no longer wanted has weight 0, and as its upper threshold the time at which it goes at the
//! latest. That threshold has no meaning for a server without new connections (it bounds how many there may be), so it
//! can say this to whoever comes after a restart: everything about draining is in the kernel. One that another proxy
//! left at weight 0 has no threshold yet, and gets the whole time.

use std::collections::BTreeMap;

use crate::kernel::ipvs::{ObservedRealServer, RealServer, Scheduler, VirtualServer};
use crate::net::{Endpoint, Protocol};

/// Seconds since 1970, until 2106.
pub type UnixSeconds = u32;

/// A virtual server with real servers that drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// What the virtual server is.
    pub server: VirtualServer,
    /// Its address is on the service device.
    pub bind: bool,
    /// Until when each real server keeps its connections.
    pub real_servers: BTreeMap<Endpoint, UnixSeconds>,
}

/// Whether connections are worth waiting for. One of UDP has no end; the kernel forgets it when its server goes, and the
/// next packet finds another one. SCTP follows kube-proxy (contract 4.3).
pub fn can_drain(protocol: Protocol) -> bool {
    protocol == Protocol::Tcp
}

/// Whether a scheduler passes over real servers of weight 0. `dh` does not, and knows no other way: where the hash of the
/// address leads to one, every new connection is refused. With it real servers have no time to drain.
pub fn passes_over(scheduler: &Scheduler) -> bool {
    scheduler.as_str() != "dh"
}

/// Until when a real server that begins to drain keeps its connections. Never 0, which is no threshold.
pub fn deadline(now: UnixSeconds, grace: u32) -> UnixSeconds {
    now.saturating_add(grace).max(1)
}

/// A real server that drains.
pub fn drained(deadline: UnixSeconds) -> RealServer {
    RealServer { weight: 0, upper_threshold: deadline, ..RealServer::default() }
}

/// What becomes of a real server that is not wanted: until when it drains, or `None` if it goes.
pub fn fate(protocol: Protocol, held: &ObservedRealServer, now: UnixSeconds, grace: u32) -> Option<UnixSeconds> {
    if !can_drain(protocol) || held.connections() == 0 {
        return None;
    }
    let RealServer { weight, upper_threshold, .. } = held.server;
    let latest = deadline(now, grace);
    // A threshold that is no time of ours is as good as none.
    let known = weight == 0 && upper_threshold != 0 && upper_threshold <= latest;
    let deadline = if known { upper_threshold } else { latest };
    (deadline > now).then_some(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    fn held(weight: u32, upper_threshold: u32, active: u32, inactive: u32) -> ObservedRealServer {
        let server = RealServer { weight, upper_threshold, ..RealServer::default() };
        ObservedRealServer { server, active, inactive, persistent: 0 }
    }

    /// L24 to L27, and what upstream does not have: an end, and a memory.
    #[test]
    fn l24_to_l27_connections_decide_until_the_deadline() {
        let fate = |protocol, held: ObservedRealServer| fate(protocol, &held, NOW, 60);
        assert_eq!(fate(Protocol::Tcp, held(1, 0, 0, 0)), None, "L24: no connections");
        assert_eq!(fate(Protocol::Tcp, held(1, 0, 2, 0)), Some(NOW + 60), "L25: active");
        assert_eq!(fate(Protocol::Tcp, held(1, 0, 0, 2)), Some(NOW + 60), "L26: inactive only");
        assert_eq!(fate(Protocol::Udp, held(1, 0, 2, 2)), None, "L27: UDP");
        assert_eq!(fate(Protocol::Sctp, held(1, 0, 2, 2)), None, "L70: SCTP");
        assert_eq!(fate(Protocol::Tcp, held(0, NOW + 10, 2, 0)), Some(NOW + 10), "as was said before a restart");
        assert_eq!(fate(Protocol::Tcp, held(0, NOW, 2, 0)), None, "the deadline");
        assert_eq!(fate(Protocol::Tcp, held(0, 0, 2, 0)), Some(NOW + 60), "left by another proxy");
        assert_eq!(fate(Protocol::Tcp, held(0, 5, 2, 0)), None, "long over");
        assert_eq!(fate(Protocol::Tcp, held(0, NOW + 1_000, 2, 0)), Some(NOW + 60), "the time was shortened");
        assert_eq!(fate(Protocol::Tcp, held(7, NOW + 10, 2, 0)), Some(NOW + 60), "a threshold of one that served");
    }

    #[test]
    fn a_deadline_is_never_no_threshold() {
        assert_eq!((deadline(0, 0), deadline(u32::MAX, 7)), (1, u32::MAX));
    }
}
