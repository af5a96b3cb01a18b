//! Any model to any model: what is applied step by step is what is wanted, and what drains goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::kernel::ipset::{Entries, ObservedSet, SetName, SetSpec};
use crate::kernel::ipvs::{
    ObservedRealServer, ObservedVirtualServer, RealServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey,
};
use crate::kernel::link::Device;
use crate::model::{ServicePort, Settings};
use crate::net::{Endpoint, Family, Protocol};
use crate::plan::ipvs::testing::{model, moves, settings, simple};
use crate::state::Tuning;

const NOW: UnixSeconds = 1_800_000_000;

/// What a kernel holds. It takes a difference at its word.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    sets: BTreeMap<SetName, (SetSpec, Entries)>,
    device: Option<BTreeSet<IpAddr>>,
    servers: BTreeMap<VirtualServerKey, Served>,
}

impl Held {
    fn apply(&mut self, difference: &Difference) {
        for (name, change) in &difference.sets.sets {
            let Some(spec) = change.after else {
                assert!(self.sets.remove(name).is_some(), "{name} is not there");
                continue;
            };
            assert_eq!(change.before.is_some(), self.sets.contains_key(name), "{name}");
            let (_, entries) = self.sets.entry(name.clone()).or_insert_with(|| (spec, Entries::new()));
            for (entry, comment) in &change.add {
                assert!(entries.insert(*entry, comment.clone()).is_none(), "{name} {entry} is there");
            }
            for entry in &change.remove {
                assert!(entries.remove(entry).is_some(), "{name} {entry} is not there");
            }
        }
        if difference.links.create {
            assert!(self.device.replace(BTreeSet::new()).is_none());
        }
        for address in &difference.links.add {
            assert!(self.device.as_mut().unwrap().insert(*address), "{address} is there");
        }
        for address in &difference.links.remove {
            assert!(self.device.as_mut().unwrap().remove(address), "{address} is not there");
        }
        if difference.links.delete {
            assert!(self.device.take().is_some());
        }
        for (key, change) in &difference.servers.servers {
            assert_eq!(self.servers.get(key).map(|(server, _)| server), change.before.as_ref(), "{key}");
            let Some(server) = &change.after else {
                self.servers.remove(key);
                continue;
            };
            let (held, reals) = self.servers.entry(*key).or_insert_with(|| (server.clone(), BTreeMap::new()));
            *held = server.clone();
            for (endpoint, real) in &change.real_servers {
                assert_eq!(reals.get(endpoint), real.before.as_ref(), "{key} {endpoint}");
                match real.after {
                    Some(after) => reals.insert(*endpoint, after),
                    None => reals.remove(endpoint),
                };
            }
        }
    }

    /// As it is observed, with as many connections for every real server.
    fn observed(&self, active: u32) -> Observed {
        let sets = self.sets.iter();
        let real = |server: RealServer| ObservedRealServer { server, active, inactive: 0, persistent: 0 };
        Observed {
            sets: sets
                .map(|(name, (spec, entries))| ObservedSet {
                    name: name.clone(),
                    spec: Ok(*spec),
                    entries: entries.clone(),
                })
                .collect(),
            device: self.device.clone().map_or(Device::Absent, |addresses| Device::Dummy { addresses }),
            servers: self
                .servers
                .iter()
                .map(|(key, (server, reals))| ObservedVirtualServer {
                    key: *key,
                    server: server.clone(),
                    unknown: false,
                    real_servers: reals.iter().map(|(endpoint, server)| (*endpoint, real(*server))).collect(),
                })
                .collect(),
        }
    }

    /// Lets all that drains go at `now`.
    fn tend(&mut self, planner: &mut Planner, active: u32, now: UnixSeconds) {
        for key in planner.draining().keys().copied().collect::<Vec<_>>() {
            let observed = self.observed(active);
            let server = observed.servers.iter().find(|server| server.key == key);
            let due = planner.tend(&key, server.map(|server| &server.real_servers), now);
            self.apply(&due);
        }
    }

