//! Which entries are stale. Pure.
//!
//! An entry is judged by the service address that its first packet was sent to, its *frontend*:
//!
//! * Where the frontend has serving endpoints, the entry is stale if it is not answered by one of them. This takes in
//!   entries that were not translated at all: they are from before the rules (scenario S39).
//! * Where it has none (service deleted, address withdrawn, last endpoint gone), the entry is stale if it is answered
//!   by one of the endpoints that there were. Entries that were not translated stay: without a service behind it, the
//!   address may be anyone's (scenario S43).
//!
//! Endpoints count as serving here whatever the traffic policies say of them, and while they terminate, so that no flow
//! to an endpoint that still answers is disturbed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Flow;
use crate::model::oracle::Host;
use crate::model::{EndpointFlags, NodePortAddresses, ServicePort, Settings};
use crate::net::{Endpoint, Family, PerFamily, Protocol};
use crate::plan::Move;

/// Above this many frontends, those without serving endpoints are dropped when requests pile up; the others are
/// bounded by the number of services.
const MAX_FRONTENDS: usize = 1 << 17;

/// Above this many former endpoints of one frontend only the latest are remembered.
const MAX_FORMER: usize = 1 << 16;

/// The addresses of this node on which node ports are accepted, as far as entries are concerned: a packet to a node
/// port's number on any other address is not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortScope(PerFamily<Scope>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Scope {
    addresses: Box<[IpAddr]>,
    /// All of 127.0.0.0/8.
    loopback: bool,
}

impl NodePortScope {
    /// `host` holds the node's addresses now.
    pub fn new(settings: &Settings, host: &Host) -> Self {
        NodePortScope(PerFamily::new(|family| match settings.node_port_addresses.get(family) {
            NodePortAddresses::All => Scope {
                addresses: sorted(
                    host.addresses.iter().copied().filter(|ip| Family::of(ip) == family && !ip.is_loopback()),
                ),
                loopback: settings.localhost_node_ports(family),
            },
            NodePortAddresses::Only(addresses) => {
                Scope { addresses: sorted(addresses.iter().copied()), loopback: false }
            }
        }))
    }

    fn accepts(&self, ip: &IpAddr) -> bool {
        let scope = self.0.get(Family::of(ip));
        scope.addresses.binary_search(ip).is_ok() || (scope.loopback && ip.is_loopback())
    }
}

/// What a service answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Frontend {
    /// Cluster IP, external IP or VIP, with the service's port.
    Address(Endpoint),
    /// A port of this node's own addresses.
    NodePort(Family, u16),
}

impl Frontend {
    pub(super) fn family(&self) -> Family {
        match self {
            Frontend::Address(address) => Family::of(&address.ip),
            Frontend::NodePort(family, _) => *family,
        }
    }

    fn of(service: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
        let addresses =
            std::iter::once(&service.cluster_ip).chain(&*service.external_ips).chain(&*service.load_balancer_ips);
        let node_port = (service.node_port != 0).then(|| Frontend::NodePort(service.family(), service.node_port));
        addresses.map(|ip| Frontend::Address(Endpoint::new(*ip, service.port))).chain(node_port)
    }
}

/// How the entries of one frontend are judged. The lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Check {
    serving: Arc<[Endpoint]>,
    /// Endpoints that there were.
    former: Arc<[Endpoint]>,
    /// A service in force has the frontend.
    owned: bool,
}

impl Check {
    fn is_stale(&self, flow: &Flow) -> bool {
        let answers = &flow.reply.source;
        let translated = flow.destination_translated();
        // In a zone that someone set up the same packet may be tracked on its way to or from our rules.
        if flow.zone != super::Zone::Default && !translated {
            return false;
        }
        if self.serving.is_empty() {
            translated && self.former.binary_search(answers).is_ok()
        } else {
            !self.serves(answers)
        }
    }

    fn serves(&self, endpoint: &Endpoint) -> bool {
        self.serving.binary_search(endpoint).is_ok()
    }

    /// Some entry could be stale. Without effect, a check still replaces older ones.
    fn has_effect(&self) -> bool {
        !self.serving.is_empty() || !self.former.is_empty()
    }

