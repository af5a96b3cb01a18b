//! IPVS: virtual servers, their real servers, and the driver that reads and writes them by generic netlink (uapi
//! `linux/ip_vs.h`).

mod changes;
mod object;

pub use changes::{Changes, Ipvs, RealServerChange, Refused, VirtualServerChange};
pub use object::{
    Forwarding, ObservedRealServer, ObservedVirtualServer, RealServer, Scheduler, ServerFlags, VirtualServer,
    VirtualServerKey,
};
