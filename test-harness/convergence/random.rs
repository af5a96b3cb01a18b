//! Random histories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir::engine::{Event, SharedSettings};
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{Table, Target};
use weir::model::{LocalDetector, ServicePort, Settings};
use weir::net::{Family, PerFamily};
use weir::sim::scenario::Fixture;
use weir::sim::{Faults, SimKernel};
use weir::state::{Fact, FactKey, Kind, Update};

use crate::cluster::{Case, Cluster, Entry, Random, seeds};
use crate::kernel::{self, Shared, lock};
use crate::promise::Promise;
use crate::proxy::{Proxy, drift, drift_of, shared};

const CASES: u64 = 40;
const EVENTS: usize = 40;
/// Numbers of services.
const SERVICES: usize = 18;
/// The kernel refuses DNAT to this port.
const POISON: u16 = 6_666;

/// One in ten writes fails.
fn faults(seed: u64) -> Faults {
    Faults { seed, busy: 0.04, refused: 0.03, partial: 0.03 }
}

fn settings() -> Settings {
    Settings {
        detector: PerFamily::new(|family| LocalDetector::Cidr(Fixture::pod_network(family))),
        node_ips: PerFamily { v4: Some([192, 168, 0, 2].into()), v6: None },
        ..Settings::default()
    }
}

/// Everything that takes part in a history.
struct History {
    random: Random,
    cluster: Cluster,
    kernel: Shared,
    settings: SharedSettings,
    proxy: Proxy,
    promise: Promise,
    /// Batches that the source has not told yet.
    waiting: Vec<Vec<Update>>,
}

/// Whatever happened on the way, in the end the kernel holds what the last facts ask for, and nobody else lost
/// anything.
#[test]
fn any_history_converges() {
    let mut packets = 0;
    for seed in seeds(CASES) {
        let _case = Case(seed);
        let mut history = History::begin(seed, true);
        for _ in 0..EVENTS {
            history.event();
        }
        history.settle();
        history.assert_settled(true);
        // The kernel takes everything from now on: nobody stays behind.
        lock(&history.kernel).refuse_none();
        history.calm_down();
        history.assert_settled(false);
        packets += history.promise.packets;
    }
    println!("{packets} packets met what was promised");
    assert!(std::env::var_os("WEIR_SEED").is_some() || packets > 5_000, "{packets}");
}

/// The same facts by different ways, without faults: the same kernel, to the byte.
#[test]
fn the_way_does_not_matter() {
    for seed in seeds(25) {
        let _case = Case(seed);
        let mut history = History::begin(seed, false);
        for _ in 0..EVENTS {
            history.facts_event();
        }
        history.settle();
        let kernel = SimKernel::new(Variant::Legacy);
        let straight: Shared = Arc::new(std::sync::Mutex::new(kernel));
        let mut proxy = Proxy::start(&straight, &history.settings, Duration::ZERO);
        proxy.tell(history.cluster.lists(), &mut ());
        proxy.pass(Duration::from_secs(1), &mut ());
        assert_eq!(kernel::all(&history.kernel), kernel::all(&straight), "WEIR_SEED={seed}");
    }
}

impl History {
    fn begin(seed: u64, hostile: bool) -> Self {
        let mut random = Random::new(seed);
        let mut kernel = SimKernel::new(*random.pick(&Variant::ALL));
        if hostile {
            kernel.set_faults(faults(seed));
            kernel.refuse_if(|rule| matches!(rule.target, Some(Target::Dnat(to)) if to.port == POISON));
        }
        let kernel: Shared = Arc::new(std::sync::Mutex::new(kernel));
        let settings = shared(settings());
        let now = Arc::clone(&settings.lock().unwrap());
        let promise = Promise::new(seed, &kernel, now);
        let proxy = Proxy::start(&kernel, &settings, Duration::ZERO);
        let mut cluster = Cluster::empty(&mut random);
        cluster.most_endpoints = 40;
        (0..SERVICES / 2).for_each(|i| cluster.put(&mut random, i));
        let mut history = History { random, cluster, kernel, settings, proxy, promise, waiting: Vec::new() };
        history.relist();
        history.tell();
        history
    }

    fn event(&mut self) {
        match self.random.below(100) {
            0..62 => self.facts_event(),
            62..68 => self.poison(),
            68..80 => self.damage(),
            80..84 => self.restart(),
            84..88 => self.change_settings(),
            _ => self.elapse(40_000),
        }
        if self.random.chance(60) {
            self.elapse(400);
        }
    }

