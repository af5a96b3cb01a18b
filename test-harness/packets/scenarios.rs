//! The packets of `rules/scenarios`, sent. Rules come into the kernel as they do when weir starts: what it holds is
//! compared with what is wanted, and the difference is applied.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{Changes, Table, Xtables};
use weir::lab::{DROP_TIMEOUT, Probe, skipped};
use weir::model::oracle::Verdict;
use weir::model::{ServicePort, Settings};
use weir::net::{Family, Protocol};
use weir::plan::iptables::Desired;
use weir::resolve::{Options, resolve};
use weir::sim::scenario::{Client, Flow, Scenario, Step};
use weir::state::State;

use super::fixture::{Real, WITNESS};
use super::seen::{Seen, complaints, exactly, next_port};
use super::variants::{driver, has_sctp, on_each_variant, restore, tell_untouched};

/// Scenarios whose packets are not sent here, only traced. The external IPs of the one lie in the lab's own lan, where
/// clients look for a neighbour instead of asking the node; the other has more endpoints than a few connections show
/// (`balance` counts many).
const TRACED_ONLY: [&str; 2] = ["j2-six-services", "endpoint-groups"];

#[test]
fn every_packet_meets_its_verdict() {
    let mut scenarios = Scenario::load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/scenarios")).unwrap();
    let all = scenarios.len();
    scenarios.retain(|scenario| !TRACED_ONLY.contains(&scenario.name.as_str()));
    assert_eq!(scenarios.len() + TRACED_ONLY.len(), all, "a name in the list is no scenario's");
    on_each_variant(|variant| judge_all(variant, &scenarios));
}

fn judge_all(variant: Variant, scenarios: &[Scenario]) {
    let flows: Vec<&Flow> = scenarios.iter().flat_map(flows_of).collect();
    let real = Real::new(&flows);
    let Some(mut driver) = driver(real.lab.node(), variant) else { return };
    tell_untouched(&real.lab, &driver);
    let mut wrong = Vec::new();
    let mut sent = 0;
    for scenario in scenarios {
        real.with_addresses(extra_addresses(scenario), || {
            let mut kernel = Kernel { real: &real, driver: &mut driver };
            sent += judge_scenario(&mut kernel, scenario, &mut wrong);
        });
    }
    assert!(wrong.is_empty(), "{variant}:\n{}", wrong.join("\n"));
    let unsendable = flows.iter().filter(|flow| !is_sendable(flow)).count();
    assert_eq!(unsendable, 1, "of these there is one: whatever is not sent is not tested");
    println!("{variant}: {sent} packets of {} met their verdict", flows.len());
}

fn flows_of(scenario: &Scenario) -> impl Iterator<Item = &Flow> {
    scenario.steps.iter().flat_map(|step| &step.packets)
}

/// Addresses that this scenario's node has and those of others do not.
fn extra_addresses(scenario: &Scenario) -> &[std::net::IpAddr] {
    &scenario.host.addresses[weir::sim::scenario::Fixture::host_addresses().len()..]
}

/// Steps after each other, and all packets of a step at the same time. Returns how many packets were judged.
fn judge_scenario(kernel: &mut Kernel<'_>, scenario: &Scenario, wrong: &mut Vec<String>) -> usize {
    kernel.clean();
    let all: Vec<&Flow> = flows_of(scenario).filter(|flow| can_send(kernel.real, flow)).collect();
    // What shows that a packet comes through, and is not just lost on its way.
    let untouched = BTreeSet::from([Seen::Untouched]);
    let lost = complaints(&all, |flow| exactly(&untouched, || kernel.send(flow)).map_err(|error| name(flow, &error)));
    wrong.extend(lost.iter().map(|lost| format!("{}, without rules: {lost}", scenario.name)));
    let mut state = State::default();
    for step in &scenario.steps {
        state.apply(step.updates.clone());
        let model = model(scenario, &state);
        kernel.settle(&scenario.settings, &model);
        wrong.extend(
            judge_step(kernel, scenario, step, &model)
                .into_iter()
                .map(|complaint| format!("{}, {}: {complaint}", scenario.name, step.about)),
        );
    }
    all.len()
}

fn model(scenario: &Scenario, state: &State) -> Vec<Arc<ServicePort>> {
    let node = scenario.node(state);
    let mut ports: Vec<_> =
        state.service_names().flat_map(|name| resolve(state, name, &node, &Options::default())).collect();
    ports.sort_by(|a, b| a.key.cmp(&b.key));
    ports
}

