//! The difference as a value, and what a driver does with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::kernel::{ApplyError, ObserveError};
use crate::net::Family;

/// kube-proxy's name for the device (contract 4.2).
pub const SERVICE_DEVICE: &str = "kube-ipvs0";

/// The device as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    Absent,
    /// A dummy device, with its addresses of both families, without link-local ones of IPv6.
    Dummy {
        addresses: BTreeSet<IpAddr>,
    },
    /// Another kind of link has its name: `veth`, `bridge`, or `unknown`.
    Other {
        kind: Box<str>,
    },
}

/// A difference: the only thing that a driver applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Make the device first.
    pub create: bool,
    /// Addresses to be there, each with a prefix of one address. What is there already is no error.
    pub add: BTreeSet<IpAddr>,
    /// Addresses to be gone. What is gone already is no error.
    pub remove: BTreeSet<IpAddr>,
    /// Delete the device last.
    pub delete: bool,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// A kernel that holds the device: the real one, or the simulated one. Calls block.
pub trait Links: Send {
    /// Reads the device.
    ///
    /// # Errors
    /// Links or addresses cannot be listed.
    fn observe(&mut self) -> Result<Device, ObserveError>;

    /// The addresses of all other devices, without loopback addresses and link-local ones of IPv6, sorted.
    ///
    /// # Errors
    /// As for [`Links::observe`].
    fn other_addresses(&mut self, family: Family) -> Result<BTreeSet<IpAddr>, ObserveError>;

    /// The source that the kernel gives to what this host sends far away. `None`: it knows no way, or it would take an
    /// address of the service device.
    ///
    /// # Errors
    /// As for [`Links::observe`].
    fn outbound_source(&mut self, family: Family) -> Result<Option<IpAddr>, ObserveError>;

    /// From now on, what this host itself sends to these addresses of the device has these sources, addresses of other
    /// devices. Else it would have the service address itself, which is no longer local once the device lets go of it.
    /// It is so until the address goes, and may be said again.
    ///
    /// # Errors
    /// The first failure. Addresses for which it could not be done are as they were.
    fn prefer_sources(&mut self, sources: &BTreeMap<IpAddr, IpAddr>) -> Result<(), ApplyError>;

    /// Makes these changes.
    ///
    /// # Errors
    /// The first failure: the name belongs to another kind of link, no permission, no such kind of link in the kernel.
    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError>;
}
