//! Health: whether the rules of this node can be trusted, and which services have endpoints on it.
//!
//! ```text
//!  engine::Handle ──────────── of_engine ──┐
//!  watch: NodeEligibility ─────────────────┼─► ProxyHealth ──► handler: /healthz, /livez
//!  start_stopping, remarks ────────────────┘       │ healthy
//!                                                  ▼
//!  resolve::health::HealthPorts ── tell ────► NodePorts ─────► a listener for each service, family and address
//!  watch: where node ports are ───────────────────┘    └─────► on_failure: events
//! ```
//!
//! # How the parts are put together
//!
//! [`ProxyHealth::new`] takes [`Sources`]: a function that says how a family is, for a node [`of_engine`]; and the node's
//! eligibility as it changes, which [`NodeEligibility::of`](crate::resolve::health::NodeEligibility::of) reads from the
//! facts. Its [`handler`](ProxyHealth::handler) goes to [`keep_serving`](super::http::keep_serving), or nowhere where no
//! address is configured. On SIGTERM with a grace period, [`ProxyHealth::start_stopping`] makes every answer a 503 while the
//! rules stay. [`Sources::with_probes`] is for whoever counts probes.
//!
//! [`NodePorts::start`] takes [`NodePortsConfig`]; [`NodePorts::tell`] is given what
//! [`HealthPorts::follow`](crate::resolve::health::HealthPorts::follow) returns for each batch of facts. It may be called
//! from any thread and does no more than note the changes.
//!
//! ```no_run
//! # async fn example(engine: weir::engine::Handle, eligible: tokio::sync::watch::Receiver<weir::resolve::health::NodeEligibility>) {
//! use weir::net::Family;
//! use weir::serve::health::{NodePorts, NodePortsConfig, ProxyHealth, Sources, of_engine};
//! use weir::serve::http::{Endpoint, keep_serving};
//!
//! let health = ProxyHealth::new(Sources::new(of_engine(engine, &Family::ALL), eligible));
//! let address = "0.0.0.0:10256".parse().ok();
//! let kept = keep_serving(Endpoint::new("healthz", health.handler()), address, |_error| { /* an event */ });
//!
//! let (_where, addresses) = tokio::sync::watch::channel(Default::default());
//! let is_healthy = { let health = health.clone(); move || health.is_healthy() };
//! let ports = NodePorts::start(NodePortsConfig::new("node-1", addresses, is_healthy, |_failure| { /* an event */ }));
//! ports.tell(Vec::new());
//!
//! health.start_stopping();
//! ports.stop().await;
//! kept.stop().await;
//! # }
//! ```
//!
//! # Open files
//!
//! Every listener is an open file. [`raise_open_files`] lifts the process's soft limit to the hard one, as Go does at the
//! start of any program; node ports leave room below it for everything else.

mod engine;
mod files;
mod node_ports;
mod probes;
mod proxy;
mod timestamp;

pub use engine::of_engine;
pub use files::raise_open_files;
pub use node_ports::{Failure, NodePorts, NodePortsConfig};
pub use probes::{OnProbe, Probe};
pub use proxy::{FamilyHealth, ProxyHealth, Sources};
pub use timestamp::rfc3339_nano;
