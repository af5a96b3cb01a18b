//! Facts as a source told them: services, endpoint slices, the node, service CIDRs; and the store that holds them.
//!
//! A source sends batches of [`Update`]s; [`State::apply`] takes a batch as one atomic step and says what it touched.
//! Facts are slim: only the fields that the proxy reads, addresses parsed, names shared.

mod facts;
mod owners;
mod store;
#[cfg(test)]
pub mod testing;

pub use facts::{
    ClusterIp, Conditions, EndpointSlice, Fact, FactKey, Hints, IpMode, Kind, LoadBalancerIngress, Location, Node,
    Service, ServiceCidr, ServicePort, ServiceType, SliceEndpoint, SlicePort, TrafficPolicy, Tuning, Update, Weights,
};
pub use store::{FactCounts, State, Touched, Trigger};
