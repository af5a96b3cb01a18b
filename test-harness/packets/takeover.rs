//! A node where kube-proxy has been: weir starts over its rules, while clients connect.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use weir::cmd::accounting::Accounting;
use weir::cmd::settle::{self, HostFacts};
use weir::cmd::{Cli, Command};
use weir::kernel::xtables::{Changes, Table, Xtables};
use weir::lab::{Flow, Probe};
use weir::model::Settings;
use weir::net::Family;
use weir::plan::iptables::Desired;
use weir::resolve::{NodeContext, Options, resolve};
use weir::state::{State, Update};

use super::kube_proxy::endpoint_ip;
use super::left::Left;
use super::lifetime::{cannot_write, without_counters};
use super::manifests::{NODE, facts};
use super::node::Weir;
use super::served::{more, objects, objects_away, six};
use super::stream::while_connecting;
use super::variants::{on_each_variant, save};
use super::world::{FLAGS, SELDOM};

impl Left {
    /// What `weir diff` would show.
    fn difference(&self, updates: Vec<Update>) -> Changes {
        let mut state = State::default();
        state.apply(updates);
        let node = NodeContext::of(&state, NODE.into());
        let names: Vec<_> = state.service_names().cloned().collect();
        let mut model: Vec<_> =
            names.iter().flat_map(|name| resolve(&state, name, &node, &Options::default())).collect();
        model.sort_by(|a, b| a.key.cmp(&b.key));
        let mut driver = self.world.driver.clone();
        let families = self.world.families();
        let look = || {
            let mut comparison = Desired::plan(&Arc::new(settings()), &families, &model).0.compare();
            for family in families {
                for table in Table::ALL {
                    driver.observe(family, table, &mut |chain| comparison.observed(family, table, chain)).unwrap();
                }
            }
            comparison.finish()
        };
        self.world.lab.node().run(look).unwrap()
    }

    /// What is not kube-proxy's, in the order in which it is there.
    fn others_rules(&self) -> Vec<String> {
        let ours = ["ADMIN", "CNI-", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", "KUBE-FIREWALL"];
        let saved = |family| without_counters(&save(self.world.lab.node(), &self.world.driver, family));
        let lines: Vec<String> = self.world.families().into_iter().map(saved).collect();
        let lines = lines.iter().flat_map(|text| text.lines());
        lines.filter(|line| ours.iter().any(|name| line.contains(name))).map(str::to_owned).collect()
    }

    /// weir takes over while clients connect. Whatever differed before does not any more, and others' rules are as they
    /// were.
    fn take_over(&self, objects: &[String]) -> usize {
        let others = self.others_rules();
        assert!(others.len() >= 20, "{others:?}");
        let (weir, connections) = while_connecting(&self.clients(), || {
            let weir = self.world.another(SELDOM);
            weir.tell(facts(objects));
            weir
        });
        drop(weir);
        let left = self.difference(facts(objects));
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.others_rules(), others);
        connections
    }
}

/// As a process of these flags has them on the lab's node.
fn settings() -> Settings {
    let Command::Proxy(args) = Cli::parse_from(["weir", "proxy"].iter().chain(&FLAGS)).command else { unreachable!() };
    let accounting = Accounting::foretell(&Family::ALL);
    let host = HostFacts { accounting, ..HostFacts::read().unwrap() };
    settle::settings(&settle::complete(&args.options).unwrap().rules, None, &host)
}

