//! The metrics of a proxy: fed by hooks while it works, completed at a scrape by what its parts tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::family::{Description, Family, Labels, Stability, Value};
use super::instruments::{Counter, Histogram, PROGRAMMING, Timestamp, WORK};
use super::readings::Readings;
use super::requests::Requests;
use super::text::{Format, write};
use super::{kube, own, process};
use crate::engine::{Finished, Handle, Status, Task};
use crate::model::{ServicePort, ServicePortKey};
use crate::net::{Family as IpFamily, PerFamily};
use crate::serve::health::Probe;
use crate::state::TrafficPolicy;

/// Where the clock of the engine and the system's are further apart than this, the system's was set.
const CLOCK_WAS_SET: f64 = 0.5;

/// Which of kube-proxy's modes; some metrics are of one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    Iptables,
    Ipvs,
}

/// What does not change while a configuration is in force. The default serves no family.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub mode: Mode,
    /// The families that are served.
    pub families: Vec<IpFamily>,
    /// weir's version.
    pub version: String,
    /// Gates that are known, as the configuration has them.
    pub features: Vec<Feature>,
    /// Fed by whoever sends requests to the API server.
    pub requests: Requests,
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    /// `ALPHA`, `BETA`, empty for what is generally available, `DEPRECATED`.
    pub stage: &'static str,
    pub enabled: bool,
}

/// What became of a changed configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reload {
    Applied,
    /// It was bad; the old one stays in force.
    Rejected,
}

/// All metrics. Hooks take `&self` and are cheap; they may be called from any thread, before and after everything.
pub struct Metrics {
    node: RwLock<Node>,
    /// When the engine's clock began, by the system's clock.
    origin: AtomicU64,
    synced_at: PerFamily<Timestamp>,
    syncs: PerFamily<Syncs>,
    programming: PerFamily<Histogram>,
    conntrack: PerFamily<Histogram>,
    no_local: Mutex<NoLocal>,
    probes: Mutex<BTreeMap<(bool, u16), u64>>,
    reloads_applied: Counter,
    reloads_rejected: Counter,
}

/// The node of the moment: another one after the configuration changed.
struct Node {
    setup: Setup,
    engine: Option<Handle>,
    readings: Box<dyn Readings>,
}

/// Kernel actions.
struct Syncs {
    all: Histogram,
    full: Histogram,
    partial: Histogram,
    failures: Counter,
    partial_failures: Counter,
}

/// Service ports that have a Local policy and no endpoint for it, though others have some.
#[derive(Default)]
struct NoLocal {
    internal: BTreeSet<ServicePortKey>,
    external: BTreeSet<ServicePortKey>,
}

impl Metrics {
    /// Metrics that nothing has happened to. Figures of the engine and of the parts are there when they are.
    pub fn new(setup: Setup) -> Arc<Self> {
        Arc::new(Metrics {
            node: RwLock::new(Node { setup, engine: None, readings: Box::new(()) }),
            origin: AtomicU64::new(0),
            synced_at: PerFamily::default(),
            syncs: PerFamily::new(|_| Syncs {
                all: Histogram::new(&WORK),
                full: Histogram::new(&WORK),
                partial: Histogram::new(&WORK),
                failures: Counter::default(),
                partial_failures: Counter::default(),
            }),
            programming: PerFamily::new(|_| Histogram::new(&PROGRAMMING)),
            conntrack: PerFamily::new(|_| Histogram::new(&WORK)),
            no_local: Mutex::default(),
            probes: Mutex::default(),
            reloads_applied: Counter::default(),
            reloads_rejected: Counter::default(),
        })
    }

    /// Another node begins, by another configuration. What was counted stays; what was told by parts of the old one is told
    /// until those of the new one are there.
    pub fn begin(&self, setup: Setup) {
        self.write().setup = setup;
        *lock(&self.no_local) = NoLocal::default();
    }

    /// Whose status is read at a scrape from now on.
    pub fn follow(&self, engine: Handle) {
        self.write().engine = Some(engine);
    }

    /// Who is asked at a scrape from now on.
    pub fn ask(&self, readings: impl Readings + 'static) {
        self.write().readings = Box::new(readings);
    }

