//! What must hold after every kernel action, whether it succeeded, failed, or was cut off in the middle:
//!
//! * a packet to a service meets what the kernel last said yes to, or what was asked of it since: never something in
//!   between, and never nothing. For a service that does not change there is just one answer;
//! * what is not ours is as it was;
//! * no jump leads nowhere, and nothing else that a kernel refuses.
//!
//! The first is not asked while somebody else has changed our rules, nor while everything is written again because a
//! repair was refused: such a batch may be cut in parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir::engine::Notice;
use weir::model::oracle::{Host, Packet, judge};
use weir::model::{ServicePort, ServicePortKey, Settings};
use weir::net::Family;
use weir::plan::Move;
use weir::sim::scenario::Fixture;
use weir::sim::trace::{Ruleset, lint, trace};

use crate::cluster::Random;
use crate::kernel::{self, Chains, Shared};
use crate::proxy::Watch;

type Value = Option<Arc<ServicePort>>;

/// How many services that do not change are looked at after each action.
const BYSTANDERS: usize = 4;

pub struct Promise {
    pub seed: u64,
    kernel: Shared,
    random: Random,
    /// What the kernel may hold: the last accepted value, and those that were tried since.
    possible: BTreeMap<ServicePortKey, Vec<Value>>,
    /// What is asked for right now.
    asked: Vec<(ServicePortKey, Value)>,
    repairing: bool,
    /// Settings that the rules may have been written with; `None`: our rules may be anything.
    trusted: Option<Arc<Settings>>,
    /// Of the repair under way.
    settings: Arc<Settings>,
    foreign: Chains,
    /// COMMITs that were looked at.
    commits: usize,
    /// What happened lately, for messages.
    log: Vec<String>,
    /// How many packets were followed.
    pub packets: usize,
}

impl Promise {
    pub fn new(seed: u64, kernel: &Shared, settings: Arc<Settings>) -> Self {
        Promise {
            seed,
            kernel: kernel.clone(),
            random: Random::new(seed ^ 0x70_726f_6d69_7365),
            possible: BTreeMap::new(),
            asked: Vec::new(),
            repairing: false,
            trusted: None,
            settings,
            foreign: kernel::foreign(kernel),
            commits: 0,
            log: Vec::new(),
            packets: 0,
        }
    }

    /// Notes something for messages.
    pub fn note(&mut self, what: String) {
        self.log.push(what);
    }

    /// The last things that happened, a line each.
    pub fn log(&self) -> String {
        let lines: Vec<&str> = self.log.iter().rev().take(30).rev().map(String::as_str).collect();
        lines.join("\n")
    }

    /// Somebody else changed the kernel.
    pub fn disturbed(&mut self) {
        self.note("somebody else writes".to_owned());
        self.trusted = None;
        self.foreign = kernel::foreign(&self.kernel);
    }

    /// Rules are to be written with other settings from the next repair on.
    pub fn settings_changed(&mut self, settings: Arc<Settings>) {
        self.trusted = None;
        self.settings = settings;
    }

    /// What the kernel said yes to last.
    pub fn accepted(&self, key: &ServicePortKey) -> Value {
        self.possible.get(key).and_then(|values| values.first()).cloned().flatten()
    }

    fn check(&mut self) {
        let seed = self.seed;
        let commits = kernel::lock(&self.kernel).commits();
        if std::mem::replace(&mut self.commits, commits) == commits {
            return;
        }
        let chains = kernel::all(&self.kernel);
        assert_eq!(kernel::foreign_in(&chains), self.foreign, "WEIR_SEED={seed}: what is not ours was touched");
        let rules = kernel::rules_of(chains);
        for rules in &rules {
            let findings = lint(rules);
            assert!(findings.is_empty(), "WEIR_SEED={seed}: {}", findings.join("\n"));
        }
        let Some(settings) = self.trusted.clone() else { return };
        let mut keys: Vec<ServicePortKey> = self.asked.iter().map(|(key, _)| key.clone()).take(8).collect();
        let all: Vec<&ServicePortKey> = self.possible.keys().collect();
        for _ in 0..BYSTANDERS.min(all.len()) {
            keys.push((*self.random.pick(&all)).clone());
        }
        for key in keys {
            let Some(rules) = rules.iter().find(|rules| rules.family() == key.family) else { continue };
            self.check_service(&key, rules, &settings);
        }
    }

