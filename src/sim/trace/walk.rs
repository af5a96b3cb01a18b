//! The walk through hooks, tables and chains.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::hooks::{self, Hook, Stage, Stages};
use super::lint::MAX_DEPTH;
use super::matching::{self, Obstacle, View};
use super::ruleset::Node;
use super::schedule::{self, Scheduled};
use super::{Branch, Fate, Ruleset, Step, TraceError};
use crate::kernel::ipvs::VirtualServerKey;
use crate::kernel::xtables::{ChainName, CtStates, ObservedRule, Rule, Table, Target};
use crate::model::oracle::{Host, Outcome, Packet};
use crate::net::{Endpoint, Family};

/// More ways than the endpoints of the largest service that anyone runs.
const MAX_BRANCHES: usize = 1_000_000;

/// A chain that the packet is in.
#[derive(Clone)]
struct Frame<'a> {
    chain: &'a ChainName,
    rules: &'a [ObservedRule],
    next: usize,
    /// Entered by goto: at its end the packet goes on after the jump that led to the chain before.
    tail: bool,
}

/// The packet on one of its ways.
#[derive(Clone)]
struct Flow<'a> {
    probability: f64,
    destination: Endpoint,
    mark: u32,
    ct_state: u16,
    served: bool,
    /// IPVS has chosen the destination.
    scheduled_by: Option<VirtualServerKey>,
    /// IPVS does not send a packet with this source there, and drops it.
    lost: bool,
    masqueraded: bool,
    accepted: bool,
    recent: BTreeSet<Arc<str>>,
    path: Vec<Step>,
    rules_tested: usize,
    routed: bool,
    stages: Stages,
    /// The stage at hand; its chains are in `frames`, the built-in one first.
    at: (Hook, Table),
    frames: Vec<Frame<'a>>,
}

impl<'a> Flow<'a> {
    /// The end of a chain, or RETURN.
    fn leave_chain(&mut self) {
        while self.frames.pop().is_some_and(|frame| frame.tail) {}
    }

    /// The table has its verdict: the packet goes on with the next one.
    fn leave_table(&mut self) {
        self.frames.clear();
    }

    fn end(&self) -> Result<Fate, TraceError> {
        if self.served {
            return Ok(Fate::Serve(Outcome { endpoint: self.destination, masqueraded: self.masqueraded }));
        }
        if self.masqueraded {
            return Err(TraceError::MasqueradedOnly { path: self.path.clone() });
        }
        Ok(if self.accepted { Fate::Accept } else { Fate::Untouched })
    }

    fn into_branch(self, fate: Fate) -> Branch {
        Branch {
            probability: self.probability,
            fate,
            scheduled_by: self.scheduled_by,
            path: self.path,
            rules_tested: self.rules_tested,
            recent: self.recent,
        }
    }
}

/// What is the same for every way.
struct Walker<'a> {
    node: Node<'a>,
    packet: &'a Packet,
    /// Ways that are not followed yet.
    waiting: Vec<Flow<'a>>,
}

/// Follows the packet to the end of each of its ways.
pub(super) fn walk(
    rules: &Ruleset,
    host: &Host,
    packet: &Packet,
    recent: &BTreeSet<Arc<str>>,
) -> Result<Vec<Branch>, TraceError> {
    let (source_family, destination_family) = (Family::of(&packet.source), Family::of(&packet.destination));
    if source_family != rules.family() || destination_family != rules.family() {
        return Err(TraceError::Family { source_family, destination_family, rules: rules.family() });
    }
    let stages = if packet.in_interface.is_some() { hooks::COMES_IN } else { hooks::MADE_HERE };
    let first = Flow {
        probability: 1.0,
        destination: Endpoint::new(packet.destination, packet.port),
        mark: 0,
        ct_state: CtStates::NEW.0,
        served: false,
        scheduled_by: None,
        lost: false,
        masqueraded: false,
        accepted: false,
        recent: recent.clone(),
        path: Vec::new(),
        rules_tested: 0,
        routed: false,
        stages,
        at: (Hook::Prerouting, Table::Mangle),
        frames: Vec::new(),
    };
    let mut walker = Walker { node: Node { rules, host }, packet, waiting: vec![first] };
    let mut branches = Vec::new();
    while let Some(flow) = walker.waiting.pop() {
        let mut branch = walker.follow(flow)?;
        // The lists that were preset are the caller's; the branch tells what the packet did.
        branch.recent.retain(|name| !recent.contains(name));
        branches.push(branch);
        if branches.len() > MAX_BRANCHES {
            return Err(TraceError::TooManyBranches(MAX_BRANCHES));
        }
    }
    Ok(branches)
}