    /// Something changes in the cluster, or the source tells of a change that happened before.
    fn facts_event(&mut self) {
        let before = self.cluster.clone();
        for _ in 0..1 + self.random.below(4) {
            let i = self.random.below(SERVICES);
            match self.random.below(10) {
                0..2 => self.cluster.remove(i),
                2..6 => self.cluster.put_endpoints(&mut self.random, i),
                _ => self.cluster.put(&mut self.random, i),
            }
        }
        if self.random.chance(5) {
            self.cluster.zone = *self.random.pick(&[Some("a"), Some("b")]);
        }
        self.queue_difference(&before);
        if self.random.chance(8) {
            // The watch broke: a list tells everything, and what was waiting is never told.
            self.relist();
        }
        while !self.waiting.is_empty() && self.random.chance(75) {
            self.tell();
            self.elapse(5);
        }
    }

    /// The updates between two clusters: some twice, split over batches, objects in any order.
    fn queue_difference(&mut self, before: &Cluster) {
        let mut updates = difference(before, &self.cluster);
        self.random.shuffle(&mut updates);
        let mut batch = Vec::new();
        for update in updates {
            if self.random.chance(15) {
                batch.push(update.clone());
            }
            batch.push(update);
            if self.random.chance(30) {
                self.waiting.push(std::mem::take(&mut batch));
            }
        }
        self.waiting.push(batch);
    }

    fn relist(&mut self) {
        let mut lists = self.cluster.lists();
        self.random.shuffle(&mut lists);
        self.waiting = vec![lists];
    }

    fn tell(&mut self) {
        if !self.waiting.is_empty() {
            let batch = self.waiting.remove(0);
            self.proxy.tell(batch, &mut self.promise);
        }
    }

    /// A service gets endpoints that the kernel refuses.
    fn poison(&mut self) {
        let before = self.cluster.clone();
        let names: Vec<_> = self.cluster.entries.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        if let Some(entry) = self.cluster.entries.get_mut(self.random.pick(&names)) {
            let ports = entry.slices.iter_mut().flat_map(|slice| slice.ports.iter_mut());
            ports.for_each(|port| port.port = POISON);
        }
        self.queue_difference(&before);
    }

    /// Somebody else writes to our tables.
    fn damage(&mut self) {
        let family = *self.random.pick(&Family::ALL);
        let table = *self.random.pick(&[Table::Nat, Table::Nat, Table::Filter, Table::Mangle]);
        let kind = self.random.below(6);
        let before = kernel::all(&self.kernel);
        let chains: Vec<_> = before.clone().into_iter().filter(|(key, _)| key.family == family).collect();
        let ours: Vec<_> = kernel::ours(&self.kernel).into_iter().filter(|(key, _)| key.family == family).collect();
        let mut kernel = lock(&self.kernel);
        match kind {
            0 => kernel.flush_table(family, table),
            1 if !ours.is_empty() => {
                let (key, _) = self.random.pick(&ours);
                kernel.remove_chain(family, key.table, key.name.as_str());
            }
            2 if !chains.is_empty() => {
                let (key, rules) = self.random.pick(&chains);
                kernel.remove_rule(family, key.table, key.name.as_str(), self.random.below(rules.len().max(1)));
            }
            3 if !ours.is_empty() => {
                let (key, _) = self.random.pick(&ours);
                let text =
                    format!("*{}\n-I {} -p tcp -j ACCEPT\n-A {1} -m bpf --bytecode x\nCOMMIT\n", key.table, key.name);
                kernel.edit(family, &text).unwrap();
            }
            _ => {
                let n = self.random.below(1_000);
                let text = format!(
                    "*filter\n:ADMIN-{n} - [0:0]\n-A ADMIN-{n} -p udp -m udp --dport 7 -j DROP\n-I INPUT -j ADMIN-{n}\nCOMMIT\n"
                );
                kernel.edit(family, &text).unwrap();
            }
        }
        drop(kernel);
        self.promise.disturbed();
        match self.random.below(100) {
            0..20 => self.proxy.step(drift(), &mut self.promise),
            20..60 => {
                let changed = kernel::difference(&before, &kernel::all(&self.kernel));
                self.proxy.step(drift_of(changed), &mut self.promise);
            }
            _ => {}
        }
    }