    fn is_what_is_wanted(&self, settings: &Arc<Settings>, model: &[Arc<ServicePort>]) {
        let (desired, _) = Desired::plan(settings, &Family::ALL, model);
        assert_eq!(self.sets, desired.sets);
        assert_eq!(self.device, Some(desired.addresses));
        assert_eq!(self.servers, desired.servers);
    }
}

/// A kernel that serves a model, and who planned it.
fn serving(model: &[Arc<ServicePort>]) -> (Held, Planner) {
    let mut held = Held::default();
    let none = Held::default().observed(0);
    let (difference, planner) = compare(&settings(), &Family::ALL, Goal::Serve(model), &none, &|_| false, NOW);
    held.apply(&difference);
    (held, planner)
}

proptest! {
    #[test]
    fn moves_lead_to_what_is_wanted(models in proptest::collection::vec(model(), 1..5), active in 0u32..2) {
        let (mut held, mut planner) = serving(&models[0]);
        held.is_what_is_wanted(&settings(), &models[0]);
        for (step, pair) in models.windows(2).enumerate() {
            let now = NOW + step as u32;
            let all = moves(&pair[0], &pair[1]);
            // Refused once, then made one by one.
            let before = (planner.clone(), held.clone());
            let _ = planner.replan(&all, now);
            planner.revert(&all);
            prop_assert_eq!(planner.draining(), before.0.draining());
            prop_assert_eq!(Desired::of(&planner), Desired::of(&before.0));
            for one in all.chunks(1) {
                held.apply(&planner.replan(one, now));
            }
            held.tend(&mut planner, active, now);
        }
        held.tend(&mut planner, active, NOW + 10_000);
        prop_assert!(planner.draining().is_empty());
        held.is_what_is_wanted(&settings(), models.last().unwrap());
    }

    /// From whatever another process left, after any number of changes, drains under way among them.
    #[test]
    fn a_comparison_leads_to_what_is_wanted(
        models in proptest::collection::vec(model(), 2..4),
        last in model(),
        active in 0u32..2,
    ) {
        let (mut held, mut planner) = serving(&models[0]);
        for pair in models.windows(2) {
            held.apply(&planner.replan(&moves(&pair[0], &pair[1]), NOW));
        }
        let observed = held.observed(active);
        let nobody = |_: &VirtualServerKey| false;
        let (difference, mut planner) =
            compare(&settings(), &Family::ALL, Goal::Serve(&last), &observed, &nobody, NOW);
        held.apply(&difference);
        let again = compare(&settings(), &Family::ALL, Goal::Serve(&last), &held.observed(active), &nobody, NOW).0;
        prop_assert_eq!(again, Difference::default());
        held.tend(&mut planner, active, NOW + 10_000);
        held.is_what_is_wanted(&settings(), &last);
    }

    #[test]
    fn retiring_leaves_nothing_once_connections_are_over(first in model(), active in 0u32..2) {
        let (mut held, _) = serving(&first);
        for _ in 0..2 {
            let observed = held.observed(active);
            let (difference, mut planner) =
                compare(&settings(), &Family::ALL, Goal::Retire, &observed, &|_| false, NOW);
            held.apply(&difference);
            held.tend(&mut planner, active, NOW + 10_000);
        }
        prop_assert_eq!(held, Held::default());
    }
}

fn foreign(key: VirtualServerKey) -> ObservedVirtualServer {
    let server =
        VirtualServer { scheduler: Scheduler::new("wlc").unwrap(), flags: Default::default(), timeout: 0, prefix: 32 };
    ObservedVirtualServer { key, server, unknown: false, real_servers: BTreeMap::new() }
}

fn key(address: [u8; 4], port: u16) -> VirtualServerKey {
    VirtualServerKey::new(Protocol::Tcp, address.into(), port)
}

