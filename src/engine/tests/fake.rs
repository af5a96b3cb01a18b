//! A backend over a map of fragments: it refuses poison, fails as told, and can be damaged.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A fragment with this health check node port is refused, always.
pub(super) const POISON: u16 = 6666;

type Map = BTreeMap<ServicePortKey, Arc<ServicePort>>;

/// A fault for the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Apply(ApplyErrorKind),
    Observe,
}

/// The kernel, and the planner in front of it.
#[derive(Default)]
pub(super) struct Fake {
    /// What the kernel holds.
    pub(super) kernel: Map,
    pub(super) base: bool,
    /// What the planner remembers.
    pub(super) remembered: Map,
    pub(super) base_remembered: bool,
    pub(super) fault: Option<Fault>,
    /// How much of a failing change comes into force nevertheless, in percent.
    pub(super) partial: usize,
    pub(super) base_is_poison: bool,
    /// Leftovers that the kernel does not let go of: a compare that would remove one is refused.
    pub(super) stuck: BTreeSet<ServicePortKey>,
    /// Says who was at fault.
    pub(super) hints: bool,
    /// An apply failed since it was last known what the kernel holds.
    pub(super) doubt: bool,
    pub(super) applies: Vec<Vec<ServicePortKey>>,
    /// Full compares, and partial ones that became full.
    pub(super) compares: usize,
    /// What partial compares were about.
    pub(super) partials: Vec<BTreeSet<ChainKey>>,
}

impl Fake {
    pub(super) fn versions(&self) -> BTreeMap<usize, u32> {
        let number = |key: &ServicePortKey| key.name.service.name.trim_start_matches("svc-").parse().unwrap();
        self.kernel.iter().map(|(key, value)| (number(key), version(value))).collect()
    }

    fn write(&mut self, moves: &[Move]) {
        for step in moves {
            match &step.after {
                Some(after) => self.kernel.insert(after.key.clone(), after.clone()),
                None => self.kernel.remove(&key_of(step)),
            };
        }
    }

    fn refuses(moves: &[Move]) -> Option<usize> {
        moves.iter().position(|step| step.after.as_ref().is_some_and(|after| after.health_check_node_port == POISON))
    }

    /// The first thing that goes wrong with a change, and how many of its moves come into force before that.
    fn trouble(&mut self, moves: &[Move], base: bool) -> Option<(usize, ApplyError)> {
        let bad = Self::refuses(moves);
        let partial = (moves.len() * self.partial / 100).min(bad.unwrap_or(moves.len()));
        if let Some(Fault::Apply(kind)) = self.fault {
            self.fault = None;
            return Some((partial, error(kind, "a fault")));
        }
        if base && self.base_is_poison {
            return Some((0, error(ApplyErrorKind::Refused, "the base is refused")));
        }
        let bad = bad?;
        Some((partial, error(ApplyErrorKind::Refused, &format!("refused: {}", key_of(&moves[bad]).name))))
    }
}

pub(super) fn key_of(step: &Move) -> ServicePortKey {
    step.after.as_ref().or(step.before.as_ref()).expect("a side").key.clone()
}

/// The only chain of a fragment.
pub(super) fn chain(key: &ServicePortKey) -> ChainKey {
    ChainKey { family: key.family, table: Table::Nat, name: ChainName::new(&*key.name.service.name) }
}

impl Backend for Fake {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        self.applies.push(moves.iter().map(key_of).collect());
        for step in moves {
            assert_ne!(step.before, step.after, "a move that moves nothing");
            assert_eq!(step.before.as_ref(), self.remembered.get(&key_of(step)), "the engine's books are wrong");
        }
        if let Some((written, error)) = self.trouble(moves, !self.base_remembered) {
            self.write(&moves[..written]);
            self.doubt |= !moves.is_empty();
            return Err(error);
        }
        self.write(moves);
        self.doubt = false;
        for step in moves {
            match &step.after {
                Some(after) => self.remembered.insert(after.key.clone(), after.clone()),
                None => self.remembered.remove(&key_of(step)),
            };
        }
        if !self.base_remembered {
            self.base = true;
            self.base_remembered = true;
        }
        Ok(())
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError> {
        let chains = match scope {
            Scope::Chains(chains) if self.base_remembered && !self.doubt => Some(chains),
            Scope::Chains(_) | Scope::All => None,
        };
        match chains {
            Some(chains) => self.partials.push(chains.clone()),
            None => self.compares += 1,
        }
        if self.fault == Some(Fault::Observe) {
            self.fault = None;
            return Err(ObserveError { message: "cannot list".into() }.into());
        }
        let model: Map = model.iter().map(|value| (value.key.clone(), value.clone())).collect();
        assert!(chains.is_none() || model == self.remembered, "a partial compare with something new");
        let is_asked = |key: &ServicePortKey| chains.is_none_or(|chains| chains.contains(&chain(key)));
        let keys: BTreeSet<_> = model.keys().chain(self.kernel.keys()).filter(|key| is_asked(key)).cloned().collect();
        let moves: Vec<_> = keys
            .iter()
            .map(|key| Move { before: self.kernel.get(key).cloned(), after: model.get(key).cloned() })
            .filter(|step| step.before != step.after)
            .collect();
        if mode == RepairMode::Repair {
            if let Some((written, error)) = self.trouble(&moves, chains.is_none() && !self.base) {
                self.write(&moves[..written]);
                return Err(error.into());
            }
            if moves.iter().any(|step| step.after.is_none() && self.stuck.contains(&key_of(step))) {
                return Err(error(ApplyErrorKind::Refused, "a leftover is in use").into());
            }
            self.write(&moves);
            if chains.is_none() {
                assert_eq!(self.kernel, model);
                self.base = true;
                self.remembered = model;
                self.base_remembered = true;
                self.doubt = false;
            }
        }
        Ok(report(&moves))
    }