    /// A new process over the same kernel.
    fn restart(&mut self) {
        self.promise.note("restart".to_owned());
        self.proxy = Proxy::start(&self.kernel, &self.settings, self.proxy.now);
        self.relist();
        self.tell();
    }

    fn change_settings(&mut self) {
        let mut new = settings();
        new.masquerade_all = self.random.chance(50);
        new.random_fully = self.random.chance(50);
        new.localhost_node_ports = self.random.chance(50);
        let new = Arc::new(new);
        *self.settings.lock().unwrap() = new.clone();
        self.promise.settings_changed(new);
        self.proxy.step(Event::BaseChanged, &mut self.promise);
    }

    fn elapse(&mut self, most_millis: usize) {
        let time = Duration::from_millis(1 + self.random.below(most_millis) as u64);
        self.proxy.pass(time, &mut self.promise);
    }

    /// Faults stop, the source tells the rest, and time passes.
    fn settle(&mut self) {
        lock(&self.kernel).set_faults(Faults::default());
        while !self.waiting.is_empty() {
            self.tell();
        }
        self.calm_down();
    }

    /// Time passes until a compare has put right what attempts to leave quarantine left behind.
    fn calm_down(&mut self) {
        self.proxy.pass(Duration::from_secs(200), &mut self.promise);
        for _ in 0..100 {
            if self.proxy.engine().status().unsure_since.is_none() {
                return;
            }
            self.proxy.pass(Duration::from_secs(1), &mut self.promise);
        }
        panic!("WEIR_SEED={}: it never comes to rest\n{}", self.promise.seed, self.promise.log());
    }

    /// The kernel holds the model of the facts, but for poisoned service ports, which are as they were last accepted.
    fn assert_settled(&self, with_poison: bool) {
        let seed = self.promise.seed;
        let mut expected: BTreeMap<_, _> =
            self.cluster.model().into_iter().map(|port| (port.key.clone(), port)).collect();
        let quarantined: Vec<_> = self.proxy.engine().status().quarantined.into_iter().map(|entry| entry.key).collect();
        for (key, port) in expected.clone().iter().filter(|_| with_poison) {
            assert_eq!(is_poisoned(port), quarantined.contains(key), "WEIR_SEED={seed}: {}", key.name);
            if !is_poisoned(port) {
                continue;
            }
            match self.promise.accepted(key) {
                Some(last) => drop(expected.insert(key.clone(), last)),
                None => drop(expected.remove(key)),
            }
        }
        assert!(with_poison || quarantined.is_empty(), "WEIR_SEED={seed}: {quarantined:?}");
        let model: Vec<_> = expected.into_values().collect();
        let settings = self.settings.lock().unwrap().clone();
        kernel::assert_holds(&self.kernel, &settings, &model, &format!("{}\nWEIR_SEED={seed}", self.promise.log()));
    }
}

fn is_poisoned(port: &ServicePort) -> bool {
    port.reachable_endpoints().any(|endpoint| endpoint.port == POISON)
}

/// One update for each object that differs.
fn difference(before: &Cluster, after: &Cluster) -> Vec<Update> {
    let objects = |entry: &Entry| -> BTreeMap<FactKey, Fact> {
        let slices = entry.slices.iter().cloned().map(Fact::EndpointSlice);
        slices.chain([Fact::Service(entry.service.clone())]).map(|fact| (fact.key(), fact)).collect()
    };
    let all = |cluster: &Cluster| -> BTreeMap<FactKey, Fact> { cluster.entries.values().flat_map(objects).collect() };
    let (old, mut new) = (all(before), all(after));
    if before.zone != after.zone {
        let node = Fact::Node(after.node());
        new.insert(node.key(), node);
    }
    let gone = old.keys().filter(|key| !new.contains_key(*key)).cloned().map(Update::Delete);
    let changed =
        new.iter().filter(|(key, fact)| old.get(*key) != Some(*fact)).map(|(_, fact)| Update::Upsert(fact.clone()));
    let mut updates: Vec<Update> = gone.chain(changed).collect();
    if updates.is_empty() {
        // A resync tells what is known.
        updates.extend(new.into_values().take(3).map(Update::Upsert));
    }
    debug_assert!(updates.iter().all(|update| !matches!(update, Update::Replace { kind: Kind::Node, .. })));
    updates
}