/// L16 to L19, with what kube-proxy lacks: a virtual server that nobody can show to be ours is nobody's to remove.
#[test]
fn l16_to_l19_whose_virtual_servers_go() {
    let (mut held, _) = serving(&[simple(1, &[1]), simple(2, &[2])]);
    let mut observed = held.observed(0);
    // keepalived's, beside ours and on a service's address and port.
    observed.servers.push(foreign(key([203, 0, 113, 9], 443)));
    observed.servers.push(foreign(key([172, 30, 0, 7], 80)));
    let compared = |model: &[Arc<ServicePort>], observed: &Observed, settings: &Arc<Settings>| {
        compare(settings, &Family::ALL, Goal::Serve(model), observed, &|_| false, NOW)
    };
    // And on another port of a service's address.
    observed.servers.push(foreign(key([172, 30, 0, 1], 8443)));
    let (difference, planner) = compared(&[simple(1, &[1]), simple(7, &[7])], &observed, &settings());
    let gone: Vec<_> = difference.servers.servers.keys().copied().collect();
    assert_eq!(gone, [key([172, 30, 0, 2], 80)], "L16, L17: ours that is not wanted, and nobody else's");
    let denied: Vec<_> = planner.denied().map(|(key, port)| (*key, port.name.to_string())).collect();
    assert_eq!(denied, [(key([172, 30, 0, 7], 80), "ns/s7:p".to_owned())]);
    assert!(!difference.links.add.contains(&IpAddr::from([172, 30, 0, 7])), "what is denied is not half done");
    // L18: what an administrator excludes stays.
    let mut excluding = (*settings()).clone();
    excluding.ipvs.exclude_cidrs = Box::new(["172.30.0.2/32".parse().unwrap()]);
    let (difference, _) = compared(&[simple(1, &[1])], &held.observed(0), &Arc::new(excluding));
    assert!(difference.servers.is_empty());
    // Without our record they are told by kube-proxy's sets and by the device.
    held.sets.remove(&Set::VirtualServers.name(Family::V4));
    let (difference, _) = compared(&[], &held.observed(0), &settings());
    assert_eq!(difference.servers.servers.len(), 2);
}

/// L15, L30: a real server that came back gets its weight at once, whoever took it away.
#[test]
fn l15_l30_nothing_is_stuck_at_weight_0() {
    let (both, one) = ([simple(1, &[1, 2])], [simple(1, &[1])]);
    let (mut held, mut planner) = serving(&both);
    held.apply(&planner.replan(&moves(&both, &one), NOW));
    let (_, reals) = &held.servers[&key([172, 30, 0, 1], 80)];
    let second = Endpoint::new([10, 0, 0, 2].into(), 8080);
    assert_eq!((reals[&second].weight, reals[&second].upper_threshold), (0, NOW + 900));
    let (left, _) = (held.clone(), &planner);
    held.apply(&planner.replan(&moves(&one, &both), NOW + 1));
    assert_eq!(held.servers[&key([172, 30, 0, 1], 80)].1[&second], RealServer::active(1), "L30");
    let mut held = left;
    let (difference, _) =
        compare(&settings(), &Family::ALL, Goal::Serve(&both), &held.observed(3), &|_| false, NOW + 1);
    held.apply(&difference);
    assert_eq!(held.servers[&key([172, 30, 0, 1], 80)].1[&second], RealServer::active(1), "L15, after a restart");
}

#[test]
fn one_endpoint_is_one_message() {
    let (before, after) = ([simple(1, &[1, 2]), simple(2, &[3])], [simple(1, &[1, 2, 4]), simple(2, &[3])]);
    let (_, mut planner) = serving(&before);
    let difference = planner.replan(&moves(&before, &after), NOW);
    let entries: usize = difference.sets.sets.values().map(|set| set.add.len() + set.remove.len()).sum();
    let reals: usize = difference.servers.servers.values().map(|server| server.real_servers.len()).sum();
    assert_eq!((entries, reals), (1, 1), "KUBE-LOOP-BACK has an entry for a pod of this node");
    assert!(difference.rules.is_empty() && difference.links.is_empty());
}

