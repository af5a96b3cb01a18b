//! Facts of a running node: the store, resolving, and everyone who follows what is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gate::NodeGate;
use super::keeper::SettingsKeeper;
use crate::engine::{Facts, Resolved};
use crate::model::ServicePortKey;
use crate::net::ObjectName;
use crate::node::NodeLog;
use crate::resolve::{NodeContext, Options, resolve};
use crate::state::{FactCounts, Kind, State, Touched, Trigger, Update};

/// The store with resolving.
pub struct NodeFacts {
    state: State,
    node_name: Arc<str>,
    options: Options,
    /// Which service ports each service resolved to last.
    resolved: BTreeMap<ObjectName, Vec<ServicePortKey>>,
    followers: Followers,
    log: NodeLog,
}

/// Who follows what is told, beside the engine.
pub struct Followers {
    pub settings: Arc<SettingsKeeper>,
    pub gate: Arc<NodeGate>,
    /// Called with the state after each batch and what the batch touched.
    pub told: Told,
}

/// Hears of each batch. Called on the engine's loop: it must not block.
pub type Told = Box<dyn FnMut(&State, &Touched) + Send>;

impl NodeFacts {
    pub fn new(node_name: Arc<str>, options: Options, followers: Followers) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let started = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        NodeFacts {
            state: State::new(started),
            node_name,
            options,
            resolved: BTreeMap::new(),
            followers,
            log: NodeLog::default(),
        }
    }

    /// Appends how a service resolves now, and what it no longer resolves to.
    fn resolve_into(&mut self, name: &ObjectName, context: &NodeContext, out: &mut Resolved) {
        let ports = resolve(&self.state, name, context, &self.options);
        let keys: Vec<ServicePortKey> = ports.iter().map(|port| port.key.clone()).collect();
        let before =
            if keys.is_empty() { self.resolved.remove(name) } else { self.resolved.insert(name.clone(), keys.clone()) };
        let gone = before.into_iter().flatten().filter(|key| !keys.contains(key));
        out.extend(gone.map(|key| (key, None)));
        out.extend(ports.into_iter().map(|port| (port.key.clone(), Some(port))));
    }
}

impl Facts for NodeFacts {
    fn apply(&mut self, batch: Vec<Update>) -> Resolved {
        for news in self.log.take(&batch) {
            if news.is_warning() { tracing::warn!("{news}") } else { tracing::info!("{news}") }
        }
        let touched = self.state.apply(batch);
        self.followers.settings.node_is(self.state.node());
        self.followers.gate.node_is(self.state.is_synced(Kind::Node), self.state.node());
        (self.followers.told)(&self.state, &touched);
        let names: BTreeSet<ObjectName> = if touched.node {
            self.state.service_names().chain(self.resolved.keys()).chain(&touched.services).cloned().collect()
        } else {
            touched.services
        };
        let context = NodeContext::of(&self.state, self.node_name.clone());
        let mut out = Resolved::new();
        for name in &names {
            self.resolve_into(name, &context, &mut out);
        }
        out
    }

    fn ready(&self) -> bool {
        self.state.ready() && self.followers.gate.is_open()
    }

    fn counts(&self) -> FactCounts {
        self.state.counts()
    }

    fn take_triggers(&mut self) -> BTreeMap<ObjectName, Vec<Trigger>> {
        self.state.take_trigger_times()
    }
}
