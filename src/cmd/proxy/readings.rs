//! What metrics ask the parts of a running node at a scrape.

use std::sync::{Arc, Mutex, PoisonError};

use crate::kernel::KernelTraffic;
use crate::kernel::conntrack;
use crate::kernel::nfacct::Nfacct;
use crate::kernel::xtables::{RuleCounts, Table};
use crate::net::{Family, PerFamily};
use crate::plan::iptables::{NFACCT_CT_INVALID, NFACCT_LOCALHOST};
use crate::serve::metrics::{Cleanups, Followed, Memory, Packets, Readings, RuleNumbers, Sent};
use crate::source::kube as api;
use crate::state::Kind;

/// The parts that can be asked.
pub struct Parts {
    pub traffic: KernelTraffic,
    /// `None` where rules are not counted.
    pub rules: Option<RuleCounts>,
    pub conntrack: conntrack::Figures,
    pub source: Option<Arc<api::Status>>,
    /// The kernel's accounting objects, where rules name them.
    pub accounting: Option<Mutex<Nfacct>>,
}

impl Readings for Parts {
    fn sent(&self) -> Vec<Sent> {
        let KernelTraffic { rules, sets, servers, links } = &self.traffic;
        [("rules", rules), ("sets", sets), ("servers", servers), ("links", links)]
            .map(|(objects, sent)| Sent { objects, bytes: sent.bytes(), messages: sent.messages() })
            .into()
    }

    fn rules(&self, family: Family, table: &str) -> Option<RuleNumbers> {
        let counts = self.rules.as_ref()?;
        let table = Table::ALL.into_iter().find(|known| known.as_str() == table)?;
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Some(RuleNumbers { owned: number(counts.owned(family, table)), last: number(counts.last(family, table)) })
    }

    fn packets(&self) -> Packets {
        let Some(accounting) = &self.accounting else { return Packets::default() };
        let mut accounting = accounting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packets = |name| match accounting.packets(name) {
            Ok(packets) => packets,
            Err(error) => {
                tracing::debug!(%error, name, "cannot read an accounting object");
                None
            }
        };
        Packets { ct_invalid: packets(NFACCT_CT_INVALID), localhost_node_ports: packets(NFACCT_LOCALHOST) }
    }

    fn cleanups(&self) -> Option<PerFamily<Cleanups>> {
        let stats = self.conntrack.stats();
        Some(PerFamily::new(|family| {
            let conntrack::FamilyStats { runs, failures, deleted, .. } = *stats.get(family);
            Cleanups { runs, failures, deleted }
        }))
    }

    fn followed(&self) -> Vec<Followed> {
        let Some(status) = &self.source else { return Vec::new() };
        let followed = |kind: Kind| {
            let api::KindStatus { connected, synced, relists, failures, .. } = status.of(kind);
            Followed { kind: kind.as_str(), connected, synced, relists, failures }
        };
        Kind::ALL.into_iter().map(followed).collect()
    }

    fn left_out(&self) -> Option<u64> {
        self.source.as_ref().map(|status| status.problems())
    }

    fn memory(&self) -> Option<Memory> {
        super::memory::figures()
    }
}
