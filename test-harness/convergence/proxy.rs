//! The pipeline on a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::engine::{
    Action, ApplyFailure, Backend, Engine, Event, IptablesBackend, Moment, Notice, Pacing, RepairMode, Resolved,
    SharedSettings,
};
use weir::kernel::xtables::{ChainKey, Culprit, Scope, Suspicion};
use weir::model::{ServicePort, ServicePortKey, Settings};
use weir::net::{Family, ObjectName};
use weir::plan::Move;
use weir::resolve::{NodeContext, Options, resolve};
use weir::sim::scenario::Fixture;
use weir::state::{State, Update};

use crate::kernel::Shared;
use crate::spy::Spy;

/// What the proxy does to the kernel, for those who keep watch.
pub trait Watch {
    fn applying(&mut self, _moves: &[Move]) {}
    fn repairing(&mut self, _model: &[Arc<ServicePort>]) {}
    /// Some chains only, to be as they were.
    fn repairing_chains(&mut self) {}
    /// It wrote, and says whether that succeeded.
    fn wrote(&mut self, _succeeded: bool) {}
    fn noticed(&mut self, _notice: &Notice) {}
}

/// Nobody watches.
impl Watch for () {}

/// Facts, and what they resolved to last.
#[derive(Default)]
struct Facts {
    state: State,
    resolved: BTreeMap<ObjectName, Vec<ServicePortKey>>,
}

impl Facts {
    fn apply(&mut self, batch: Vec<Update>) -> Resolved {
        let touched = self.state.apply(batch);
        let mut names: BTreeSet<ObjectName> = touched.services;
        if touched.node {
            names.extend(self.state.service_names().chain(self.resolved.keys()).cloned());
        }
        let node = NodeContext::of(&self.state, Fixture::NODE.into());
        let mut out = Resolved::new();
        for name in names {
            let ports = resolve(&self.state, &name, &node, &Options::default());
            let keys: Vec<ServicePortKey> = ports.iter().map(|port| port.key.clone()).collect();
            let before = self.resolved.insert(name, keys.clone()).unwrap_or_default();
            out.extend(before.into_iter().filter(|key| !keys.contains(key)).map(|key| (key, None)));
            out.extend(ports.into_iter().map(|port| (port.key.clone(), Some(port))));
        }
        out
    }
}

/// A proxy process.
pub struct Proxy {
    facts: Facts,
    engine: Engine,
    backend: IptablesBackend<Spy>,
    pub spy: Spy,
    pub now: Moment,
    wake: Option<Moment>,
    /// The outcome of the kernel action in flight, not told yet.
    done: Option<Event>,
    synced: bool,
    pub notices: Vec<Notice>,
}

pub fn shared(settings: Settings) -> SharedSettings {
    Arc::new(Mutex::new(Arc::new(settings)))
}

/// Somebody may have changed anything.
pub fn drift() -> Event {
    Event::DriftSeen(Suspicion::anything())
}

/// Somebody was seen to change these chains.
pub fn drift_of(chains: BTreeSet<ChainKey>) -> Event {
    let by = [Culprit { pid: 4711, name: "iptables".into() }].into();
    Event::DriftSeen(Suspicion { scope: Scope::Chains(chains), by })
}

fn pacing() -> Pacing {
    let mut pacing = Pacing::new(Duration::from_millis(100), Duration::from_secs(30));
    pacing.first_quarantine_retry = Duration::from_secs(5);
    pacing.max_quarantine_retry = Duration::from_secs(40);
    pacing
}

impl Proxy {
    /// Starts without memory over what the kernel holds.
    pub fn start(kernel: &Shared, settings: &SharedSettings, now: Moment) -> Self {
        let spy = Spy::new(kernel);
        Proxy {
            facts: Facts::default(),
            engine: Engine::new(pacing()),
            backend: IptablesBackend::new(spy.clone(), settings.clone(), Family::ALL.to_vec()),
            spy,
            now,
            wake: None,
            done: None,
            synced: false,
            notices: Vec::new(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Takes in a batch of facts.
    pub fn tell(&mut self, batch: Vec<Update>, watch: &mut dyn Watch) {
        let resolved = self.facts.apply(batch);
        self.step(Event::Resolved(resolved), watch);
        if !self.synced && self.facts.state.ready() {
            self.synced = true;
            self.step(Event::Synced, watch);
        }
    }

    pub fn step(&mut self, event: Event, watch: &mut dyn Watch) {
        for action in self.engine.step(event, self.now) {
            self.act(action, watch);
        }
    }

    fn act(&mut self, action: Action, watch: &mut dyn Watch) {
        match action {
            Action::Apply { moves, forget } => {
                if forget {
                    self.backend.forget();
                }
                watch.applying(&moves);
                let result = self.backend.apply(&moves).map_err(|error| {
                    let suspect = self.backend.suspect(&error);
                    ApplyFailure { error, suspect }
                });
                watch.wrote(result.is_ok());
                self.done = Some(Event::ApplyDone(result));
            }
            Action::Repair { model, scope, mode } => {
                let writes = mode == RepairMode::Repair;
                match scope {
                    _ if !writes => {}
                    Scope::All => watch.repairing(&model),
                    Scope::Chains(_) => watch.repairing_chains(),
                }
                let result = self.backend.repair(&model, &scope, mode);
                if writes {
                    watch.wrote(result.is_ok());
                }
                self.done = Some(Event::RepairDone(result));
            }
            Action::WakeAt(at) => self.wake = Some(at),
            Action::Notice(notice) => {
                watch.noticed(&notice);
                self.notices.push(notice);
            }
            Action::Applied(_) => {}
        }
    }

    /// The next thing happens: a kernel action ends, or a wait is over. False if nothing would ever happen.
    pub fn advance(&mut self, watch: &mut dyn Watch) -> bool {
        if let Some(event) = self.done.take() {
            self.now += Duration::from_millis(7);
            self.step(event, watch);
            return true;
        }
        let Some(at) = self.wake.take() else { return false };
        self.now = self.now.max(at);
        self.step(Event::Wake, watch);
        true
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: Duration, watch: &mut dyn Watch) {
        let end = self.now + time;
        while self.done.is_some() || self.wake.is_some_and(|at| at <= end) {
            self.advance(watch);
        }
        self.now = self.now.max(end);
    }
}