    /// What was to be deleted by this check and was not is to be deleted by the newer one.
    fn replace_by(&mut self, newer: Check) {
        let all = [&self.former, &self.serving, &newer.former].into_iter().flat_map(|list| list.iter().copied());
        let former = sorted(all);
        self.former = if former.len() <= MAX_FORMER { former.into() } else { newer.former };
        self.serving = newer.serving;
        self.owned = newer.owned;
    }
}

/// What to look for: the frontends to check, and how.
///
/// Requests add up by [`merge`](Cleanup::merge): the newer one says who serves a frontend, the older one what there was
/// to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanup {
    checks: HashMap<Frontend, Check>,
    scope: Arc<NodePortScope>,
}

impl Cleanup {
    /// What these moves may have made stale. `in_force` is every service port as it is in the kernel after the moves;
    /// it is gone through only if a UDP service port moved.
    pub fn of_moves<'a>(
        moves: &[Move],
        in_force: impl IntoIterator<Item = &'a ServicePort>,
        scope: &Arc<NodePortScope>,
    ) -> Self {
        let mut draft = Draft::new(scope);
        for Move { before, after } in moves {
            let (before, after) = (before.as_deref().filter(is_udp), after.as_deref().filter(is_udp));
            if let (Some(before), Some(after)) = (before, after)
                && Frontend::of(before).eq(Frontend::of(after))
                && serving(before).eq(serving(after))
            {
                continue;
            }
            if let Some(before) = before {
                draft.want(before, &sorted(before.endpoints.iter().map(|e| e.endpoint)).into());
            }
            if let Some(after) = after {
                draft.want(after, &Arc::default());
            }
        }
        draft.finish(in_force)
    }

    /// The sweep at the start: everything that the service ports in force answer to. What there was before is not known,
    /// so entries to frontends without serving endpoints are left. Nothing is stale if nothing changed meanwhile.
    ///
    /// Only for a complete picture: while endpoints are still being learned it would delete entries to those not yet
    /// known.
    pub fn of_all<'a>(in_force: impl IntoIterator<Item = &'a ServicePort> + Clone, scope: &Arc<NodePortScope>) -> Self {
        let mut draft = Draft::new(scope);
        for service in in_force.clone().into_iter().filter(is_udp) {
            draft.want(service, &Arc::default());
        }
        draft.finish(in_force)
    }

    /// No entry can be stale.
    pub fn is_empty(&self) -> bool {
        !self.checks.values().any(Check::has_effect)
    }

    /// Number of frontends whose entries are to be looked at.
    pub fn len(&self) -> usize {
        self.checks.values().filter(|check| check.has_effect()).count()
    }

    /// The frontends whose entries are to be looked at, of one family, in no order.
    pub(super) fn frontends(&self, family: Family) -> impl Iterator<Item = &Frontend> {
        let wanted = move |(frontend, check): &(&Frontend, &Check)| frontend.family() == family && check.has_effect();
        self.checks.iter().filter(wanted).map(|(frontend, _)| frontend)
    }

    /// The entry is to be deleted.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        match self.checks_of(flow) {
            (None, None) => false,
            (Some(check), None) | (None, Some(check)) => check.is_stale(flow),
            // As in the rules, an address of its own goes before a port of all addresses.
            (Some(own), Some(_)) if own.owned => own.is_stale(flow),
            (Some(withdrawn), Some(node_port)) => {
                node_port.is_stale(flow) || (withdrawn.is_stale(flow) && !node_port.serves(&flow.reply.source))
            }
        }
    }

    /// The part for one family.
    #[must_use]
    pub(super) fn only(mut self, family: Family) -> Cleanup {
        self.checks.retain(|frontend, _| frontend.family() == family);
        self
    }

    /// The entry's frontend is among those that this is about.
    pub fn covers(&self, flow: &Flow) -> bool {
        self.checks_of(flow) != (None, None)
    }

    /// The checks of the entry's destination as an address of its own and as a port of all addresses.
    fn checks_of(&self, flow: &Flow) -> (Option<&Check>, Option<&Check>) {
        if !flow.is(Protocol::Udp) {
            return (None, None);
        }
        let destination = flow.original.destination;
        let node_port = self
            .checks
            .get(&Frontend::NodePort(flow.family, destination.port))
            .filter(|_| self.scope.accepts(&destination.ip));
        (self.checks.get(&Frontend::Address(destination)), node_port)
    }

    /// Adds a newer request. Gives the number of frontends that were dropped to keep the memory bounded: only such as
    /// have no serving endpoints, and only after very many changes without a successful run.
    pub fn merge(&mut self, newer: Cleanup) -> usize {
        if newer.checks.is_empty() {
            return 0;
        }
        self.scope = newer.scope;
        for (frontend, check) in newer.checks {
            self.checks.entry(frontend).or_default().replace_by(check);
        }
        let before = self.checks.len();
        if before > MAX_FRONTENDS {
            self.checks.retain(|_, check| !check.serving.is_empty());
        }
        let dropped = before - self.checks.len();
        if self.is_empty() {
            self.checks.clear();
        }
        dropped
    }
}