    fn forget(&mut self) {
        self.remembered.clear();
        self.base_remembered = false;
        self.doubt = false;
    }

    fn suspect(&self, error: &ApplyError) -> Option<ServicePortKey> {
        let name = error.message.strip_prefix("refused: ").filter(|_| self.hints)?;
        Some(key(name.trim_start_matches("ns/svc-").parse().unwrap()))
    }
}

fn report(moves: &[Move]) -> Repair {
    let mut repair = Repair::default();
    for step in moves {
        let key = key_of(step);
        let kind = match (&step.before, &step.after) {
            (None, _) => "fragment missing",
            (_, None) => "fragment extra",
            _ => "fragment changed",
        };
        *repair.differences.entry(DifferenceKind { family: key.family, table: "fake", kind }).or_default() += 1;
        repair.lines.push(format!("{kind}: {}", key.name));
    }
    repair
}

/// An engine before a fake, on a clock that jumps from event to event. Kernel actions take no time.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) fake: Fake,
    pub(super) now: Moment,
    pub(super) wake: Option<Moment>,
    pub(super) notices: Vec<(Moment, Notice)>,
    pub(super) applied: Vec<Move>,
    /// When kernel actions began.
    pub(super) began: Vec<Moment>,
    /// How long each takes. Meanwhile nothing else happens.
    pub(super) cost: Duration,
}

impl Bench {
    pub(super) fn new(pacing: Pacing) -> Self {
        Bench {
            engine: Engine::new(pacing),
            fake: Fake::default(),
            now: s(1),
            wake: None,
            notices: Vec::new(),
            applied: Vec::new(),
            began: Vec::new(),
            cost: Duration::ZERO,
        }
    }

    /// With a first compare of fragments `0..fragments`, version 1.
    pub(super) fn started(pacing: Pacing, fragments: usize) -> Self {
        let mut bench = Bench::new(pacing);
        bench.send(put((0..fragments).map(|n| value(n, 1))));
        bench.send(Event::Synced);
        assert_eq!(bench.fake.kernel.len(), fragments);
        bench.pass(s(2));
        bench.notices.clear();
        bench.applied.clear();
        bench.began.clear();
        bench
    }

    /// Sends an event and does what is asked for until the engine is idle.
    pub(super) fn send(&mut self, event: Event) {
        let mut event = Some(event);
        while let Some(next) = event.take() {
            for action in self.engine.step(next, self.now) {
                match action {
                    Action::Apply { moves, forget } => {
                        self.began.push(self.now);
                        event = Some(self.apply(&moves, forget));
                        self.now += self.cost;
                    }
                    Action::Repair { model, scope, mode } => {
                        self.began.push(self.now);
                        event = Some(Event::RepairDone(self.fake.repair(&model, &scope, mode)));
                        self.now += self.cost;
                    }
                    Action::WakeAt(at) => self.wake = Some(at),
                    Action::Applied(moves) => self.applied.extend(moves),
                    Action::Notice(notice) => self.notices.push((self.now, notice)),
                }
            }
        }
    }

    fn apply(&mut self, moves: &[Move], forget: bool) -> Event {
        if forget {
            self.fake.forget();
        }
        Event::ApplyDone(self.fake.apply(moves).map_err(|error| {
            let suspect = self.fake.suspect(&error);
            ApplyFailure { error, suspect }
        }))
    }

    /// Lets time pass, with every wake-up in it.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wake.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake = None;
            self.send(Event::Wake);
        }
        self.now = end;
    }

    /// The notices that a predicate picks, so far.
    pub(super) fn count(&self, pick: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|(_, notice)| pick(notice)).count()
    }

    pub(super) fn quarantined(&self) -> Vec<ServicePortKey> {
        self.engine.status().quarantined.into_iter().map(|entry| entry.key).collect()
    }

    pub(super) fn healthy(&self) -> bool {
        Family::ALL.iter().all(|family| self.engine.status().health(*family, self.now).is_ok())
    }
}