    fn node(&self) -> RwLockReadGuard<'_, Node> {
        self.node.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Node> {
        self.node.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel action is over. What is about both families counts in both, with all its time.
    pub fn finished(&self, done: &Finished) {
        let node = self.node();
        for family in node.served().filter(|family| *done.families.get(*family)) {
            let syncs = self.syncs.get(family);
            let is_full = done.task == Task::Repair;
            syncs.all.observe(done.took);
            if is_full { &syncs.full } else { &syncs.partial }.observe(done.took);
            if done.succeeded {
                self.synced_at.get(family).set(now_since_1970());
                continue;
            }
            syncs.failures.inc();
            if !is_full {
                syncs.partial_failures.inc();
            }
        }
    }

    /// Service ports came into force as this, or went.
    pub fn in_force<'a>(&self, ports: impl IntoIterator<Item = (&'a ServicePortKey, Option<&'a ServicePort>)>) {
        let mut no_local = lock(&self.no_local);
        for (key, port) in ports {
            let lacks = |policy: fn(&ServicePort) -> TrafficPolicy| {
                port.is_some_and(|port| policy(port) == TrafficPolicy::Local && lacks_local(port))
            };
            note(&mut no_local.internal, key, lacks(|port| port.internal_policy));
            note(&mut no_local.external, key, lacks(|port| port.external_policy));
        }
    }

    /// A change is in force that was noted at this time, in nanoseconds since 1970.
    pub fn programmed(&self, family: IpFamily, noted: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let noted = Duration::from_nanos(u64::try_from(noted).unwrap_or_default());
        self.programming.get(family).observe(now.saturating_sub(noted));
    }

    /// A cleanup of connection tracking succeeded.
    pub fn cleaned_up(&self, family: IpFamily, took: Duration) {
        self.conntrack.get(family).observe(took);
    }

    /// The health server answered.
    pub fn probed(&self, probe: Probe, code: u16) {
        *lock(&self.probes).entry((probe == Probe::Livez, code)).or_default() += 1;
    }

    /// The configuration changed.
    pub fn reloaded(&self, reload: Reload) {
        match reload {
            Reload::Applied => self.reloads_applied.inc(),
            Reload::Rejected => self.reloads_rejected.inc(),
        }
    }

    /// A scrape.
    pub fn text(&self, format: Format) -> String {
        write(self.families(), format)
    }

    /// What a scrape tells, not yet written down.
    pub fn families(&self) -> Vec<Family> {
        let node = self.node();
        let readings = &*node.readings;
        let served: Vec<IpFamily> = node.served().collect();
        let mut families = self.kernel_actions(&node);
        families.extend(self.changes_in_force(&node));
        families.extend(self.probes());
        families.extend(node.setup.requests.families());
        families.extend(of_parts(&node));
        families.extend(process::families());
        if let Some(engine) = &node.engine {
            let (status, now) = (engine.status(), engine.clock().now());
            let origin = self.origin(now);
            let since_1970 = |moment: Duration| origin + moment.as_secs_f64();
            families.extend(facts(&status));
            families.push(kube::QUEUED_AT.with(served.iter().filter_map(|family| {
                let at = status.families.get(*family).last_owed?;
                Some((ip_family(*family), since_1970(at).into()))
            })));
            families.extend(own::engine(&status, now, &served, since_1970));
        }
        families.extend(own::parts(readings, &served));
        families.push(own::reloads(self.reloads_applied.get(), self.reloads_rejected.get()));
        families.push(own::build(&node.setup.version));
        families.push(features(&node.setup));
        families.extend(registered(&families));
        families
    }

    fn kernel_actions(&self, node: &Node) -> Vec<Family> {
        let of = |figure: fn(&Syncs) -> Value| move |family| figure(self.syncs.get(family));
        let mut families = vec![
            node.per_family(kube::SYNC, of(|syncs| syncs.all.read())),
            node.per_family(kube::RESTORE_FAILURES, of(|syncs| syncs.failures.get().into())),
            kube::SYNCED_AT.with(
                node.served().filter_map(|family| Some((ip_family(family), self.synced_at.get(family).get()?.into()))),
            ),
        ];
        if node.setup.mode == Mode::Iptables {
            families.push(node.per_family(kube::SYNC_FULL, of(|syncs| syncs.full.read())));
            families.push(node.per_family(kube::SYNC_PARTIAL, of(|syncs| syncs.partial.read())));
            let failures = of(|syncs| syncs.partial_failures.get().into());
            families.push(node.per_family(kube::PARTIAL_RESTORE_FAILURES, failures));
        }
        families
    }

    fn changes_in_force(&self, node: &Node) -> Vec<Family> {
        let no_local = lock(&self.no_local);
        let count = |ports: &BTreeSet<ServicePortKey>, family| ports.iter().filter(|key| key.family == family).count();
        let labels =
            |family, policy: &'static str| vec![("ip_family", as_str(family)), ("traffic_policy", policy.into())];
        let samples = node.served().flat_map(|family| {
            [
                (labels(family, "internal"), count(&no_local.internal, family).into()),
                (labels(family, "external"), count(&no_local.external, family).into()),
            ]
        });
        vec![
            kube::NO_LOCAL.with(samples),
            node.per_family(kube::PROGRAMMING, |family| self.programming.get(family).read()),
            node.per_family(kube::CONNTRACK, |family| self.conntrack.get(family).read()),
        ]
    }

