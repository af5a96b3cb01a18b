//! The device that holds service addresses, so that the kernel takes packets to them for its own, and the driver that
//! reads and writes it by rtnetlink.

mod changes;

pub use changes::{Changes, Device, Links, SERVICE_DEVICE};
