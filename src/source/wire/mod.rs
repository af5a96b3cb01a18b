//! The fields of API objects that are read, and how they become facts.
//!
//! One file a kind: `service`, `slice`, `node`, `cidr`, with `metadata` and `annotations` for what all have, and `tuning`
//! for what annotations of Services ask for. Every reader (JSON, protobuf,
//! YAML) fills these structures and nothing else; what a value means, what is missing and what cannot be used is
//! decided here alone, in `to_fact`.
//!
//! A type that does not fit (a string where a number belongs) is an error of the reader, with its place. A value that
//! fits but cannot be used (a bad address, port 0) becomes a [`Problem`]: the part is left out, the rest is served.
//!
//! The structures are generic over their texts: `String`, or [`Text`] where they borrow from the bytes of an answer.

mod annotations;
mod cidr;
mod metadata;
mod names;
mod node;
mod problems;
mod service;
mod slice;
mod text;
mod tuning;

pub use annotations::{Annotations, Place};
pub use cidr::{ServiceCidr, ServiceCidrSpec};
pub use metadata::{Labels, Metadata};
pub use names::Interner;
pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, Taint};
pub use problems::{NAME_EXPECTED, Problem, is_name};
pub use service::{
    ClientIpConfig, Ingress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};
pub use slice::{Endpoint, EndpointConditions, EndpointHints, EndpointSlice, First, NameRef, SlicePort};
pub use text::Text;
pub use tuning::{
    ANNOTATION_DRAIN_SECONDS, ANNOTATION_ROUTER_FLAGS, ANNOTATION_ROUTER_SCHEDULER, ANNOTATION_SCHEDULER,
    ANNOTATION_SCHEDULER_FLAGS, ANNOTATION_WEIGHTS, TuningTexts,
};

/// Label that leaves a Service to another proxy (contract 2.1).
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label that marks slices of headless services (contract 2.1).
pub const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Label that names the service of a slice.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label with the zone of a node.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";
/// Taint of a node that the autoscaler is about to delete (contract 6.1).
pub const TAINT_TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Annotation of the bookmark that ends the initial events of a streaming list.
pub const ANNOTATION_INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// Annotation with the time at which the endpoints of a slice changed.
pub const ANNOTATION_TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[cfg(test)]
mod tests;
