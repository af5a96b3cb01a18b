//! The desired services, neutral of any backend, and the node's settings that rules depend on.
//!
//! [`resolve`](crate::resolve) makes the model, [`plan`](crate::plan) reads it. The [`oracle`] answers, from the model
//! alone, what must become of a packet: it is the written specification that planned rules are judged by.

pub mod oracle;
mod service_port;
mod settings;

pub use service_port::{EndpointFlags, ModelEndpoint, ServicePort, ServicePortKey};
pub use settings::{Egress, IpvsSettings, LocalDetector, NodePortAddresses, Settings};
