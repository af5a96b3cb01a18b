//! The packets of `rules/scenarios`, sent and judged.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use weir::lab::{DROP_TIMEOUT, Probe, skipped};
use weir::model::oracle::{Mode, Verdict};
use weir::model::{ServicePort, Settings};
use weir::net::{Family, Protocol};
use weir::resolve::{Options, resolve};
use weir::sim::scenario::{Client, Fixture, Flow, Scenario, Step};
use weir::state::State;

use super::fixture::{Real, WITNESS};
use super::seen::{Seen, complaints, exactly, next_port, within};
use super::variants::has_sctp;

/// Scenarios whose packets are not sent here, only traced. The external IPs of the one lie in the lab's own lan, where
/// clients look for a neighbour instead of asking the node; the other has more endpoints than a few connections show
/// (`balance` counts many).
const TRACED_ONLY: [&str; 2] = ["j2-six-services", "endpoint-groups"];

/// The node's kernel, where rules come and go as they do when weir starts: what it holds is compared with what is wanted,
/// and the difference is applied.
pub trait Kernel {
    const MODE: Mode;

    /// Takes away all that leads to services, and the memory of who was served by whom.
    fn clean(&mut self);

    fn settle(&mut self, settings: &Settings, model: &[Arc<ServicePort>]);
}

/// The scenarios whose packets are sent.
pub fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Scenario::load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/scenarios")).unwrap();
    let all = scenarios.len();
    scenarios.retain(|scenario| !TRACED_ONLY.contains(&scenario.name.as_str()));
    assert_eq!(scenarios.len() + TRACED_ONLY.len(), all, "a name in the list is no scenario's");
    let unsendable = scenarios.iter().flat_map(flows_of).filter(|flow| !is_sendable(flow)).count();
    assert_eq!(unsendable, 1, "of these there is one: whatever is not sent is not tested");
    scenarios
}

/// Sends all packets, and fails with all that met another verdict. `who` is for people.
pub fn judge_all<K: Kernel>(who: &str, real: &Real, kernel: &mut K, scenarios: &[Scenario]) {
    let mut wrong = Vec::new();
    let mut sent = 0;
    for scenario in scenarios {
        real.with_addresses(extra_addresses(scenario), || sent += judge_scenario(real, kernel, scenario, &mut wrong));
    }
    assert!(wrong.is_empty(), "{who}:\n{}", wrong.join("\n"));
    let all = scenarios.iter().flat_map(flows_of).count();
    println!("{who}: {sent} packets of {all} met their verdict");
}

pub fn flows_of(scenario: &Scenario) -> impl Iterator<Item = &Flow> {
    scenario.steps.iter().flat_map(|step| &step.packets)
}

/// Addresses that this scenario's node has and those of others do not.
fn extra_addresses(scenario: &Scenario) -> &[IpAddr] {
    &scenario.host.addresses[Fixture::host_addresses().len()..]
}

/// Steps after each other, and all packets of a step at the same time. Returns how many packets were judged.
fn judge_scenario<K: Kernel>(real: &Real, kernel: &mut K, scenario: &Scenario, wrong: &mut Vec<String>) -> usize {
    kernel.clean();
    let all: Vec<&Flow> = flows_of(scenario).filter(|flow| can_send(real, flow)).collect();
    // What shows that a packet comes through, and is not just lost on its way.
    let untouched = BTreeSet::from([Seen::Untouched]);
    let lost =
        complaints(&all, |flow| exactly(&untouched, || send(real, K::MODE, flow)).map_err(|error| name(flow, &error)));
    let before = wrong.len();
    wrong.extend(lost.iter().map(|lost| format!("{}, without rules: {lost}", scenario.name)));
    let mut state = State::default();
    for step in &scenario.steps {
        state.apply(step.updates.clone());
        let model = model(scenario, &state);
        kernel.settle(&scenario.settings, &model);
        wrong.extend(
            judge_step(real, kernel, scenario, step, &model)
                .into_iter()
                .map(|complaint| format!("{}, {}: {complaint}", scenario.name, step.about)),
        );
    }
    // At once, for whoever runs out of patience.
    wrong[before..].iter().for_each(|complaint| println!("{complaint}"));
    all.len()
}

fn model(scenario: &Scenario, state: &State) -> Vec<Arc<ServicePort>> {
    let node = scenario.node(state);
    let mut ports: Vec<_> =
        state.service_names().flat_map(|name| resolve(state, name, &node, &Options::default())).collect();
    ports.sort_by(|a, b| a.key.cmp(&b.key));
    ports
}

fn judge_step<K: Kernel>(
    real: &Real,
    kernel: &mut K,
    scenario: &Scenario,
    step: &Step,
    model: &[Arc<ServicePort>],
) -> Vec<String> {
    let flows: Vec<&Flow> = step.packets.iter().filter(|flow| can_send(real, flow)).collect();
    let has_affinity = model.iter().any(|port| port.affinity_seconds.is_some());
    if !has_affinity {
        return complaints(&flows, |flow| {
            exactly(&expected(K::MODE, flow), || send(real, K::MODE, flow)).map_err(|error| name(flow, &error))
        });
    }
    let mut judge = |flow: &&Flow| {
        let wanted = expected(K::MODE, flow);
        let judged = match K::MODE {
            // Verdicts are about a client's first packet: every packet must be one.
            Mode::Iptables => exactly(&wanted, || {
                kernel.clean();
                kernel.settle(&scenario.settings, model);
                send(real, K::MODE, flow)
            }),
            // IPVS keeps a client's template beyond the virtual server: it is given back with the real server.
            Mode::Ipvs => within(&wanted, || send(real, K::MODE, flow)),
        };
        judged.map_err(|error| name(flow, &error)).err()
    };
    flows.iter().filter_map(&mut judge).collect()
}

fn name(flow: &Flow, error: &str) -> String {
    let (packet, row) = (&flow.packet, &flow.row);
    let to = SocketAddr::new(packet.destination, packet.port);
    format!("row {row}, {:?} {} to {to}/{}: {error}", flow.client, packet.source, packet.protocol)
}

/// What a client sees if the verdict holds.
fn expected(mode: Mode, flow: &Flow) -> BTreeSet<Seen> {
    match flow.expected(mode) {
        Verdict::Untouched => BTreeSet::from([Seen::Untouched]),
        Verdict::Accept => BTreeSet::from([Seen::Kept(WITNESS.to_owned())]),
        Verdict::Reject => BTreeSet::from([Seen::Refused]),
        Verdict::Drop => BTreeSet::from([Seen::Dropped]),
        Verdict::Serve(outcomes) => outcomes
            .keys()
            .map(|outcome| {
                let server = SocketAddr::new(outcome.endpoint.ip, outcome.endpoint.port).to_string();
                // Nobody takes from elsewhere what has his own address as its source.
                if outcome.endpoint.ip == flow.packet.source && !outcome.masqueraded && flow.client == Client::Pod {
                    return Seen::Dropped;
                }
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

fn send(real: &Real, mode: Mode, flow: &Flow) -> Seen {
    let packet = &flow.packet;
    let mut probe = Probe::new(packet.protocol, SocketAddr::new(packet.destination, packet.port))
        .from(SocketAddr::new(packet.source, next_port()));
    if *flow.expected(mode) == Verdict::Drop {
        probe = probe.timeout(DROP_TIMEOUT);
    }
    Seen::of(probe.run(real.client(flow)), packet.source, &real.node())
}
