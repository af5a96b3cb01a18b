//! The kernel, as far as it has anything that could hold leftovers. What it cannot have is skipped without a word; what
//! it may have and cannot be read is a problem.

use std::net::IpAddr;

use crate::cmd::settle::HostFacts;
use crate::kernel::ObserveError;
use crate::kernel::ipset::{IpsetDriver, IpsetError, Sets};
use crate::kernel::ipvs::{Ipvs, IpvsDriver, IpvsError};
use crate::kernel::link::{LinkDriver, Links};
use crate::kernel::nfacct::{Counters, Nfacct};
use crate::kernel::nftables::{NftTables, Tables};
use crate::kernel::xtables::Xtables;
use crate::kernel::xtables::nft::NftDriver;
use crate::kernel::xtables::restore::{RestoreDriver, legacy_tables};
use crate::kernel::xtables::variant::{Variant, installed};
use crate::net::{Family, PerFamily};

/// Rules of one kind of tables.
pub struct Rules {
    pub variant: Variant,
    /// The families that may hold something.
    pub families: Vec<Family>,
    pub kernel: Box<dyn Xtables>,
}

/// Opens IPVS; `None` if the kernel has none. Called only if something tells that IPVS mode was here: asking would load
/// it.
pub type OpenIpvs = Box<dyn FnMut() -> Result<Option<Box<dyn Ipvs>>, ObserveError>>;

/// A kernel, real or simulated. What is `None` cannot hold anything.
pub struct Node {
    pub rules: Vec<Rules>,
    pub sets: Option<Box<dyn Sets>>,
    pub links: Option<Box<dyn Links>>,
    pub servers: OpenIpvs,
    pub tables: Option<Box<dyn Tables>>,
    pub counters: Option<Box<dyn Counters>>,
    /// Addresses of the node, on devices other than the one for service addresses.
    pub addresses: PerFamily<Box<[IpAddr]>>,
    /// What could not be opened, and why.
    pub problems: Vec<String>,
}

impl Node {
    /// The kernel of the calling thread's network namespace.
    pub fn open() -> Self {
        let mut problems = Vec::new();
        let mut note = |problem: String| problems.push(problem);
        let mut rules = Vec::new();
        let tables = NftTables::open().unwrap_or_else(|error| {
            note(format!("nf_tables cannot be read: {error}"));
            None
        });
        if tables.is_some() {
            let families = Family::ALL.to_vec();
            let kernel = Box::new(NftDriver::new(families.clone()));
            rules.push(Rules { variant: Variant::Nft, families, kernel });
        }
        rules.extend(open_legacy(&mut note));
        let sets: Option<Box<dyn Sets>> = match IpsetDriver::open() {
            Ok(sets) => Some(Box::new(sets)),
            Err(IpsetError::Absent) => None,
            Err(error) => {
                note(format!("ipsets cannot be read: {error}"));
                None
            }
        };
        let links: Option<Box<dyn Links>> = match LinkDriver::open() {
            Ok(links) => Some(Box::new(links)),
            Err(error) => {
                note(error.to_string());
                None
            }
        };
        let counters = Nfacct::open().map_err(|error| note(format!("accounting objects cannot be read: {error}"))).ok();
        let host = HostFacts::read().map_err(|failure| note(failure.to_string())).unwrap_or_default();
        Node {
            rules,
            sets,
            links,
            servers: Box::new(open_ipvs),
            tables: tables.map(|tables| Box::new(tables) as Box<dyn Tables>),
            counters: counters.map(|counters| Box::new(counters) as Box<dyn Counters>),
            addresses: host.local_addresses(),
            problems,
        }
    }
}

/// The seed decides about the order of what is added, which is nothing here.
fn open_ipvs() -> Result<Option<Box<dyn Ipvs>>, ObserveError> {
    match IpvsDriver::open(0) {
        Ok(driver) => Ok(Some(Box::new(driver))),
        Err(IpvsError::Missing) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The legacy tables, if some are in use here: then a tool must be there to read them.
fn open_legacy(note: &mut impl FnMut(String)) -> Option<Rules> {
    let mut families = Vec::new();
    for family in Family::ALL {
        match legacy_tables(family) {
            Ok(tables) if tables.is_empty() => {}
            Ok(_) => families.push(family),
            Err(error) => note(format!("legacy tables of {family} cannot be read: {error}")),
        }
    }
    if families.is_empty() {
        return None;
    }
    match installed(Variant::Legacy) {
        Ok(tools) => {
            for family in &families {
                if let Err(error) = tools.binaries.get(*family) {
                    note(format!("legacy tables of {family} are in use, and cannot be read: {error}"));
                }
            }
            families.retain(|family| tools.binaries.get(*family).is_ok());
            Some(Rules { variant: Variant::Legacy, families, kernel: Box::new(RestoreDriver::new(tools)) })
        }
        Err(error) => {
            note(format!("legacy tables are in use, and cannot be read: {error}"));
            None
        }
    }
}
