//! Moves of service ports → the difference that they make.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::claim::{self, Claim, Role};
use super::difference::Difference;
use super::drain::{self, Draining, UnixSeconds};
use super::ledger::Ledger;
use super::sets::Set;
use crate::kernel::ipset::Entry;
use crate::kernel::ipvs::{
    ObservedRealServer, RealServer, RealServerChange, VirtualServer, VirtualServerChange, VirtualServerKey,
};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::{Endpoint, Family};
use crate::plan::Move;

/// Who claims a virtual server.
#[derive(Clone, Debug)]
struct Claimant {
    role: Role,
    port: Arc<ServicePort>,
}

impl Claimant {
    /// The order in which claims count: addresses before node ports, then by service port, then by role. The first one
    /// has the virtual server.
    fn rank(&self) -> (bool, &ServicePortKey, Role) {
        (self.role == Role::NodePort, &self.port.key, self.role)
    }
}

/// What the kernel is meant to hold.
#[derive(Clone, Debug)]
pub struct Planner {
    settings: Arc<Settings>,
    families: Vec<Family>,
    /// Nothing is wanted for good.
    retiring: bool,
    /// Who claims which virtual server, by rank. What a claim asks for is planned anew from the service port.
    claims: BTreeMap<VirtualServerKey, Vec<Claimant>>,
    /// Virtual servers that somebody else has made: whoever claims one of them does not get it.
    foreign: BTreeSet<VirtualServerKey>,
    /// How many want each entry of a set and each address.
    ledger: Ledger,
    /// Real servers that keep their connections for a while, by virtual server. A virtual server that nobody claims is
    /// there until the last of them is gone.
    draining: BTreeMap<VirtualServerKey, Draining>,
    /// What `draining` was for the virtual servers that the last moves touched.
    undo: Vec<(VirtualServerKey, Option<Draining>)>,
}

impl Planner {
    /// A planner without services. Claims to `foreign` virtual servers come to nothing.
    pub fn new(settings: Arc<Settings>, families: &[Family], foreign: BTreeSet<VirtualServerKey>) -> Self {
        Planner {
            settings,
            families: families.to_vec(),
            retiring: false,
            claims: BTreeMap::new(),
            foreign,
            ledger: Ledger::default(),
            draining: BTreeMap::new(),
            undo: Vec::new(),
        }
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The changes that these moves make, and nothing else. The planner has moved on when this returns; if the kernel
    /// refuses, [`Planner::revert`] moves it back.
    pub fn replan(&mut self, moves: &[Move], now: UnixSeconds) -> Difference {
        let mut difference = Difference::default();
        self.undo.clear();
        for (key, (before, after)) in self.advance(moves) {
            self.undo.push((key, self.draining.get(&key).cloned()));
            let change = self.switch(key, before.as_ref(), after.as_ref(), now);
            if !change.is_nothing() {
                difference.servers.servers.insert(key, change);
            }
        }
        self.ledger.drain_into(&mut difference);
        difference
    }

    /// Takes moves back that were not made: those of the last [`Planner::replan`].
    pub fn revert(&mut self, moves: &[Move]) {
        let inverse: Vec<Move> =
            moves.iter().map(|m| Move { before: m.after.clone(), after: m.before.clone() }).collect();
        self.advance(&inverse);
        for (key, draining) in std::mem::take(&mut self.undo) {
            self.set_draining(key, draining);
        }
        self.ledger.forget_changes();
    }

    /// Takes service ports over as they are, without asking what that changes, and visits what is wanted of each virtual
    /// server in the order of the keys. For an empty planner.
    pub fn adopt(&mut self, model: &[Arc<ServicePort>], visit: &mut dyn FnMut(VirtualServerKey, Claim)) {
        self.ledger.be_quiet(true);
        model.iter().for_each(|port| self.claim(port));
        let keys: Vec<VirtualServerKey> = self.claims.keys().copied().collect();
        for key in keys {
            if let Some(claim) = self.winner(key) {
                self.count_claim(key, None, Some(&claim));
                visit(key, claim);
            }
        }
        self.ledger.be_quiet(false);
    }

    /// These schedulers are not to be had. No service port that was planned before asks for one that is new here.
    pub fn learn_missing(&mut self, missing: &BTreeSet<Arc<str>>) {
        if self.settings.ipvs.missing_schedulers != *missing {
            Arc::make_mut(&mut self.settings).ipvs.missing_schedulers.clone_from(missing);
        }
    }

    /// From now on sets and the device are there only as long as something drains.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
    }