/// L20: an address is there as long as one of its ports is.
#[test]
fn l20_an_address_of_two_ports() {
    let second = |port: &Arc<ServicePort>| {
        let mut other = (**port).clone();
        other.key.name.port = "q".into();
        other.port = 81;
        Arc::new(other)
    };
    let first = simple(1, &[]);
    let both = [first.clone(), second(&first)];
    let (mut held, mut planner) = serving(&both);
    let address = IpAddr::from([172, 30, 0, 1]);
    for left in [1, 0] {
        let (before, after) = (&both[..left + 1], &both[..left]);
        held.apply(&planner.replan(&moves(before, after), NOW));
        assert_eq!(held.device.as_ref().unwrap().contains(&address), left == 1);
    }
}

#[test]
fn what_is_in_the_way_is_named() {
    let (held, _) = serving(&[]);
    let mut observed = held.observed(0);
    assert_eq!(obstacles(&observed, &Family::ALL), []);
    observed.sets[0].spec = Err("list:set".into());
    observed.device = Device::Other { kind: "veth".into() };
    let texts: Vec<String> = obstacles(&observed, &Family::ALL).iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("list:set") && texts[0].contains("ipset destroy"), "{texts:?}");
    assert!(texts[1].contains("kube-ipvs0") && texts[1].contains("veth"), "{texts:?}");
}

/// Where sources or destinations are hashed, a real server of weight 0 is chosen all the same, and then nobody answers:
/// sh and mh are told to go on to another one, dh cannot be told.
#[test]
fn a_real_server_of_weight_0_refuses_nobody() {
    let service = |scheduler: &str, endpoints: &[u8]| {
        let mut port = ServicePort::clone(&simple(1, endpoints));
        port.tuning = Some(Arc::new(Tuning { scheduler: Some(scheduler.into()), ..Tuning::default() }));
        Arc::new(port)
    };
    let fallback = ServerFlags(0x8);
    let key = key([172, 30, 0, 1], 80);
    let went = Endpoint::new([10, 0, 0, 2].into(), 8080);
    for (scheduler, flags, drains) in
        [("rr", ServerFlags(0), true), ("sh", fallback, true), ("mh", fallback, true), ("dh", ServerFlags(0), false)]
    {
        let (before, after) = ([service(scheduler, &[1, 2])], [service(scheduler, &[1])]);
        let (held, mut planner) = serving(&before);
        assert_eq!(held.servers[&key].0.flags, flags, "{scheduler}");
        let moved = planner.replan(&moves(&before, &after), NOW);
        let observed = held.observed(1);
        let (compared, _) = compare(&settings(), &Family::ALL, Goal::Serve(&after), &observed, &|_| false, NOW);
        for difference in [moved, compared] {
            let change = difference.servers.servers[&key].real_servers[&went];
            assert_eq!(change.after.map(|server| server.weight), drains.then_some(0), "{scheduler}");
        }
        // A service that goes has nobody to serve.
        let moved = serving(&before).1.replan(&moves(&before, &[]), NOW);
        assert!(moved.servers.servers[&key].real_servers.values().all(|change| change.after.is_some()), "{scheduler}");
    }
    // From one scheduler to the other while something drains.
    let models = [[service("rr", &[1, 2])], [service("rr", &[1])], [service("dh", &[1])]];
    let (mut held, mut planner) = serving(&models[0]);
    for pair in models.windows(2) {
        held.apply(&planner.replan(&moves(&pair[0], &pair[1]), NOW));
    }
    assert!(planner.draining().is_empty());
    held.is_what_is_wanted(&settings(), &models[2]);
}

/// No time to drain is none, not until somebody looks.
#[test]
fn without_a_time_to_drain_a_real_server_goes_at_once() {
    let mut settings = (*settings()).clone();
    settings.ipvs.drain_seconds = 0;
    let (before, after) = ([simple(1, &[1, 2])], [simple(1, &[1])]);
    let (_, mut planner) = Desired::plan(&Arc::new(settings), &Family::ALL, &before);
    let moved = planner.replan(&moves(&before, &after), NOW);
    let change =
        moved.servers.servers[&key([172, 30, 0, 1], 80)].real_servers[&Endpoint::new([10, 0, 0, 2].into(), 8080)];
    assert_eq!(change.after, None);
    assert!(planner.draining().is_empty());
}