impl<'a> Walker<'a> {
    /// Follows one way to its end. Where a rule matches by chance, the other way is left to wait.
    fn follow(&mut self, mut flow: Flow<'a>) -> Result<Branch, TraceError> {
        loop {
            let Some(frame) = flow.frames.last_mut() else {
                match self.next_stage(&mut flow)? {
                    Some(fate) => return Ok(flow.into_branch(fate)),
                    None => continue,
                }
            };
            let Some(rule) = frame.rules.get(frame.next) else {
                flow.leave_chain();
                continue;
            };
            let step = Step { table: flow.at.1, chain: frame.chain.clone(), index: frame.next };
            frame.next += 1;
            flow.rules_tested += 1;
            let rule = match rule {
                ObservedRule::Known(rule) => rule,
                ObservedRule::Verbatim(text) => return Err(TraceError::Verbatim { step, text: text.clone() }),
            };
            if !self.matches(&mut flow, rule, &step)? {
                continue;
            }
            if let Some(fate) = self.take(&mut flow, rule, step)? {
                return Ok(flow.into_branch(fate));
            }
        }
    }

    /// Enters the next built-in chain, or lets IPVS see the packet; `Some` at the packet's end.
    fn next_stage(&mut self, flow: &mut Flow<'a>) -> Result<Option<Fate>, TraceError> {
        if flow.lost {
            return Ok(Some(Fate::Drop));
        }
        let Some((&stage, rest)) = flow.stages.split_first() else {
            if flow.routed {
                return flow.end().map(Some);
            }
            flow.routed = true;
            flow.stages = self.route(flow);
            return Ok(None);
        };
        flow.stages = rest;
        match stage {
            Stage::Rules(hook, table) => {
                flow.at = (hook, table);
                if let Some((chain, rules)) = self.node.rules.entry(table, &ChainName::new(hook.as_str())) {
                    flow.frames.push(Frame { chain, rules, next: 0, tail: false });
                }
                Ok(None)
            }
            Stage::Ipvs => self.schedule(flow),
        }
    }

    fn route(&self, flow: &Flow<'a>) -> Stages {
        let to_self = self.node.is_local(&flow.destination.ip);
        match (self.comes_in(), to_self) {
            (true, true) => hooks::DELIVERED,
            (true, false) => hooks::FORWARDED,
            (false, true) => hooks::SENT_TO_SELF,
            (false, false) => hooks::SENT,
        }
    }

    fn comes_in(&self) -> bool {
        self.packet.in_interface.is_some()
    }

    /// IPVS chooses a real server for the packet, if it is for a virtual server. All but the first of those that it may
    /// choose are left to wait.
    fn schedule(&mut self, flow: &mut Flow<'a>) -> Result<Option<Fate>, TraceError> {
        let servers = &self.node.rules.servers;
        let (server, chosen) = match schedule::schedule(servers, self.packet.protocol, flow.destination)? {
            Scheduled::NotMine => return Ok(None),
            Scheduled::Refused => return Ok(Some(Fate::Reject)),
            Scheduled::To(server, chosen) => (server, chosen),
        };
        // The first is followed now; the last to wait is the next to be followed.
        let before = flow.clone();
        for (i, (endpoint, probability)) in chosen.into_iter().enumerate().rev() {
            let mut one = before.clone();
            one.probability *= probability;
            self.transmit(&mut one, server, endpoint)?;
            if i > 0 {
                self.waiting.push(one);
            } else {
                *flow = one;
            }
        }
        Ok(None)
    }

    /// IPVS writes the real server's address into the packet and sends it (`ip_vs_nat_xmit`). One that stays on this
    /// node goes on with the hook that it is in.
    fn transmit(&self, flow: &mut Flow<'a>, server: VirtualServerKey, to: Endpoint) -> Result<(), TraceError> {
        let stays = self.node.is_local(&to.ip);
        if stays && !self.comes_in() && !self.node.is_local(&flow.destination.ip) {
            return Err(TraceError::Ipvs { server, what: "is on no device, but has a real server on this node" });
        }
        // `crosses_local_route_boundary`, and "stopping DNAT to loopback address".
        flow.lost = if stays { to.ip.is_loopback() && self.comes_in() } else { self.packet.source.is_loopback() };
        flow.destination = to;
        flow.served = true;
        flow.scheduled_by = Some(server);
        if !stays {
            flow.stages = hooks::SENT_BY_IPVS;
        }
        Ok(())
    }

