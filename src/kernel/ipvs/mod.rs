//! IPVS: virtual servers, their real servers, and the driver that reads and writes them by generic netlink (uapi
//! `linux/ip_vs.h`).
//!
//! | | |
//! |---|---|
//! | `object`, `changes` | the words, and the trait of a kernel that holds them |
//! | [`order`] | a difference as requests, in their order |
//! | [`apply`](apply::apply) | what the kernel refused for what was there, the other way round |
//! | [`encode`], [`decode`] | requests and lists as bytes, pure |
//! | [`IpvsDriver`] | the kernel |
//! | [`probe`] | whether the kernel has a scheduler |
//! | [`text`] | virtual servers as `ipvsadm -Sn` prints them, both ways |

pub mod apply;
mod changes;
pub mod decode;
mod driver;
pub mod encode;
mod object;
pub mod order;
pub mod probe;
pub mod request;
pub mod text;
mod wire;

#[cfg(test)]
mod tests;

pub use changes::{Changes, Ipvs, RealServerChange, Refused, VirtualServerChange};
pub use driver::{IpvsDriver, IpvsError};
pub use object::{
    Forwarding, ObservedRealServer, ObservedVirtualServer, RealServer, Scheduler, ServerFlags, VirtualServer,
    VirtualServerKey,
};