    fn probes(&self) -> Vec<Family> {
        let probes = lock(&self.probes).clone();
        let of = |livez: bool| {
            let counts = [200, 503].map(|code| ((livez, code), 0)).into_iter().chain(probes.clone());
            let counts: BTreeMap<_, _> = counts.filter(|((is_livez, _), _)| *is_livez == livez).collect();
            counts.into_iter().map(|((_, code), count)| (vec![("code", code.to_string().into())], Value::from(count)))
        };
        vec![kube::HEALTHZ.with(of(false)), kube::LIVEZ.with(of(true))]
    }

    /// When the engine's clock began. The same value from scrape to scrape, unless the system's clock was set.
    fn origin(&self, now: Duration) -> f64 {
        let found = now_since_1970() - now.as_secs_f64();
        let known = f64::from_bits(self.origin.load(Ordering::Relaxed));
        if (found - known).abs() <= CLOCK_WAS_SET {
            return known;
        }
        self.origin.store(found.to_bits(), Ordering::Relaxed);
        found
    }
}

impl Node {
    fn served(&self) -> impl Iterator<Item = IpFamily> + '_ {
        self.setup.families.iter().copied()
    }

    fn per_family(&self, description: Description, figure: impl Fn(IpFamily) -> Value) -> Family {
        description.with(self.served().map(|family| (ip_family(family), figure(family))))
    }
}

/// kube-proxy's metrics that parts of the node know.
fn of_parts(node: &Node) -> Vec<Family> {
    let readings = &*node.readings;
    let mut families = Vec::new();
    if let Some(cleanups) = readings.cleanups() {
        families.push(node.per_family(kube::CONNTRACK_DELETED, |family| cleanups.get(family).deleted.into()));
    }
    if node.setup.mode != Mode::Iptables {
        return families;
    }
    let packets = readings.packets();
    families.extend(packets.ct_invalid.map(|count| kube::CT_INVALID.alone(count)));
    families.extend(packets.localhost_node_ports.map(|count| kube::LOCALHOST.alone(count)));
    let tables = node.served().flat_map(|family| ["filter", "nat"].map(|table| (family, table)));
    let numbers = tables.filter_map(|(family, table)| Some((family, table, readings.rules(family, table)?)));
    let numbers: Vec<_> = numbers.collect();
    let labels = |family, table: &'static str| vec![("table", table.into()), ("ip_family", as_str(family))];
    families.push(kube::RULES.with(numbers.iter().map(|(f, table, rules)| (labels(*f, table), rules.owned.into()))));
    families.push(kube::RULES_LAST.with(numbers.iter().map(|(f, t, rules)| (labels(*f, t), rules.last.into()))));
    families
}

fn features(setup: &Setup) -> Family {
    kube::FEATURES.with(setup.features.iter().map(|feature| {
        (vec![("name", feature.name.clone().into()), ("stage", feature.stage.into())], feature.enabled.into())
    }))
}

/// What facts told, and what of it is not taken up.
fn facts(status: &Status) -> [Family; 4] {
    let (told, taken) = (status.facts, status.facts_taken);
    [
        kube::SLICES.alone(told.slices),
        kube::SLICES_PENDING.alone(told.changed_slices.saturating_sub(taken.changed_slices)),
        kube::SERVICES.alone(told.services),
        kube::SERVICES_PENDING.alone(told.changed_services.saturating_sub(taken.changed_services)),
    ]
}

/// How many metrics there are, counted as kube-proxy's registry counts its own; none is hidden or disabled.
fn registered(families: &[Family]) -> [Family; 3] {
    let of = |level: Stability| {
        let mine = [kube::REGISTERED, kube::HIDDEN, kube::DISABLED];
        let all = families.iter().map(|family| family.description).chain(mine);
        all.filter(|description| description.stability == Some(level)).count()
    };
    let levels = Stability::ALL.map(|level| {
        (vec![("stability_level", level.as_str().into()), ("deprecated_version", "".into())], Value::from(of(level)))
    });
    [kube::REGISTERED.with(levels), kube::HIDDEN.alone(0u64), kube::DISABLED.alone(0u64)]
}

/// Somebody has endpoints, but nobody on this node (contract 3.4).
fn lacks_local(port: &ServicePort) -> bool {
    port.has_any_endpoint && port.local_endpoints().next().is_none()
}

fn note(ports: &mut BTreeSet<ServicePortKey>, key: &ServicePortKey, lacks: bool) {
    if lacks {
        ports.insert(key.clone());
    } else if !ports.is_empty() {
        ports.remove(key);
    }
}

fn as_str(family: IpFamily) -> std::borrow::Cow<'static, str> {
    family.as_str().into()
}

fn ip_family(family: IpFamily) -> Labels {
    vec![("ip_family", as_str(family))]
}

fn now_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves counts whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