    /// The name of the incoming interface that rules see at this hook.
    fn in_interface(&self, hook: Hook) -> &'a str {
        match hook {
            Hook::Output | Hook::Postrouting => "",
            Hook::Prerouting | Hook::Input | Hook::Forward => self.packet.in_interface.as_deref().unwrap_or("lo"),
        }
    }

    /// Whether the flow goes through the rule. If it may or may not, it does, and a copy that does not waits.
    fn matches(&mut self, flow: &mut Flow<'a>, rule: &Rule, step: &Step) -> Result<bool, TraceError> {
        let view = View {
            source: self.packet.source,
            destination: flow.destination.ip,
            protocol: self.packet.protocol,
            port: flow.destination.port,
            in_interface: self.in_interface(flow.at.0),
            mark: flow.mark,
            ct_state: flow.ct_state,
            node: self.node,
        };
        let probability = matching::probability(rule, &view, &mut flow.recent).map_err(|obstacle| match obstacle {
            Obstacle::Unknown(what) => TraceError::Unknown { step: step.clone(), what },
            Obstacle::NoSet(set) => TraceError::NoSet { step: step.clone(), set },
        })?;
        if probability > 0.0 && probability < 1.0 {
            let mut other = flow.clone();
            other.probability *= 1.0 - probability;
            self.waiting.push(other);
            flow.probability *= probability;
        }
        Ok(probability > 0.0)
    }

    /// Does what the rule's target says; `Some` if that is the packet's end.
    fn take(&self, flow: &mut Flow<'a>, rule: &'a Rule, step: Step) -> Result<Option<Fate>, TraceError> {
        let Some(target) = &rule.target else { return Ok(None) };
        let (hook, table) = flow.at;
        check_place(target, hook, table, &step)?;
        flow.path.push(step.clone());
        match target {
            Target::Jump(name) => self.enter(flow, name, step, false)?,
            Target::Goto(name) => self.enter(flow, name, step, true)?,
            Target::Return => flow.leave_chain(),
            Target::Accept => {
                flow.accepted |= hook == Hook::Input && table == Table::Filter && flow.frames.len() > 1;
                flow.leave_table();
            }
            Target::Drop => return Ok(Some(Fate::Drop)),
            Target::Reject => return Ok(Some(Fate::Reject)),
            Target::Dnat(endpoint) => {
                flow.destination = *endpoint;
                flow.served = true;
                flow.ct_state |= CtStates::DNAT.0;
                flow.leave_table();
            }
            Target::Masquerade { .. } => {
                flow.masqueraded = true;
                flow.ct_state |= CtStates::SNAT.0;
                flow.leave_table();
            }
            Target::Mark { value, mask } => flow.mark = (flow.mark & !mask) ^ value,
        }
        Ok(None)
    }

    fn enter(&self, flow: &mut Flow<'a>, name: &ChainName, step: Step, tail: bool) -> Result<(), TraceError> {
        let target = name.clone();
        let Some((chain, rules)) = self.node.rules.entry(flow.at.1, name) else {
            return Err(TraceError::NoChain { step, target });
        };
        if flow.frames.iter().any(|frame| frame.chain == name) {
            return Err(TraceError::Loop { step, target });
        }
        if flow.frames.len() > MAX_DEPTH {
            return Err(TraceError::TooDeep { step, target });
        }
        flow.frames.push(Frame { chain, rules, next: 0, tail });
        Ok(())
    }
}

/// Some targets are refused, or do nothing, outside the table and hook that they are made for.
fn check_place(target: &Target, hook: Hook, table: Table, step: &Step) -> Result<(), TraceError> {
    let (name, fits) = match target {
        Target::Dnat(_) => ("DNAT", table == Table::Nat && matches!(hook, Hook::Prerouting | Hook::Output)),
        Target::Masquerade { .. } => ("MASQUERADE", table == Table::Nat && hook == Hook::Postrouting),
        Target::Reject => ("REJECT", table == Table::Filter),
        Target::Drop => ("DROP", table != Table::Nat),
        _ => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    Err(TraceError::Misplaced { step: step.clone(), target: name, table, hook: hook.as_str() })
}