/// Chains that would change, without the family.
fn changed(changes: &Changes) -> Vec<String> {
    let mut names: Vec<String> = changes.chains.keys().map(|key| format!("{} {}", key.table, key.name)).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn over_kube_proxys_rules_nothing_changes() {
    on_each_variant(|variant| {
        let services = six();
        let Some(left) = Left::new(variant, &services, true) else { return };
        let updates = || facts(&objects(&services));
        let changes = left.difference(updates());
        assert!(changes.is_empty(), "{variant}: {changes:#?}");
        // A weir that cannot write has nothing to do either.
        let others = left.others_rules();
        let (status, connections) = while_connecting(&left.clients(), || {
            let weir = Weir::start(left.world.lab.node(), cannot_write(&left.world.driver), &FLAGS, SELDOM);
            weir.tell(updates());
            weir.stop()
        });
        assert_eq!((status.counters.repairs, status.counters.applies), (1, 0), "{status:?}");
        assert_eq!(status.counters.repair_failures.total(), 0, "{status:?}");
        assert_eq!(left.others_rules(), others);
        println!("{variant}: {connections} connections during a takeover that changed nothing");
    });
}

/// Endpoints on other nodes: their chains go, the chains that chose them lead to them directly, and nothing else
/// changes. Then kube-proxy comes back. Nobody who connects meanwhile notices, nor does a connection that is open.
#[test]
fn chains_of_endpoints_elsewhere_go_and_come_back() {
    on_each_variant(|variant| {
        let services = six();
        let Some(left) = Left::new(variant, &services, true) else { return };
        let objects = objects_away(&services, &[1, 4]);
        let changes = left.difference(facts(&objects));
        let count = |start: &str, stays: bool| {
            let named = changes.chains.iter().filter(|(key, _)| key.name.as_str().starts_with(start));
            named.filter(|(_, change)| change.after.is_some() == stays).count()
        };
        let families = left.world.families().len();
        assert_eq!(count("KUBE-SVC-XPGD46QRK7WJZT7O", true), families, "svc1");
        assert_eq!(count("KUBE-SVC-4SW47YFZTEDKD3PK", true), families, "svc4");
        assert_eq!(count("KUBE-SEP-", false), 2 * families, "endpoints 1 and 4");
        assert_eq!((changes.chains.len(), changes.builtin.len()), (4 * families, 0), "{:?}", changed(&changes));

        let open = || left.clients().into_iter().map(|(host, to)| Flow::open(host, &Probe::tcp(to)).unwrap());
        let mut flows: Vec<Flow> = open().collect();
        let servers: Vec<String> = flows.iter_mut().map(|flow| flow.ask().unwrap().server).collect();
        let there = left.take_over(&objects);
        flows.extend(open());
        let new_servers: Vec<String> = flows[servers.len()..].iter_mut().map(|f| f.ask().unwrap().server).collect();
        let ((), back) = while_connecting(&left.clients(), || left.give_back(&services));
        for (flow, server) in flows.iter_mut().zip(servers.iter().chain(&new_servers)) {
            assert_eq!(flow.ask().unwrap().server, *server, "{variant}: a connection that was open");
        }
        let changes = left.difference(facts(&objects));
        assert_eq!(changes.chains.len(), 4 * families, "as at first: {:?}", changed(&changes));
        println!("{variant}: {there} connections on the way there, {back} on the way back");
    });
}

/// kube-proxy writes services in whatever order its maps have. Then the chains where the order shows are written anew,
/// and no other.
#[test]
fn another_order_of_services_changes_only_the_dispatch() {
    on_each_variant(|variant| {
        let mut services = six();
        services.reverse();
        let Some(left) = Left::new(variant, &services, true) else { return };
        let changes = left.difference(facts(&objects(&services)));
        assert_eq!(changed(&changes), ["nat KUBE-NODEPORTS", "nat KUBE-SERVICES"]);
        assert_eq!(changes.builtin, []);
        left.take_over(&objects(&services));
    });
}

/// Large clusters: chains on the way to endpoints have no comments, and one chain has a rule for every service.
#[test]
fn a_large_clusters_rules_are_taken_over_under_traffic() {
    on_each_variant(|variant| {
        let services = [six(), more()].concat();
        let Some(left) = Left::new(variant, &services, false) else { return };
        let changes = left.difference(facts(&objects(&services)));
        let names = changed(&changes);
        let others = ["KUBE-EXT-", "KUBE-FW-", "KUBE-FORWARD", "KUBE-POSTROUTING", "KUBE-MARK", "filter", "mangle"];
        let wrong: Vec<_> = names.iter().filter(|name| others.iter().any(|other| name.contains(other))).collect();
        assert!(wrong.is_empty(), "{variant}: these are as they were: {wrong:?}");
        assert!(names.contains(&"nat KUBE-SERVICES".to_owned()) && changes.builtin.is_empty(), "{names:?}");
        let connections = left.take_over(&objects(&services));
        println!("{variant}: {connections} connections while {} chains changed", changes.chains.len());
    });
}

/// Services that went while nobody was there, one that changed, one that came.
#[test]
fn what_is_stale_goes_and_the_rest_is_served_on() {
    on_each_variant(|variant| {
        let old = [six(), more()].concat();
        let Some(left) = Left::new(variant, &old, true) else { return };
        let mut new = [six(), more().split_off(30)].concat();
        new[2].endpoints = vec![1, 2];
        new[5].endpoints = vec![5];
        let changes = left.difference(facts(&objects(&new)));
        let deleted = changes.chains.values().filter(|change| change.after.is_none()).count();
        // Of each of thirty: the service and its endpoint; and the one endpoint that was replaced.
        assert_eq!(deleted, (30 * 2 + 1) * left.world.families().len(), "{:?}", changed(&changes));
        left.take_over(&objects(&new));
        left.world.judge_both(|family| {
            let endpoint = |number| SocketAddr::new(endpoint_ip(family, number), 80).to_string();
            let seen = |number| super::seen::Seen::Masqueraded(endpoint(number));
            vec![
                super::world::tcp("takeover", "client", (left.world.node_ip(family), 30003), [seen(1), seen(2)]),
                super::world::tcp("takeover", "client", (new[5].vip(family), 80), [seen(5)]),
            ]
        });
    });
}
