mod health;
mod merging;
mod policies;
mod properties;
mod services;

use super::*;
use crate::net::Protocol;
use crate::state::testing::{upsert_service, upsert_slice};
use crate::state::{EndpointSlice, Service};

const NODE: &str = "host1";

fn node() -> NodeContext {
    NodeContext { name: NODE.into(), zone: None }
}

fn state_of(services: &[Service], slices: &[EndpointSlice]) -> State {
    let mut state = State::default();
    state.apply(services.iter().map(upsert_service).chain(slices.iter().map(upsert_slice)).collect());
    state
}

/// All services, resolved for a node without a zone.
fn resolve_all(state: &State) -> Vec<Arc<model::ServicePort>> {
    state.service_names().flat_map(|name| resolve(state, name, &node(), &Options::default())).collect()
}

fn texts(endpoints: impl Iterator<Item = crate::net::Endpoint>) -> Vec<String> {
    endpoints.map(|endpoint| endpoint.to_string()).collect()
}