    pub fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// The service port that has a virtual server.
    pub fn owner(&self, key: &VirtualServerKey) -> Option<&ServicePortKey> {
        self.claims.get(key)?.first().map(|claimant| &claimant.port.key)
    }

    /// Service ports that claim a virtual server which somebody else has made.
    pub fn denied(&self) -> impl Iterator<Item = (&VirtualServerKey, &ServicePortKey)> {
        self.foreign.iter().filter_map(|key| Some((key, self.owner(key)?)))
    }

    /// Whether a virtual server is known to be ours: wanted, or there for its last connections.
    pub fn knows(&self, key: &VirtualServerKey) -> bool {
        (self.claims.contains_key(key) && !self.foreign.contains(key)) || self.draining.contains_key(key)
    }

    /// What is wanted of each virtual server.
    pub fn wanted(&self) -> impl Iterator<Item = (VirtualServerKey, Claim)> + '_ {
        self.claims.keys().filter_map(|key| Some((*key, self.winner(*key)?)))
    }

    /// How many service ports ask for a scheduler that is not to be had.
    pub fn substituted(&self) -> usize {
        let missing = &self.settings.ipvs.missing_schedulers;
        if missing.is_empty() {
            return 0;
        }
        let is_missing = |port: &ServicePort| {
            port.tuning.as_ref().and_then(|t| t.scheduler.as_ref()).is_some_and(|name| missing.contains(name))
        };
        let claimants = self.claims.values().flatten().filter(|claimant| is_missing(&claimant.port));
        claimants.map(|claimant| &claimant.port.key).collect::<BTreeSet<_>>().len()
    }

    /// How many virtual servers there are.
    pub fn count(&self) -> usize {
        self.claims.len()
    }

    /// What is in the ledger now is what there is.
    pub(super) fn settle(&mut self) {
        self.ledger.forget_changes();
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Virtual servers with real servers that drain.
    pub fn draining(&self) -> &BTreeMap<VirtualServerKey, Draining> {
        &self.draining
    }

    /// How many real servers drain.
    pub fn draining_count(&self) -> usize {
        self.draining.values().map(|draining| draining.real_servers.len()).sum()
    }

    /// Takes note of what drains at a virtual server, or that nothing does.
    pub(super) fn set_draining(&mut self, key: VirtualServerKey, draining: Option<Draining>) {
        let is_claimed = self.winner_of(key).is_some();
        let held = |draining: Option<&Draining>| draining.filter(|_| !is_claimed).map(|d| d.bind);
        let (before, after) = (held(self.draining.get(&key)), held(draining.as_ref()));
        self.hold(key, before, after);
        match draining {
            Some(draining) => self.draining.insert(key, draining),
            None => self.draining.remove(&key),
        };
    }

    /// What is due by time alone: a real server that drains goes when it has no connection left, or at its deadline, and
    /// a virtual server that nobody claims with the last of them.
    ///
    /// `observed` is what the kernel holds of this virtual server; `None` if it is not there.
    pub fn tend(
        &mut self,
        key: &VirtualServerKey,
        observed: Option<&BTreeMap<Endpoint, ObservedRealServer>>,
        now: UnixSeconds,
    ) -> Difference {
        let mut difference = Difference::default();
        let Some(mut draining) = self.draining.get(key).cloned() else { return difference };
        let mut gone = BTreeMap::new();
        draining.real_servers.retain(|endpoint, deadline| {
            let Some(held) = observed.and_then(|servers| servers.get(endpoint)) else { return false };
            let stays = held.connections() > 0 && now < *deadline;
            if !stays {
                gone.insert(*endpoint, RealServerChange { before: Some(held.server), after: None });
            }
            stays
        });
        let stays = self.winner_of(*key).is_some() || !draining.real_servers.is_empty();
        let server = Some(draining.server.clone());
        let change = VirtualServerChange {
            before: if stays || observed.is_some() { server.clone() } else { None },
            after: if stays { server } else { None },
            real_servers: gone,
        };
        self.set_draining(*key, Some(draining).filter(|draining| !draining.real_servers.is_empty()));
        if !change.is_nothing() {
            difference.servers.servers.insert(*key, change);
        }
        self.ledger.drain_into(&mut difference);
        difference
    }
}

