//! Who has which address, and where a host's packets come in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::lab::{Host, Lab};

/// The names of the lab's addresses.
pub struct Names(BTreeMap<IpAddr, String>);

impl Names {
    pub fn of_lab(lab: &Lab) -> Names {
        let own = lab.oracle_host().addresses.into_iter().map(|address| (address, lab.node().name().to_owned()));
        let all = lab.hosts().flat_map(|host| host.addresses().map(|address| (address, host.name().to_owned())));
        Names::new(own.chain(all))
    }

    pub fn new(names: impl IntoIterator<Item = (IpAddr, String)>) -> Names {
        Names(names.into_iter().collect())
    }

    /// The name of the host that has the address, or the address.
    pub fn of(&self, address: &IpAddr) -> String {
        self.0.get(address).cloned().unwrap_or_else(|| address.to_string())
    }
}

/// The node's interface that a host's packets come in by; `None` for the node itself. The lab gives every pod of the
/// node a link of its own, numbered from 1.
pub fn in_interface(lab: &Lab, from: &Host) -> Option<String> {
    if from.name() == lab.node().name() {
        return None;
    }
    let pod = lab.pods().iter().position(|pod| pod.name() == from.name());
    Some(pod.map_or_else(|| "eth0".to_owned(), |index| format!("veth{}", index + 1)))
}
