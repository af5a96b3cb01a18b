//! Kernel parameters (sysctls) of this network namespace: what IPVS mode wants of them, what the admin has pinned, and
//! reading and writing them below `/proc/sys`. Those of connection tracking are in [`conntrack`].
//!
//! [`wanted`] says by kernel version and options what is wanted and why. [`decide`] compares that with what is there and
//! with [`Pins`], purely; each [`Decision`] is a line of the report. [`Sysctls::apply`] carries out just these.
//!
//! Names are paths below `/proc/sys`: `net/ipv4/vs/conntrack`.

pub mod conntrack;
mod decide;
mod files;
mod name;
mod pins;
mod system;
#[cfg(test)]
mod tests;
mod version;
mod wanted;

pub use decide::{Action, Decision, decide};
pub use pins::{Pin, Pins};
pub use system::{SysctlError, Sysctls};
pub use version::KernelVersion;
pub use wanted::{Options, Wanted, estimation, wanted};
