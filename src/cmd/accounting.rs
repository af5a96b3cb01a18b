//! The accounting objects that rules name (contract 3.2): which of them this kernel can count with.

use std::sync::Mutex;

use crate::kernel::nfacct::{Nfacct, NfacctError};
use crate::net::Family;
use crate::plan::iptables::{NFACCT_CT_INVALID, NFACCT_LOCALHOST};

/// Which objects rules can name. Without one, its rules are written without the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Packets dropped in conntrack state INVALID.
    pub ct_invalid: bool,
    /// Connections accepted to node ports on loopback.
    pub localhost_node_ports: bool,
}

impl Accounting {
    /// Makes the objects in this network namespace where the kernel has them. A failure is told once and means rules
    /// without counters.
    pub fn make(families: &[Family]) -> Self {
        let made = open(families).and_then(|nfacct| {
            nfacct.map_or(Ok(Accounting::default()), |mut nfacct| {
                nfacct.ensure(NFACCT_CT_INVALID)?;
                nfacct.ensure(NFACCT_LOCALHOST)?;
                Ok(Accounting { ct_invalid: true, localhost_node_ports: true })
            })
        });
        made.unwrap_or_else(|error| {
            tracing::info!(reason = %error, "no accounting objects: rules are written without counters");
            Accounting::default()
        })
    }

    /// The kernel's accounting, to read what the objects counted; `None` where rules name none.
    pub fn open(self) -> Option<Mutex<Nfacct>> {
        let is_used = self.ct_invalid || self.localhost_node_ports;
        is_used.then(Nfacct::open)?.ok().map(Mutex::new)
    }

    /// What [`make`](Accounting::make) would say, without making anything.
    pub fn foretell(families: &[Family]) -> Self {
        let able = open(families).and_then(|nfacct| nfacct.map_or(Ok(false), |mut nfacct| nfacct.is_there()));
        let able = able.unwrap_or(false);
        Accounting { ct_invalid: able, localhost_node_ports: able }
    }

    /// What saved rules name: comparing with them should not depend on this kernel.
    pub fn named_in<'a>(files: impl Iterator<Item = &'a str> + Clone) -> Self {
        let names = |object: &str| files.clone().any(|text| text.contains(object));
        Accounting { ct_invalid: names(NFACCT_CT_INVALID), localhost_node_ports: names(NFACCT_LOCALHOST) }
    }
}

/// The kernel's accounting; `None` if it lacks the match in one of the families.
fn open(families: &[Family]) -> Result<Option<Nfacct>, NfacctError> {
    let mut nfacct = Nfacct::open()?;
    for family in families {
        if !nfacct.match_is_there(*family)? {
            return Ok(None);
        }
    }
    Ok(Some(nfacct))
}
