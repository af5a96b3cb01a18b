//! Stale UDP flows: what the kernel took is handed to the conntrack worker, off the path of rule changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keeper::SettingsKeeper;
use crate::kernel::conntrack::{Cleanup, NodePortScope, Worker};
use crate::model::oracle::Host;
use crate::model::{ServicePort, ServicePortKey};
use crate::net::Protocol;
use crate::plan::Move;

/// Follows the UDP service ports in force.
pub struct UdpFlows {
    worker: Worker,
    settings: Arc<SettingsKeeper>,
    in_force: BTreeMap<ServicePortKey, Arc<ServicePort>>,
}

impl UdpFlows {
    pub fn new(worker: Worker, settings: Arc<SettingsKeeper>) -> Self {
        UdpFlows { worker, settings, in_force: BTreeMap::new() }
    }

    /// The kernel took these moves.
    pub fn applied(&mut self, moves: &[Move]) {
        let udp: Vec<Move> = moves.iter().filter(|m| is_udp(m)).cloned().collect();
        if udp.is_empty() {
            return;
        }
        for m in &udp {
            match (&m.before, &m.after) {
                (_, Some(after)) => drop(self.in_force.insert(after.key.clone(), after.clone())),
                (Some(before), None) => drop(self.in_force.remove(&before.key)),
                (None, None) => {}
            }
        }
        // The host's addresses are followed; to list them here would hold up rule changes where there are thousands.
        let settings = self.settings.current();
        let host = Host { addresses: self.settings.addresses() };
        let scope = Arc::new(NodePortScope::new(&settings, &host));
        self.worker.submit(Cleanup::of_moves(&udp, self.in_force.values().map(|port| &**port), &scope));
    }
}

fn is_udp(m: &Move) -> bool {
    m.before.as_ref().or(m.after.as_ref()).is_some_and(|port| port.key.name.protocol == Protocol::Udp)
}
