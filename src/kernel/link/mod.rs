//! The device that holds service addresses, so that the kernel takes packets to them for its own, and the driver that
//! reads and writes it by rtnetlink.
//!
//! The device is a dummy and is never set up. Its addresses are local all the same, in both families: the kernel puts
//! an address into its table of local routes when it is added, whatever the state of its device.

mod changes;
mod driver;
#[cfg(test)]
mod tests;
pub(super) mod wire;

pub use changes::{Changes, Device, Links, SERVICE_DEVICE};
pub use driver::LinkDriver;
