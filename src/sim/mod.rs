//! A kernel in memory, the packet tracer, and the scenarios that all judges share.
//!
//! | | |
//! |---|---|
//! | [`SimKernel`] | interprets the very restore input that a driver would send, with faults to inject |
//! | [`SimIpvs`] | virtual servers; takes the requests that a driver would send |
//! | [`SimLinks`] | holds the device for service addresses |
//! | [`SimSets`] | ipsets in memory |
//! | [`trace`] | follows a packet through typed rules |
//! | [`scenario`] | input, packets and what must become of them: `rules/scenarios` |

mod faults;
mod ipset;
mod ipvs;
mod kernel;
mod link;
pub mod scenario;
mod table;
pub mod trace;

pub use faults::Faults;
pub use ipset::{SetsLog, SimSets};
pub use ipvs::{Messages, SimIpvs};
pub use kernel::SimKernel;
pub use link::SimLinks;

#[cfg(test)]
mod tests;
