//! The settings that follow the Node object and the host while the process runs.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::cmd::options::RuleOptions;
use crate::cmd::settle::{self, HostFacts};
use crate::engine::{Handle, SharedSettings};
use crate::model::{NodePortAddresses, Settings};
use crate::net::PerFamily;
use crate::state::Node;

/// Keeps [`SharedSettings`] right, and tells the engine when they change.
pub struct SettingsKeeper {
    rules: RuleOptions,
    shared: SharedSettings,
    /// Set once the engine is there.
    engine: OnceLock<Handle>,
    inputs: Mutex<Inputs>,
    /// Where health check node ports are.
    health_checks: HealthChecks,
}

/// Told of where health check node ports are.
pub type HealthChecks = Arc<watch::Sender<PerFamily<NodePortAddresses>>>;

/// What settings follow while the process runs.
struct Inputs {
    host: HostFacts,
    /// The last look at the host failed, and that was told.
    host_lost: bool,
    node: Option<Node>,
}

impl SettingsKeeper {
    /// For a host as it is now, and no Node object yet.
    pub fn new(rules: RuleOptions, host: HostFacts, health_checks: HealthChecks) -> Self {
        health_checks.send_replace(settle::health_check_addresses(&rules, None, &host));
        let settings = settle::settings(&rules, None, &host);
        let shared = Arc::new(Mutex::new(Arc::new(settings)));
        let inputs = Mutex::new(Inputs { host, host_lost: false, node: None });
        SettingsKeeper { rules, shared, engine: OnceLock::new(), inputs, health_checks }
    }

    /// The settings, kept right.
    pub fn shared(&self) -> &SharedSettings {
        &self.shared
    }

    /// The settings as they are now.
    pub fn current(&self) -> Arc<Settings> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom to tell of changes from now on.
    pub fn tell(&self, engine: Handle) {
        // Only the first call counts; there is only one engine.
        let _ = self.engine.set(engine);
    }

    /// The Node object may have changed.
    pub fn node_is(&self, node: Option<&Node>) {
        let mut inputs = self.inputs();
        if inputs.node.as_ref() != node {
            inputs.node = node.cloned();
            self.settle(&inputs);
        }
    }

    /// The host's addresses may have changed (contract 3.12). Where they cannot be read, those read before count.
    pub fn look_at_host(&self) {
        let found = settle::interface_addresses();
        let mut inputs = self.inputs();
        match found {
            Ok(addresses) => {
                inputs.host_lost = false;
                inputs.host.addresses = addresses;
                self.settle(&inputs);
            }
            Err(error) if !inputs.host_lost => {
                inputs.host_lost = true;
                tracing::error!(%error, "node ports stay on the addresses that were read before");
            }
            Err(_) => {}
        }
    }

    /// The host's addresses as they were read last.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.inputs().host.ips()
    }

    fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, inputs: &Inputs) {
        let ports = settle::health_check_addresses(&self.rules, inputs.node.as_ref(), &inputs.host);
        self.health_checks.send_if_modified(|now| std::mem::replace(now, ports.clone()) != ports);
        let new = settle::settings(&self.rules, inputs.node.as_ref(), &inputs.host);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if **shared != new {
            let matters = settle::matters(&self.rules, &shared, &new);
            *shared = Arc::new(new);
            drop(shared);
            if let Some(engine) = self.engine.get().filter(|_| matters) {
                engine.base_changed();
            }
        }
    }
}
