//! What is told, in words.

use std::fmt;
use std::sync::Arc;

use crate::engine::Notice;
use crate::net::{Family, ObjectName};
use crate::source::wire::Problem;

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub const fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Regarding {
    /// Our Node, by its name.
    Node(Arc<str>),
    Service(ObjectName),
}

impl fmt::Display for Regarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Regarding::Node(name) => write!(f, "Node {name}"),
            Regarding::Service(name) => write!(f, "Service {name}"),
        }
    }
}

/// An event. Equal events are the same one again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub event_type: EventType,
    pub reason: &'static str,
    pub action: &'static str,
    pub regarding: Regarding,
    /// For people; the first 1024 bytes count.
    pub note: String,
}

const START: &str = "StartKubeProxy";
const PROGRAM: &str = "ProgramRules";
const RELOAD: &str = "ReloadConfiguration";

impl Event {
    fn on_node(
        node: &Arc<str>,
        event_type: EventType,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) -> Self {
        Event { event_type, reason, action, regarding: Regarding::Node(node.clone()), note }
    }

    fn on_service(
        service: &ObjectName,
        event_type: EventType,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) -> Self {
        Event { event_type, reason, action, regarding: Regarding::Service(service.clone()), note }
    }

    /// The node is being served, in this mode.
    pub fn starting(node: &Arc<str>, mode: &str) -> Self {
        let note = format!("weir {} serves in mode {mode}", env!("CARGO_PKG_VERSION"));
        Event::on_node(node, EventType::Normal, "Starting", START, note)
    }

    /// The health server cannot listen, and that ends the process.
    pub fn failed_healthcheck(node: &Arc<str>, error: &dyn fmt::Display) -> Self {
        Event::on_node(node, EventType::Warning, "FailedToStartProxierHealthcheck", START, error.to_string())
    }

    /// The metrics server cannot listen, and that ends the process.
    pub fn failed_metrics(node: &Arc<str>, error: &dyn fmt::Display) -> Self {
        Event::on_node(node, EventType::Warning, "FailedToStartMetricServer", START, error.to_string())
    }

    /// The health check node port of a service cannot be listened on. `message` names the node and the port.
    pub fn failed_service_healthcheck(service: &ObjectName, message: &dyn fmt::Display) -> Self {
        let reason = "FailedToStartServiceHealthcheck";
        Event::on_service(service, EventType::Warning, reason, "Listen", message.to_string())
    }

    /// A virtual server of somebody else's is where a service should have one.
    pub fn address_taken(service: &ObjectName, family: Family, virtual_server: &dyn fmt::Display) -> Self {
        let note = format!(
            "not served at {virtual_server} ({family}): there is a virtual server of somebody else's; remove it, or give \
             the service another address or port"
        );
        Event::on_service(service, EventType::Warning, "ServiceAddressTaken", PROGRAM, note)
    }

    /// A part of an object cannot be used. `None` where the object is no Service.
    pub fn unusable(object: &ObjectName, problem: &Problem) -> Option<Self> {
        let Problem { field, value, expected, .. } = problem;
        let note = format!("{field}: {value:?} is left out: expected {expected}");
        let is_service = problem.object.starts_with("Service ");
        is_service.then(|| Event::on_service(object, EventType::Warning, "UnusableField", "ReadService", note))
    }

    /// A changed configuration is in force.
    pub fn reloaded(node: &Arc<str>, what: &dyn fmt::Display) -> Self {
        Event::on_node(node, EventType::Normal, "ConfigurationReloaded", RELOAD, what.to_string())
    }

    /// A changed configuration is not, and the old one stays.
    pub fn refused(node: &Arc<str>, error: &dyn fmt::Display) -> Self {
        let note = format!("the configuration before it stays in force: {error}");
        Event::on_node(node, EventType::Warning, "ConfigurationRefused", RELOAD, note)
    }

    /// What of the engine's notices is for whoever looks at the cluster.
    pub fn of_notice(node: &Arc<str>, notice: &Notice) -> Option<Self> {
        let service = notice.key().map(|key| &key.name.service);
        let note = format!("{node}: {notice}");
        match (notice, service) {
            (Notice::Quarantined { .. }, Some(service)) => {
                Some(Event::on_service(service, EventType::Warning, "ServicePortRefused", PROGRAM, note))
            }
            (Notice::Recovered { .. }, Some(service)) => {
                Some(Event::on_service(service, EventType::Normal, "ServicePortServed", PROGRAM, note))
            }
            (Notice::Drift { .. }, _) => {
                let note = notice.to_string();
                Some(Event::on_node(node, EventType::Warning, "RulesChanged", "CompareRules", note))
            }
            _ => None,
        }
    }
}
