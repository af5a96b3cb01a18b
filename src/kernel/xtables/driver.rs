//! Either of the drivers.

use std::collections::BTreeSet;
use std::fmt;

use super::nft::NftDriver;
use super::restore::RestoreDriver;
use super::variant::{FamilyUnavailable, Reason, Variant};
use super::{ApplyError, ChainName, Changes, ObserveError, ObservedChain, Table, Xtables};
use crate::kernel::Traffic;
use crate::kernel::watch::OwnWrites;
use crate::net::{Family, PerFamily};

/// The way to the rules of a host. What it prints names it, for people: `nf_tables by netlink`,
/// `iptables-legacy-restore 1.8.9`.
#[derive(Clone, Debug)]
pub enum Driver {
    Netlink(NetlinkDriver),
    Restore(RestoreDriver),
}

/// nf_tables by netlink, and why.
#[derive(Clone, Debug)]
pub struct NetlinkDriver {
    driver: NftDriver,
    reason: Reason,
    families: PerFamily<Result<(), FamilyUnavailable>>,
}

impl NetlinkDriver {
    /// A driver for those of the families that can be served.
    pub fn new(reason: Reason, families: PerFamily<Result<(), FamilyUnavailable>>) -> Self {
        let served = families.iter().filter(|(_, usable)| usable.is_ok()).map(|(family, _)| family).collect();
        NetlinkDriver { driver: NftDriver::new(served), reason, families }
    }
}

impl From<RestoreDriver> for Driver {
    fn from(driver: RestoreDriver) -> Self {
        Driver::Restore(driver)
    }
}

impl Driver {
    /// Tells its writes there from now on, so that they are not taken for somebody else's.
    pub fn tell(&mut self, own: OwnWrites) {
        match self {
            Driver::Netlink(netlink) => netlink.driver.tell(own),
            Driver::Restore(driver) => driver.tell(own),
        }
    }

    /// Counts what is sent to the kernel from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        match self {
            Driver::Netlink(netlink) => netlink.driver.count(traffic),
            Driver::Restore(driver) => driver.count(traffic),
        }
    }

    /// Which kind of tables.
    pub fn variant(&self) -> Variant {
        match self {
            Driver::Netlink(_) => Variant::Nft,
            Driver::Restore(driver) => driver.tools().variant,
        }
    }

    /// Why these.
    pub fn reason(&self) -> Reason {
        match self {
            Driver::Netlink(netlink) => netlink.reason,
            Driver::Restore(driver) => driver.tools().reason,
        }
    }

    /// The families that can be served (scenario J21).
    pub fn families(&self) -> Vec<Family> {
        match self {
            Driver::Netlink(netlink) => netlink.driver.families().to_vec(),
            Driver::Restore(driver) => driver.tools().families(),
        }
    }

    /// Why the other families cannot.
    pub fn unavailable(&self) -> Vec<(Family, &FamilyUnavailable)> {
        fn failed<T>(families: &PerFamily<Result<T, FamilyUnavailable>>) -> Vec<(Family, &FamilyUnavailable)> {
            families.iter().filter_map(|(family, usable)| Some((family, usable.as_ref().err()?))).collect()
        }
        match self {
            Driver::Netlink(netlink) => failed(&netlink.families),
            Driver::Restore(driver) => failed(&driver.tools().binaries),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Driver::Netlink(_) => f.write_str("nf_tables by netlink"),
            Driver::Restore(driver) => {
                let tools = driver.tools();
                write!(f, "iptables-{}-restore {}", tools.variant, tools.version)
            }
        }
    }
}

impl Xtables for Driver {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        match self {
            Driver::Netlink(netlink) => netlink.driver.observe(family, table, visit),
            Driver::Restore(driver) => driver.observe(family, table, visit),
        }
    }

    fn observe_chains(
        &mut self,
        family: Family,
        table: Table,
        names: &BTreeSet<ChainName>,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        match self {
            Driver::Netlink(netlink) => netlink.driver.observe_chains(family, table, names, visit),
            Driver::Restore(driver) => driver.observe_chains(family, table, names, visit),
        }
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        match self {
            Driver::Netlink(netlink) => netlink.driver.apply(changes),
            Driver::Restore(driver) => driver.apply(changes),
        }
    }
}