/// A cleanup in the making: the frontends are known, who serves them is not yet.
struct Draft<'a> {
    checks: HashMap<Frontend, Check>,
    scope: &'a Arc<NodePortScope>,
}

impl<'a> Draft<'a> {
    fn new(scope: &'a Arc<NodePortScope>) -> Self {
        Draft { checks: HashMap::new(), scope }
    }

    /// Takes the frontends of a service port in.
    fn want(&mut self, service: &ServicePort, former: &Arc<[Endpoint]>) {
        for frontend in Frontend::of(service) {
            let check = self.checks.entry(frontend).or_default();
            check.former = union(&check.former, former);
            if let Some(node_port) = self.node_port_at(frontend) {
                self.checks.entry(node_port).or_default();
            }
        }
    }

    /// The node port that an address and port may be taken for, too.
    fn node_port_at(&self, frontend: Frontend) -> Option<Frontend> {
        match frontend {
            Frontend::Address(Endpoint { ip, port }) if self.scope.accepts(&ip) => {
                Some(Frontend::NodePort(Family::of(&ip), port))
            }
            _ => None,
        }
    }

    /// Finds out who serves the frontends now.
    fn finish<'b>(mut self, in_force: impl IntoIterator<Item = &'b ServicePort>) -> Cleanup {
        if self.checks.is_empty() {
            return Cleanup::default();
        }
        for service in in_force.into_iter().filter(is_udp) {
            self.see(service);
        }
        Cleanup { checks: self.checks, scope: self.scope.clone() }
    }

    /// Notes what a service port in force means for the frontends that are wanted.
    fn see(&mut self, service: &ServicePort) {
        let wanted = |frontend: &Frontend| self.checks.contains_key(frontend);
        if !Frontend::of(service).any(|f| wanted(&f) || self.node_port_at(f).as_ref().is_some_and(wanted)) {
            return;
        }
        let serving: Arc<[Endpoint]> = sorted(serving(service)).into();
        for frontend in Frontend::of(service) {
            // Where it has a node port's number at a node's address, entries of the node port may be left there.
            let node_port = self.node_port_at(frontend).and_then(|node_port| self.checks.get(&node_port));
            if let Some(former) = node_port.map(|node_port| node_port.former.clone()) {
                let check = self.checks.entry(frontend).or_default();
                check.former = union(&check.former, &former);
            }
            if let Some(check) = self.checks.get_mut(&frontend) {
                // Two services can claim one address; flows to the endpoints of either are left alone.
                check.serving = union(&check.serving, &serving);
                check.owned = true;
            }
        }
    }
}

fn is_udp(service: &&ServicePort) -> bool {
    service.key.name.protocol == Protocol::Udp
}

fn serving(service: &ServicePort) -> impl Iterator<Item = Endpoint> + '_ {
    service.endpoints.iter().filter(|e| e.flags.contains(EndpointFlags::SERVING)).map(|e| e.endpoint)
}

/// Sorted, each once.
fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Box<[T]> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items.dedup();
    items.into()
}

/// Everything in either list, sorted. Shares the list where one of them adds nothing.
fn union(a: &Arc<[Endpoint]>, b: &Arc<[Endpoint]>) -> Arc<[Endpoint]> {
    match (a.is_empty(), b.is_empty()) {
        (_, true) => a.clone(),
        (true, _) => b.clone(),
        _ => sorted(a.iter().chain(&**b).copied()).into(),
    }
}
