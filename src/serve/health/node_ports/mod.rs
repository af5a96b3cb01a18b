//! Health check node ports (contract 6.2): for each load balancer service with externalTrafficPolicy Local a port of its
//! own, on which a load balancer asks whether there are endpoints on this node.
//!
//! `plan` says which sockets a service needs and what that changes; `page` is the answer; `keeper` opens and closes.
//!
//! A service listens on all of its addresses or on none. What weir does beyond kube-proxy:
//!
//! * Addresses are followed. kube-proxy reads them once, so that a node port answers on a new address and its health check
//!   does not. An address that comes later and cannot be bound (yet) takes nothing away from those that serve.
//! * What failed is tried again every five seconds, and whenever a port was closed, not only when something changes.
//! * A health check that is asked for in the moment of its end answers, or is refused; not an empty 200.

mod keeper;
mod page;
mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::keeper::Keeper;
use super::files::most_listeners;
use crate::model::NodePortAddresses;
use crate::net::{Family, ObjectName, PerFamily};
use crate::resolve::health::{Change, HealthPort};
use crate::serve::http::{Limits, ListenError};

/// How many connections all health checks have open together.
const CONNECTIONS: usize = 1024;

/// What node ports need to know.
pub struct NodePortsConfig {
    /// For messages.
    pub node_name: Arc<str>,
    /// Where node ports are, loopback addresses included: the health check has nothing to do with rules.
    pub addresses: watch::Receiver<PerFamily<NodePortAddresses>>,
    /// Whether the proxy is healthy, asked at every probe.
    pub is_healthy: IsHealthy,
    /// Told of a service that cannot listen, once until that changes. Called from a task; it should not take long.
    pub on_failure: Box<dyn FnMut(&Failure) + Send>,
    pub limits: Limits,
    /// How many sockets may be open.
    pub most_listeners: usize,
}

/// Whether the proxy is healthy.
pub type IsHealthy = Arc<dyn Fn() -> bool + Send + Sync>;

impl NodePortsConfig {
    /// With as many listeners as the limit of open files allows now.
    pub fn new(
        node_name: impl Into<Arc<str>>,
        addresses: watch::Receiver<PerFamily<NodePortAddresses>>,
        is_healthy: impl Fn() -> bool + Send + Sync + 'static,
        on_failure: impl FnMut(&Failure) + Send + 'static,
    ) -> Self {
        NodePortsConfig {
            node_name: node_name.into(),
            addresses,
            is_healthy: Arc::new(is_healthy),
            on_failure: Box::new(on_failure),
            limits: Limits::default(),
            most_listeners: most_listeners(),
        }
    }
}

/// A service whose health check cannot listen. Its text is the note of the event `FailedToStartServiceHealthcheck`.
#[derive(Debug)]
pub struct Failure {
    pub node_name: Arc<str>,
    pub service: ObjectName,
    pub family: Family,
    pub port: u16,
    pub error: ListenError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { node_name, service, port, error, .. } = self;
        write!(f, "node {node_name} failed to start healthcheck \"{service}\" on port {port}: {error}")
    }
}

/// The health check node ports of this node. Dropped, they close soon; [`NodePorts::stop`] waits for that.
#[derive(Debug)]
pub struct NodePorts {
    told: Arc<Told>,
    task: JoinHandle<()>,
}

/// What the task has not come to yet. Each service once, however often it changes.
#[derive(Debug, Default)]
struct Told {
    changes: Mutex<Changes>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Changes {
    services: BTreeMap<ObjectName, Option<HealthPort>>,
    stop: bool,
}

impl NodePorts {
    /// Starts with no ports. Must be called within a runtime.
    pub fn start(config: NodePortsConfig) -> Self {
        let told = Arc::new(Told::default());
        let task = tokio::spawn(Keeper::new(config, told.clone()).run());
        NodePorts { told, task }
    }

    /// Takes in what is different now.
    pub fn tell(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.told.note(|told| told.services.extend(changes));
        }
    }

    /// Stops. All ports are closed when this returns.
    pub async fn stop(mut self) {
        self.told.note(|told| told.stop = true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for NodePorts {
    fn drop(&mut self) {
        self.told.note(|told| told.stop = true);
    }
}

impl Told {
    fn note(&self, change: impl FnOnce(&mut Changes)) {
        change(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    /// What was told since the last call; `None` to stop.
    fn take(&self) -> Option<BTreeMap<ObjectName, Option<HealthPort>>> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        (!changes.stop).then(|| std::mem::take(&mut changes.services))
    }
}

#[cfg(test)]
mod tests;
