//! What is asked of the parts of a node at a scrape, in plain words: this module knows neither kernels nor sources.

use crate::net::{Family, PerFamily};

/// The parts of a running node. What there is not gives nothing.
pub trait Readings: Send + Sync {
    /// What was sent to the kernel, by families of objects.
    fn sent(&self) -> Vec<Sent> {
        Vec::new()
    }

    /// Rules in a table: `filter` or `nat`. `None` where rules are not counted.
    fn rules(&self, _family: Family, _table: &str) -> Option<RuleNumbers> {
        None
    }

    /// Packets in the kernel's accounting objects.
    fn packets(&self) -> Packets {
        Packets::default()
    }

    /// Cleanups of connection tracking.
    fn cleanups(&self) -> Option<PerFamily<Cleanups>> {
        None
    }

    /// How the source follows each kind of objects.
    fn followed(&self) -> Vec<Followed> {
        Vec::new()
    }

    /// Parts of objects that the source left out because they could not be used.
    fn left_out(&self) -> Option<u64> {
        None
    }

    /// What the allocator says of itself.
    fn memory(&self) -> Option<Memory> {
        None
    }
}

/// What was sent to the kernel about one family of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// A label: `rules`, `sets`, `servers`, `links`.
    pub objects: &'static str,
    pub bytes: u64,
    pub messages: u64,
}

/// Rules of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleNumbers {
    pub owned: u64,
    /// Written by the last change.
    pub last: u64,
}

/// Packets that rules counted; `None` where the kernel has no such object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Dropped in conntrack state INVALID.
    pub ct_invalid: Option<u64>,
    /// Accepted to node ports on loopback.
    pub localhost_node_ports: Option<u64>,
}

/// Cleanups in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleanups {
    pub runs: u64,
    pub failures: u64,
    /// Entries deleted.
    pub deleted: u64,
}

/// How one kind of objects is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// A label: `Service`, `EndpointSlice`, …
    pub kind: &'static str,
    pub connected: bool,
    pub synced: bool,
    pub relists: u64,
    pub failures: u64,
}

/// The allocator's figures, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In use by the program.
    pub allocated: u64,
    /// In pages that the program uses, and that are physically there.
    pub resident: u64,
}

/// A node of which nothing is known.
impl Readings for () {}
