//! Tests of the engine as a whole.

mod applying;
mod comparing;
mod cost;
mod counting;
mod drift;
mod fake;
mod looping;
mod resting;
mod rows;
mod simulation;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::kernel::xtables::{
    ApplyError, ApplyErrorKind, ChainKey, ChainName, Culprit, ObserveError, Scope, Suspicion, Table,
};
use crate::model::{ServicePort, ServicePortKey};
use crate::net::{Family, ObjectName, Protocol, ServicePortName};
use crate::plan::Move;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The nth service port; every fourth is an IPv6 one.
pub(in crate::engine) fn key(n: usize) -> ServicePortKey {
    let family = if n % 4 == 3 { Family::V6 } else { Family::V4 };
    let name = ServicePortName::new(ObjectName::new("ns", format!("svc-{n:05}")), "", Protocol::Tcp);
    ServicePortKey { family, name }
}

/// A value of the nth service port; versions differ.
pub(in crate::engine) fn value(n: usize, version: u32) -> Arc<ServicePort> {
    Arc::new(ServicePort {
        affinity_seconds: Some(version),
        has_any_endpoint: true,
        ..ServicePort::new(key(n), Ipv4Addr::LOCALHOST.into(), 80)
    })
}

/// A value that the fake kernel refuses.
fn poison(n: usize, version: u32) -> Arc<ServicePort> {
    Arc::new(ServicePort { health_check_node_port: fake::POISON, ..(*value(n, version)).clone() })
}

fn version(port: &ServicePort) -> u32 {
    port.affinity_seconds.unwrap_or(0)
}

fn put(values: impl IntoIterator<Item = Arc<ServicePort>>) -> Event {
    Event::Resolved(values.into_iter().map(|value| (value.key.clone(), Some(value))).collect())
}

fn gone(n: usize) -> Event {
    Event::Resolved(vec![(key(n), None)])
}

fn error(kind: ApplyErrorKind, message: &str) -> ApplyError {
    ApplyError { kind, message: message.into(), chain: None }
}

fn failed(kind: ApplyErrorKind) -> Event {
    Event::ApplyDone(Err(ApplyFailure { error: error(kind, "no"), suspect: None }))
}

/// Someone may have changed anything.
fn drift() -> Event {
    Event::DriftSeen(Suspicion::anything())
}

/// Someone was seen to change the chains of these fragments.
fn drift_of(numbers: impl IntoIterator<Item = usize>) -> Event {
    let chains = numbers.into_iter().map(|n| fake::chain(&key(n))).collect();
    Event::DriftSeen(Suspicion { scope: Scope::Chains(chains), by: [culprit()].into() })
}

fn culprit() -> Culprit {
    Culprit { pid: 4711, name: "iptables".into() }
}

fn unreadable() -> Event {
    Event::RepairDone(Err(ObserveError { message: "cannot list".into() }.into()))
}

fn applied() -> Event {
    Event::ApplyDone(Ok(()))
}

fn compared() -> Event {
    Event::RepairDone(Ok(Repair::default()))
}

/// The notices among actions.
fn notices(actions: &[Action]) -> Vec<&Notice> {
    actions.iter().filter_map(|action| if let Action::Notice(notice) = action { Some(notice) } else { None }).collect()
}

/// The moves of the apply among actions.
fn moves(actions: &[Action]) -> Option<&[Move]> {
    actions
        .iter()
        .find_map(|action| if let Action::Apply { moves, .. } = action { Some(moves.as_slice()) } else { None })
}

/// The model of the compare among actions.
fn model(actions: &[Action]) -> Option<&[Arc<ServicePort>]> {
    actions.iter().find_map(|action| if let Action::Repair { model, .. } = action { Some(&**model) } else { None })
}

fn wake_at(actions: &[Action]) -> Option<Moment> {
    actions.iter().find_map(|action| if let Action::WakeAt(at) = action { Some(*at) } else { None })
}

/// An engine whose first compare, of these many fragments, is over at `now`.
fn started(pacing: Pacing, fragments: usize, now: Moment) -> Engine {
    let mut engine = Engine::new(pacing);
    engine.step(put((0..fragments).map(|n| value(n, 1))), now);
    assert!(model(&engine.step(Event::Synced, now)).is_some());
    assert!(moves(&engine.step(compared(), now)).is_none());
    engine
}