    /// Packets to the service port's cluster IP and node port meet one of the possible values: of this service port, or,
    /// where a frontend goes from one port of a service to another, of either.
    fn check_service(&mut self, key: &ServicePortKey, rules: &Ruleset, settings: &Settings) {
        let Some(values) = self.possible.get(key) else { return };
        let host = Host { addresses: Fixture::host_addresses() };
        for packet in values.iter().flatten().flat_map(|value| packets(value)) {
            let found = trace(rules, &host, &packet).map(|traced| traced.verdict);
            let siblings = self.possible.iter().filter(|(other, _)| other.name.service == key.name.service);
            let claim = |values: &[Value]| values.iter().flatten().any(|value| packets(value).contains(&packet));
            let values = siblings.filter(|(_, values)| claim(values)).flat_map(|(_, values)| values);
            let expected: Vec<_> =
                values.map(|value| judge(value.as_deref().into_iter(), settings, &host, &packet)).collect();
            let kept = found.as_ref().is_ok_and(|found| expected.iter().any(|verdict| verdict.agrees_with(found)));
            assert!(
                kept,
                "WEIR_SEED={}: {}, {packet:?}\nexpected one of {expected:?}\nthe rules say {found:?}\nbefore that:\n{}",
                self.seed,
                key.name,
                self.log(),
            );
            self.packets += 1;
        }
    }
}

/// Packets that no port of another service can be meant by.
fn packets(port: &ServicePort) -> Vec<Packet> {
    let protocol = port.key.name.protocol;
    let packet = |from, interface: &str, destination, port| {
        let (_, source) = Fixture::client(from, Family::of(&destination))?;
        Some(Packet { source, destination, protocol, port, in_interface: Some(interface.to_owned()) })
    };
    let node = Fixture::host_addresses().into_iter().find(|ip| Family::of(ip) == port.family());
    let to_node = node.filter(|_| port.node_port != 0);
    let all = [
        packet("pod", Fixture::POD_INTERFACE, port.cluster_ip, port.port),
        to_node.and_then(|node| packet("external", Fixture::OUTER_INTERFACE, node, port.node_port)),
    ];
    all.into_iter().flatten().collect()
}

impl Watch for Promise {
    fn applying(&mut self, moves: &[Move]) {
        self.repairing = false;
        let key = |m: &Move| m.after.as_ref().or(m.before.as_ref()).map(|port| port.key.clone());
        self.asked = moves.iter().filter_map(|m| Some((key(m)?, m.after.clone()))).collect();
        let names: Vec<_> = moves.iter().filter_map(|m| Some(key(m)?.name.to_string())).collect();
        self.note(format!("apply {}", names.join(" ")));
        self.ask();
    }

    fn repairing(&mut self, model: &[Arc<ServicePort>]) {
        self.repairing = true;
        self.note(format!("repair with {} service ports", model.len()));
        let mut asked: BTreeMap<ServicePortKey, Value> = self.possible.keys().map(|key| (key.clone(), None)).collect();
        asked.extend(model.iter().map(|port| (port.key.clone(), Some(port.clone()))));
        self.asked = asked.into_iter().collect();
        self.ask();
    }

    fn repairing_chains(&mut self) {
        self.repairing = false;
        self.asked.clear();
        self.note("repair of single chains".to_owned());
    }

    fn wrote(&mut self, succeeded: bool) {
        self.note(format!("  written: {succeeded}"));
        if succeeded {
            for (key, value) in &self.asked {
                self.possible.insert(key.clone(), vec![value.clone()]);
            }
            if self.repairing {
                self.trusted = Some(self.settings.clone());
            }
        }
        self.check();
    }

    fn noticed(&mut self, notice: &Notice) {
        self.note(format!("  {notice}"));
        if matches!(notice, Notice::Rebuilding { .. }) {
            self.trusted = None;
        }
    }
}

impl Promise {
    fn ask(&mut self) {
        for (key, value) in &self.asked {
            let values = self.possible.entry(key.clone()).or_insert_with(|| vec![None]);
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
    }
}