/// Claims and their counts.
impl Planner {
    /// Moves the claims; tells what each virtual server was and is that was touched. The ledger has moved on then.
    fn advance(&mut self, moves: &[Move]) -> Touched {
        let mut touched = Touched::new();
        for port in moves.iter().flat_map(|m| [&m.before, &m.after]).flatten() {
            for (key, _) in claim::frontends(port, &self.settings) {
                if let Slot::Vacant(slot) = touched.entry(key) {
                    slot.insert((self.winner(key), None));
                }
            }
        }
        for m in moves {
            if let Some(port) = &m.before {
                self.unclaim(port);
            }
            if let Some(port) = &m.after {
                self.claim(port);
            }
        }
        for (key, (before, after)) in &mut touched {
            *after = self.winner(*key);
            self.count_claim(*key, before.as_ref(), after.as_ref());
        }
        touched
    }

    fn winner_of(&self, key: VirtualServerKey) -> Option<&Claimant> {
        self.claims.get(&key)?.first().filter(|_| !self.foreign.contains(&key))
    }

    fn winner(&self, key: VirtualServerKey) -> Option<Claim> {
        let Claimant { role, port } = self.winner_of(key)?;
        Some(claim::claim(port, &self.settings, key, *role))
    }

    fn claim(&mut self, port: &Arc<ServicePort>) {
        for (key, role) in claim::frontends(port, &self.settings) {
            let claimants = self.claims.entry(key).or_default();
            let new = Claimant { role, port: port.clone() };
            let place = claimants.partition_point(|claimant| claimant.rank() < new.rank());
            claimants.insert(place, new);
        }
        for (set, entry) in claim::own_entries(port) {
            self.ledger.add_entry(port.family(), set, entry);
        }
    }

    fn unclaim(&mut self, port: &Arc<ServicePort>) {
        for (key, role) in claim::frontends(port, &self.settings) {
            if let Slot::Occupied(mut claimants) = self.claims.entry(key) {
                claimants.get_mut().retain(|claimant| claimant.role != role || claimant.port.key != port.key);
                if claimants.get().is_empty() {
                    claimants.remove();
                }
            }
        }
        for (set, entry) in claim::own_entries(port) {
            self.ledger.remove_entry(port.family(), set, entry);
        }
    }

    /// Entries and the address of one virtual server, as its owner had and has them.
    fn count_claim(&mut self, key: VirtualServerKey, before: Option<&Claim>, after: Option<&Claim>) {
        let family = key.family();
        let held = self.draining.get(&key).map(|draining| draining.bind);
        self.hold(key, held.filter(|_| before.is_none()), held.filter(|_| after.is_none()));
        let (old, new) = (before.map(|claim| &claim.entries), after.map(|claim| &claim.entries));
        if old != new {
            new.into_iter().flatten().for_each(|(set, entry)| self.ledger.add_entry(family, *set, *entry));
            old.into_iter().flatten().for_each(|(set, entry)| self.ledger.remove_entry(family, *set, *entry));
        }
        match (before.is_some_and(|claim| claim.bind), after.is_some_and(|claim| claim.bind)) {
            (false, true) => self.ledger.bind(key.address),
            (true, false) => self.ledger.unbind(key.address),
            _ => {}
        }
    }

