//! Metrics of a running node: who feeds them, and who is asked at a scrape.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::cmd::accounting::Accounting;
use crate::engine::{Hooks, OnProgrammed};
use crate::kernel::KernelTraffic;
use crate::kernel::conntrack::{Figures, Run};
use crate::kernel::nfacct::Nfacct;
use crate::kernel::xtables::{RuleCounts, Table};
use crate::net::{Family, PerFamily};
use crate::plan::iptables::{NFACCT_CT_INVALID, NFACCT_LOCALHOST};
use crate::serve::metrics::{
    Cleanups, Followed, Memory, Metrics, Packets, Readings, Request, Requests, RuleNumbers, Sent, Setup,
};
use crate::source::kube as api;
use crate::state::Kind;

/// Metrics, with what drivers count in.
pub struct Metering {
    metrics: Arc<Metrics>,
    traffic: KernelTraffic,
    rules: RuleCounts,
    source: Arc<OnceLock<Arc<api::Status>>>,
}

/// Who feeds figures of requests to the API server.
pub fn observer(requests: &Requests) -> api::Observer {
    let requests = requests.clone();
    api::Observer::new(move |done| {
        let api::Finished { method, host, code, is_watch, took } = *done;
        requests.finished(&Request { method: method.as_str(), host, code, is_watch, took });
    })
}

/// What the allocator says of itself, for people: bytes in use, in pages in use, in physical pages, in its own books,
/// mapped, and kept for later without physical pages.
pub fn allocator_report() -> String {
    use tikv_jemalloc_ctl::{epoch, stats};
    if let Err(error) = epoch::advance() {
        return format!("the allocator does not say: {error}\n");
    }
    let figures = [
        ("allocated", stats::allocated::read()),
        ("active", stats::active::read()),
        ("resident", stats::resident::read()),
        ("metadata", stats::metadata::read()),
        ("mapped", stats::mapped::read()),
        ("retained", stats::retained::read()),
    ];
    figures
        .into_iter()
        .map(|(name, figure)| match figure {
            Ok(bytes) => format!("{name} {bytes}\n"),
            Err(error) => format!("{name}: {error}\n"),
        })
        .collect()
}

impl Metering {
    pub fn new(setup: Setup) -> Self {
        Metering {
            metrics: Metrics::new(setup),
            traffic: KernelTraffic::default(),
            rules: RuleCounts::default(),
            source: Arc::default(),
        }
    }

    /// For pages, probes and reloads.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where drivers count what they send.
    pub fn traffic(&self) -> &KernelTraffic {
        &self.traffic
    }

    /// Where the backend counts rules.
    pub fn rules(&self) -> &RuleCounts {
        &self.rules
    }

    /// Facts come from an API server.
    pub fn follow_source(&self, status: Arc<api::Status>) {
        // Only the first call counts; there is one source.
        let _ = self.source.set(status);
    }

    /// These hooks, and those that feed metrics.
    pub fn hooks(&self, mut hooks: Hooks) -> Hooks {
        let (applied, finished) = (self.metrics.clone(), self.metrics.clone());
        Hooks {
            applied: Box::new(move |moves| {
                applied.in_force(moves.iter().filter_map(|m| {
                    let port = m.after.as_deref();
                    Some((&port.or(m.before.as_deref())?.key, port))
                }));
                (hooks.applied)(moves);
            }),
            finished: Box::new(move |done| {
                finished.finished(&done);
                (hooks.finished)(done);
            }),
        }
    }

    /// What the engine's loop tells of changes that carry a time.
    pub fn timing(&self) -> OnProgrammed {
        let metrics = self.metrics.clone();
        Box::new(move |trigger| metrics.programmed(trigger.family, trigger.time))
    }

    /// What the worker of connection tracking tells.
    pub fn cleaned_up(&self) -> impl FnMut(&Run) + Send + 'static {
        let metrics = self.metrics.clone();
        move |run| metrics.cleaned_up(run.family, run.duration)
    }

    /// From now on these are asked at a scrape, in the network namespace of this thread.
    pub fn ask(&self, accounting: Accounting, cleanups: Figures) {
        let accounting = (accounting != Accounting::default()).then(|| Nfacct::open().ok()).flatten().map(Mutex::new);
        self.metrics.ask(NodeReadings {
            traffic: self.traffic.clone(),
            rules: self.rules.clone(),
            accounting,
            cleanups,
            source: self.source.clone(),
        });
    }
}

/// The parts of a node, to be asked.
struct NodeReadings {
    traffic: KernelTraffic,
    rules: RuleCounts,
    accounting: Option<Mutex<Nfacct>>,
    cleanups: Figures,
    source: Arc<OnceLock<Arc<api::Status>>>,
}

impl Readings for NodeReadings {
    fn sent(&self) -> Vec<Sent> {
        let KernelTraffic { rules, sets, servers, links } = &self.traffic;
        let all = [("rules", rules), ("sets", sets), ("servers", servers), ("links", links)];
        all.map(|(objects, traffic)| Sent { objects, bytes: traffic.bytes(), messages: traffic.messages() }).into()
    }

    fn rules(&self, family: Family, table: &str) -> Option<RuleNumbers> {
        let table = Table::ALL.into_iter().find(|known| known.as_str() == table)?;
        let number = |rules: i64| u64::try_from(rules).unwrap_or_default();
        Some(RuleNumbers {
            owned: number(self.rules.owned(family, table)),
            last: number(self.rules.last(family, table)),
        })
    }

    fn packets(&self) -> Packets {
        let Some(accounting) = &self.accounting else { return Packets::default() };
        let mut accounting = accounting.lock().unwrap_or_else(PoisonError::into_inner);
        // A scrape does not wait for a kernel that does not answer: the figure is left out.
        let mut packets = |name| {
            accounting.packets(name).unwrap_or_else(|error| {
                tracing::debug!(%error, name, "cannot read an accounting object");
                None
            })
        };
        Packets { ct_invalid: packets(NFACCT_CT_INVALID), localhost_node_ports: packets(NFACCT_LOCALHOST) }
    }

    fn cleanups(&self) -> Option<PerFamily<Cleanups>> {
        let stats = self.cleanups.stats();
        Some(PerFamily::new(|family| {
            let stats = stats.get(family);
            Cleanups { runs: stats.runs, failures: stats.failures, deleted: stats.deleted }
        }))
    }

    fn followed(&self) -> Vec<Followed> {
        let Some(source) = self.source.get() else { return Vec::new() };
        let kind = |kind: Kind| {
            let status = source.of(kind);
            let name = match kind {
                Kind::Service => "Service",
                Kind::EndpointSlice => "EndpointSlice",
                Kind::Node => "Node",
                Kind::ServiceCidr => "ServiceCIDR",
            };
            Followed {
                kind: name,
                connected: status.connected,
                synced: status.synced,
                relists: status.relists,
                failures: status.failures,
            }
        };
        Kind::ALL.map(kind).into()
    }

    fn left_out(&self) -> Option<u64> {
        self.source.get().map(|source| source.problems())
    }

    fn memory(&self) -> Option<Memory> {
        use tikv_jemalloc_ctl::{epoch, stats};
        epoch::advance().ok()?;
        Some(Memory {
            allocated: stats::allocated::read().ok()? as u64,
            resident: stats::resident::read().ok()? as u64,
        })
    }
}