fn judge_step(kernel: &mut Kernel<'_>, scenario: &Scenario, step: &Step, model: &[Arc<ServicePort>]) -> Vec<String> {
    let flows: Vec<&Flow> = step.packets.iter().filter(|flow| can_send(kernel.real, flow)).collect();
    if model.iter().any(|port| port.affinity_seconds.is_some()) {
        // Verdicts are about a client's first packet: every packet must be one.
        let mut judge = |flow: &&Flow| {
            let ask = || {
                kernel.clean();
                kernel.settle(&scenario.settings, model);
                kernel.send(flow)
            };
            exactly(&expected(flow), ask).map_err(|error| name(flow, &error)).err()
        };
        return flows.iter().filter_map(&mut judge).collect();
    }
    complaints(&flows, |flow| exactly(&expected(flow), || kernel.send(flow)).map_err(|error| name(flow, &error)))
}

fn name(flow: &Flow, error: &str) -> String {
    let (packet, row) = (&flow.packet, &flow.row);
    let to = SocketAddr::new(packet.destination, packet.port);
    format!("row {row}, {:?} {} to {to}/{}: {error}", flow.client, packet.source, packet.protocol)
}

/// What a client sees if the verdict holds.
fn expected(flow: &Flow) -> BTreeSet<Seen> {
    match &flow.expect {
        Verdict::Untouched => BTreeSet::from([Seen::Untouched]),
        Verdict::Accept => BTreeSet::from([Seen::Kept(WITNESS.to_owned())]),
        Verdict::Reject => BTreeSet::from([Seen::Refused]),
        Verdict::Drop => BTreeSet::from([Seen::Dropped]),
        Verdict::Serve(outcomes) => outcomes
            .keys()
            .map(|outcome| {
                let server = SocketAddr::new(outcome.endpoint.ip, outcome.endpoint.port).to_string();
                if outcome.masqueraded { Seen::Masqueraded(server) } else { Seen::Kept(server) }
            })
            .collect(),
    }
}

/// Not what is for `::1` and comes from outside: the kernel drops it before any rule.
fn is_sendable(flow: &Flow) -> bool {
    let packet = &flow.packet;
    !(flow.client == Client::Outside && packet.destination.is_loopback() && packet.destination.is_ipv6())
}

/// Whether this kernel can make the packet. What it cannot is told.
fn can_send(real: &Real, flow: &Flow) -> bool {
    if !real.has_family(flow) {
        skipped(&format!("scenario packets of {}: the kernel has none", Family::of(&flow.packet.destination)));
        return false;
    }
    if flow.packet.protocol == Protocol::Sctp && !has_sctp() {
        skipped(&format!("scenario row {} with real packets: the kernel has no SCTP", flow.row));
        return false;
    }
    is_sendable(flow)
}

/// The node's kernel.
struct Kernel<'a> {
    real: &'a Real,
    driver: &'a mut RestoreDriver,
}

impl Kernel<'_> {
    /// Takes all our rules away, and with them the memory of who was served by whom. Our rule in the chain that we
    /// share with the kubelet would stay.
    fn clean(&mut self) {
        self.install(Desired::nothing());
        restore(self.real.lab.node(), self.driver, Family::V4, "*filter\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n");
    }

    fn settle(&mut self, settings: &Settings, model: &[Arc<ServicePort>]) {
        let families = self.driver.tools().families();
        self.install(Desired::plan(&Arc::new(settings.clone()), &families, model).0);
    }

    fn install(&mut self, desired: Desired) {
        let node = self.real.lab.node();
        let driver = &mut *self.driver;
        node.run(|| {
            let mut comparison = desired.compare();
            for family in driver.tools().families() {
                for table in Table::ALL {
                    driver.observe(family, table, &mut |chain| comparison.observed(family, table, chain)).unwrap();
                }
            }
            let changes: Changes = comparison.finish();
            if !changes.is_empty() {
                driver.apply(&changes).unwrap();
            }
        })
        .unwrap();
    }

    fn send(&self, flow: &Flow) -> Seen {
        let packet = &flow.packet;
        let mut probe = Probe::new(packet.protocol, SocketAddr::new(packet.destination, packet.port))
            .from(SocketAddr::new(packet.source, next_port()));
        if flow.expect == Verdict::Drop {
            probe = probe.timeout(DROP_TIMEOUT);
        }
        Seen::of(probe.run(self.real.client(flow)), packet.source, &self.real.node())
    }
}