    /// A virtual server that nobody claims keeps its record, and its address if that is on the device, while it drains.
    /// `Some(bind)` where it is held.
    fn hold(&mut self, key: VirtualServerKey, before: Option<bool>, after: Option<bool>) {
        let record = Entry::IpPort(key.address, key.protocol, key.port);
        if after.is_some() {
            self.ledger.add_entry(key.family(), Set::VirtualServers, record);
        }
        if after == Some(true) {
            self.ledger.bind(key.address);
        }
        if before.is_some() {
            self.ledger.remove_entry(key.family(), Set::VirtualServers, record);
        }
        if before == Some(true) {
            self.ledger.unbind(key.address);
        }
    }

    /// From one claim to another. Real servers that are no longer wanted begin to drain.
    fn switch(
        &mut self,
        key: VirtualServerKey,
        before: Option<&Claim>,
        after: Option<&Claim>,
        now: UnixSeconds,
    ) -> VirtualServerChange {
        let mut draining = self.draining.get(&key).map(|known| known.real_servers.clone()).unwrap_or_default();
        let real_servers = switch_real_servers(&key, before, after, now, &mut draining);
        let known = before.map(|claim| (&claim.server, claim.bind));
        let known = known.or_else(|| self.draining.get(&key).map(|known| (&known.server, known.bind)));
        let next = after.map(|claim| (&claim.server, claim.bind)).or(known.filter(|_| !draining.is_empty()));
        let server = |of: Option<(&VirtualServer, bool)>| of.map(|(server, _)| server.clone());
        let change = VirtualServerChange { before: server(known), after: server(next), real_servers };
        let left = next.filter(|_| !draining.is_empty());
        let left = left.map(|(server, bind)| Draining { server: server.clone(), bind, real_servers: draining });
        self.set_draining(key, left);
        change
    }
}

/// A virtual server before and after.
type Touched = BTreeMap<VirtualServerKey, (Option<Claim>, Option<Claim>)>;

/// The real servers' part of a switch. `draining` is what drains, before and after.
fn switch_real_servers(
    key: &VirtualServerKey,
    before: Option<&Claim>,
    after: Option<&Claim>,
    now: UnixSeconds,
    draining: &mut BTreeMap<Endpoint, UnixSeconds>,
) -> BTreeMap<Endpoint, RealServerChange> {
    let mut changes = BTreeMap::new();
    let mut note = |endpoint: &Endpoint, before: Option<RealServer>, after: Option<RealServer>| {
        if before != after {
            changes.insert(*endpoint, RealServerChange { before, after });
        }
    };
    for (endpoint, server) in after.iter().flat_map(|claim| &claim.real_servers) {
        let was = before.and_then(|claim| claim.real_servers.get(endpoint)).copied();
        // One that came back gets its weight back at once.
        let drained = draining.remove(endpoint).map(drain::drained);
        note(endpoint, was.or(drained), Some(*server));
    }
    if let Some(claim) = before {
        for (endpoint, server) in &claim.real_servers {
            if after.is_some_and(|after| after.real_servers.contains_key(endpoint)) {
                continue;
            }
            let can_drain = drain::can_drain(key.protocol) && claim.drain_seconds > 0;
            let until = can_drain.then(|| drain::deadline(now, claim.drain_seconds));
            draining.extend(until.map(|until| (*endpoint, until)));
            note(endpoint, Some(*server), until.map(drain::drained));
        }
    }
    if after.is_some_and(|after| !drain::passes_over(&after.server.scheduler)) {
        for (endpoint, until) in std::mem::take(draining) {
            let before = Some(drain::drained(until));
            changes.entry(endpoint).or_insert(RealServerChange { before, after: None }).after = None;
        }
    }
    changes
}
