//! Cleanup of simulated nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::find::Leftovers;
use super::node::{Node, Rules};
use super::*;
use crate::cmd::diff::lines::RuleRef;
use crate::engine::{Backend, IptablesBackend, IpvsBackend, IpvsHooks, Kernel, RepairMode};
use crate::kernel::ipset::{Entries, Entry, ObservedSet, SetName, SetSpec, SetType};
use crate::kernel::ipvs::{Ipvs, ObservedVirtualServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::kernel::link::Device;
use crate::kernel::nfacct::{Counters, NfacctError};
use crate::kernel::nftables::ObservedTable;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{ChainName, ObservedRule, Scope, Table};
use crate::kernel::{ApplyError, ObserveError};
use crate::model::ServicePort;
use crate::net::{Family, Protocol};
use crate::plan::ipvs::testing::{model, settings, simple};
use crate::sim::{SimIpvs, SimKernel, SimLinks, SimSets};

type Shared<T> = Arc<Mutex<T>>;
type Model = Vec<Arc<ServicePort>>;

/// A machine in memory.
#[derive(Clone)]
struct Machine {
    rules: BTreeMap<Variant, Shared<SimKernel>>,
    sets: Shared<SimSets>,
    links: Shared<SimLinks>,
    servers: Shared<SimIpvs>,
    names: Shared<Names>,
}

/// Tables and accounting objects have nothing but names here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    tables: BTreeSet<ObservedTable>,
    counters: BTreeSet<String>,
}

struct OfTables(Shared<Names>);
struct OfCounters(Shared<Names>);

impl Tables for OfTables {
    fn observe(&mut self, name: &str) -> Result<Vec<ObservedTable>, ObserveError> {
        Ok(self.0.lock().unwrap().tables.iter().filter(|table| *table.name == *name).cloned().collect())
    }

    fn delete(&mut self, table: &ObservedTable) -> Result<(), ApplyError> {
        self.0.lock().unwrap().tables.remove(table);
        Ok(())
    }
}

impl Counters for OfCounters {
    fn has(&mut self, name: &str) -> Result<bool, NfacctError> {
        Ok(self.0.lock().unwrap().counters.contains(name))
    }

    fn delete(&mut self, name: &str) -> Result<(), NfacctError> {
        self.0.lock().unwrap().counters.remove(name);
        Ok(())
    }
}

/// Everything that a machine holds. Built-in chains without rules are there once somebody looked.
#[derive(Debug, PartialEq)]
struct State {
    /// Each with its rules: `nft IPv4 nat KUBE-SERVICES`.
    chains: BTreeMap<String, Vec<String>>,
    sets: Vec<ObservedSet>,
    device: Device,
    servers: Vec<ObservedVirtualServer>,
    names: Names,
}

impl Machine {
    fn new() -> Machine {
        let shared = |variant| (variant, Arc::new(Mutex::new(SimKernel::new(variant))));
        Machine {
            rules: Variant::ALL.map(shared).into(),
            sets: Arc::new(Mutex::new(SimSets::new())),
            links: Arc::new(Mutex::new(SimLinks::new())),
            servers: Arc::new(Mutex::new(SimIpvs::new(7))),
            names: Arc::default(),
        }
    }

    fn node(&self) -> Node {
        let rules = self.rules.iter().map(|(variant, kernel)| Rules {
            variant: *variant,
            families: Family::ALL.to_vec(),
            kernel: Box::new(kernel.clone()),
        });
        let servers = self.servers.clone();
        Node {
            rules: rules.collect(),
            sets: Some(Box::new(self.sets.clone())),
            links: Some(Box::new(self.links.clone())),
            servers: Box::new(move || Ok(Some(Box::new(servers.clone()) as Box<dyn Ipvs>))),
            tables: Some(Box::new(OfTables(self.names.clone()))),
            counters: Some(Box::new(OfCounters(self.names.clone()))),
            addresses: settings().local_addresses.clone(),
            problems: Vec::new(),
        }
    }

    fn find(&self) -> Leftovers {
        Leftovers::find(&mut self.node(), &[])
    }

    /// Cleans up, and gives the problems.
    fn clean(&self) -> Vec<String> {
        let mut node = self.node();
        let leftovers = Leftovers::find(&mut node, &[]);
        remove::all(&mut node, leftovers)
    }

    fn edit(&self, variant: Variant, family: Family, text: &str) {
        self.rules[&variant].lock().unwrap().edit(family, text).unwrap();
    }

    fn serve_by_iptables(&self, variant: Variant, model: &[Arc<ServicePort>]) {
        let shared = Arc::new(Mutex::new(settings()));
        let mut backend = IptablesBackend::new(self.rules[&variant].clone(), shared, Family::ALL.into());
        backend.repair(model, &Scope::All, RepairMode::Repair).unwrap();
    }

    fn serve_by_ipvs(&self, variant: Variant, model: &[Arc<ServicePort>]) {
        let kernel = Kernel {
            rules: self.rules[&variant].clone(),
            sets: self.sets.clone(),
            links: self.links.clone(),
            servers: self.servers.clone(),
        };
        let shared = Arc::new(Mutex::new(settings()));
        let mut backend = IpvsBackend::new(kernel, shared, Family::ALL.into(), IpvsHooks::default());
        backend.repair(model, &Scope::All, RepairMode::Repair).unwrap();
    }

    /// As kube-proxy's nftables mode does.
    fn serve_by_nftables(&self) {
        let mut names = self.names.lock().unwrap();
        let table = |family| ObservedTable { family, name: KUBE_PROXY_TABLE.into(), objects: 7 };
        names.tables.extend(Family::ALL.map(table));
    }

    fn state(&self) -> State {
        let mut chains = BTreeMap::new();
        for (variant, kernel) in &self.rules {
            for family in Family::ALL {
                for table in Table::ALL {
                    let all = kernel.lock().unwrap().chains(family, table);
                    let is_there =
                        |name: &ChainName, rules: &[ObservedRule]| !rules.is_empty() || name.as_str().contains('-');
                    for (name, rules) in all.into_iter().filter(|(name, rules)| is_there(name, rules)) {
                        let text = |rule: &ObservedRule| RuleRef::from(rule).text(family);
                        let rules = rules.iter().map(text).collect();
                        chains.insert(format!("{variant} {family} {table} {name}"), rules);
                    }
                }
            }
        }
        State {
            chains,
            sets: self.sets.lock().unwrap().sets().collect(),
            device: self.links.lock().unwrap().device().clone(),
            servers: self.servers.lock().unwrap().servers(),
            names: self.names.lock().unwrap().clone(),
        }
    }
}

/// The kubelet's.
const KUBELET: &str = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n\
                       *filter\n:KUBE-FIREWALL - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n\
                       -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\n\
                       -A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL\nCOMMIT\n";

/// The kubelet's too, and every proxy's.
const MARTIANS: &str = "*filter\n-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming \
                        localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\nCOMMIT\n";

/// Others' rules.
const FOREIGN_RULES: [&str; 7] = [
    "*nat\n:KUBE-MARK-DROP - [0:0]\n-A KUBE-MARK-DROP -j MARK --or-mark 0x8000\nCOMMIT\n",
    "*nat\n:CNI-HOSTPORT - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT\nCOMMIT\n",
    "*filter\n:KUBE-NWPLCY-X - [0:0]\n-A FORWARD -j KUBE-NWPLCY-X\nCOMMIT\n",
    "*filter\n-A INPUT -s 203.0.113.7/32 -j DROP\nCOMMIT\n",
    "*nat\n-A POSTROUTING -s 10.9.0.0/16 -o eth0 -j MASQUERADE\nCOMMIT\n",
    "*filter\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -m comment --comment \"like -j KUBE-SERVICES\" -j RETURN\nCOMMIT\n",
    "*mangle\n:ADMIN-TOS - [0:0]\n-A PREROUTING -m odd --thing 1 -j ADMIN-TOS\nCOMMIT\n",
];

/// Puts others' things on a machine, those whose bits are set. Rules of IPv6 are given where they say nothing of addresses.
fn add_foreign(machine: &Machine, bits: u32) {
    let is_set = |bit: usize| bits >> bit & 1 == 1;
    for (bit, rules) in FOREIGN_RULES.iter().enumerate().filter(|(bit, _)| is_set(*bit)) {
        let variant = Variant::ALL[usize::from(is_set(bit + 7))];
        machine.edit(variant, Family::V4, rules);
        if !rules.contains(" -s ") {
            machine.edit(variant, Family::V6, rules);
        }
    }
    for (bit, name) in [(14, "KUBE-NOT-OURS"), (15, "blocklist"), (16, "KUBE-6-SOMETHING")] {
        if is_set(bit) {
            let spec = SetSpec { set_type: SetType::HashIp, family: Family::V4, comments: true };
            let entries = Entries::from([(Entry::Ip([203, 0, 113, 7].into()), Some("bad".into()))]);
            machine.sets.lock().unwrap().put(ObservedSet { name: SetName::new(name), spec: Ok(spec), entries });
        }
    }
    // At an address of its own, and at the node's with a port that no service has.
    for (bit, address) in [(17, [10, 99, 0, 1]), (18, [192, 168, 0, 2])] {
        if is_set(bit) {
            machine.servers.lock().unwrap().add_foreign(virtual_server(address.into(), 8443));
        }
    }
    let mut names = machine.names.lock().unwrap();
    for (bit, name) in [(19, "kube-proxy-x"), (20, "filter")] {
        if is_set(bit) {
            names.tables.insert(ObservedTable { family: Family::V4, name: name.into(), objects: 1 });
        }
    }
    if is_set(21) {
        names.counters.insert("bytes_of_admin".to_owned());
    }
}

fn virtual_server(address: std::net::IpAddr, port: u16) -> ObservedVirtualServer {
    ObservedVirtualServer {
        key: VirtualServerKey::new(Protocol::Tcp, address, port),
        server: VirtualServer {
            scheduler: Scheduler::round_robin(),
            flags: ServerFlags::default(),
            timeout: 0,
            prefix: 32,
        },
        unknown: false,
        real_servers: BTreeMap::new(),
    }
}

/// A machine with the kubelet's rules, of both variants.
fn with_kubelet() -> Machine {
    let machine = Machine::new();
    for variant in Variant::ALL {
        Family::ALL.into_iter().for_each(|family| machine.edit(variant, family, KUBELET));
        machine.edit(variant, Family::V4, MARTIANS);
    }
    machine
}

/// In which modes a proxy was on a machine.
#[derive(Clone, Copy, Debug)]
enum Was {
    Nowhere,
    Iptables,
    Ipvs,
}

fn was() -> impl Strategy<Value = Was> {
    prop_oneof![Just(Was::Nowhere), Just(Was::Iptables), Just(Was::Ipvs)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// L64, J17: whatever ours and others' things are there, afterwards others' are, just as they were; and again.
    #[test]
    fn exactly_what_is_foreign_is_left(
        foreign in any::<u32>(),
        foreign_first in any::<bool>(),
        modes in [was(), was()],
        nftables in any::<bool>(),
        counters in any::<bool>(),
        models in [model(), model()],
    ) {
        let alone = with_kubelet();
        add_foreign(&alone, foreign);
        let machine = with_kubelet();
        if foreign_first {
            add_foreign(&machine, foreign);
        }
        for ((variant, was), model) in Variant::ALL.into_iter().zip(modes).zip(&models) {
            match was {
                Was::Nowhere => {}
                Was::Iptables => machine.serve_by_iptables(variant, model),
                Was::Ipvs => machine.serve_by_ipvs(variant, model),
            }
        }
        if nftables {
            machine.serve_by_nftables();
        }
        if counters {
            let ours = ["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"].map(str::to_owned);
            machine.names.lock().unwrap().counters.extend(ours);
        }
        if !foreign_first {
            add_foreign(&machine, foreign);
        }
        let listed = machine.find();
        prop_assert_eq!(listed.problems(), Vec::<String>::new());
        let nothing = matches!(modes, [Was::Nowhere, Was::Nowhere]) && !nftables && !counters;
        prop_assert_eq!(listed.grouped().summary.is_empty(), nothing);

        prop_assert_eq!(machine.clean(), Vec::<String>::new());
        prop_assert_eq!(machine.state(), alone.state());
        prop_assert!(machine.find().grouped().summary.is_empty());
        prop_assert_eq!(machine.clean(), Vec::<String>::new());
        prop_assert_eq!(machine.state(), alone.state());
    }
}

fn two() -> Model {
    vec![simple(1, &[1, 2]), simple(2, &[3])]
}

fn text(leftovers: &Leftovers) -> String {
    let mut out = Vec::new();
    super::text::write(&mut anstream::StripStream::new(&mut out), &leftovers.grouped()).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_list_names_each_thing_once_as_weir_diff_does() {
    let machine = with_kubelet();
    assert_eq!(text(&machine.find()), "Nothing to change.\n");
    machine.serve_by_iptables(Variant::Nft, &two());
    let one = text(&machine.find());
    assert!(one.contains("\n@@ IPv4 nat KUBE-SERVICES @@ chain goes\n"), "{one}");
    assert!(one.contains("service ns/s1:p\n@@ IPv4 nat KUBE-SERVICES @@\n"), "{one}");
    assert!(!one.contains("KUBE-FIREWALL"), "{one}");

    machine.serve_by_ipvs(Variant::Legacy, &two());
    machine.serve_by_nftables();
    machine.names.lock().unwrap().counters.insert("localhost_nps_accepted_pkts".to_owned());
    let all = text(&machine.find());
    for line in [
        "@@ nft IPv4 nat KUBE-SERVICES @@ chain goes",
        "@@ legacy IPv4 nat KUBE-SERVICES @@ chain goes",
        "-create WEIR-VIRTUAL-SERVERS hash:ip,port family inet hashsize 1024 maxelem 65536",
        "--A -t 172.30.0.1:80 -s rr",
        "@@ kube-ipvs0 @@ device goes",
        "@@ nftables @@",
        "-table ip kube-proxy # chains, sets and maps: 7",
        "-table ip6 kube-proxy # chains, sets and maps: 7",
        "@@ nfacct @@",
        "-object localhost_nps_accepted_pkts",
    ] {
        assert_eq!(all.lines().filter(|found| *found == line).count(), 1, "{line:?} in:\n{all}");
    }
    let summary = all.lines().last().unwrap();
    for part in [
        "nftables tables: 0 to add, 2 to remove",
        "accounting objects: 0 to add, 1 to remove",
        "devices: 0 to add, 1 to remove",
    ] {
        assert!(summary.contains(part), "{part:?} in {summary}");
    }
    assert!(!all.lines().any(|line| line.starts_with('+')), "{all}");
}

/// A rule of somebody else that uses ours: named, and what it uses stays and works as it did. All else goes.
#[test]
fn what_a_foreign_rule_uses_stays_and_is_told() {
    let machine = with_kubelet();
    machine.serve_by_iptables(Variant::Nft, &two());
    machine.serve_by_ipvs(Variant::Legacy, &two());
    let admin = "*nat\n-A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ\n-A POSTROUTING -s 10.8.0.0/16 -j KUBE-MARK-MASQ\nCOMMIT\n";
    machine.edit(Variant::Nft, Family::V4, admin);
    machine.edit(
        Variant::Legacy,
        Family::V4,
        "*filter\n:ADMIN - [0:0]\n-A ADMIN -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n",
    );
    let named = SetName::new("KUBE-CLUSTER-IP");
    machine.sets.lock().unwrap().set_in_use(BTreeSet::from([named.clone()]));
    let expected = [
        "the ipset KUBE-CLUSTER-IP stays, for this rule of iptables-legacy is not ours and names it: IPv4 filter -A ADMIN \
         -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT; delete such rules and run this again",
        "the chain IPv4 nat KUBE-MARK-MASQ of iptables-nft stays, for this rule of iptables-nft is not ours and names it: \
         IPv4 nat -A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ and another one; delete such rules and run this again",
    ];
    assert_eq!(machine.find().problems(), expected);
    assert_eq!(machine.clean(), expected);
    let alone = with_kubelet();
    alone.edit(
        Variant::Nft,
        Family::V4,
        &format!("*nat\n:KUBE-MARK-MASQ - [0:0]\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\nCOMMIT\n{admin}"),
    );
    alone.edit(
        Variant::Legacy,
        Family::V4,
        "*filter\n:ADMIN - [0:0]\n-A ADMIN -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n",
    );
    let (State { chains, sets, .. }, left) = (machine.state(), alone.state());
    assert_eq!(chains, left.chains);
    assert_eq!(sets.iter().map(|set| &set.name).collect::<Vec<_>>(), [&named]);

    // The rules are gone: so is the rest.
    for rule in ["-s 10.9.0.0/16", "-s 10.8.0.0/16"] {
        machine.edit(Variant::Nft, Family::V4, &format!("*nat\n-D POSTROUTING {rule} -j KUBE-MARK-MASQ\nCOMMIT\n"));
    }
    machine.edit(
        Variant::Legacy,
        Family::V4,
        "*filter\n-D ADMIN -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n-X ADMIN\nCOMMIT\n",
    );
    machine.sets.lock().unwrap().set_in_use(BTreeSet::new());
    assert_eq!(machine.clean(), [""; 0]);
    assert_eq!(machine.state(), with_kubelet().state());
}

#[test]
fn a_chain_that_leads_on_keeps_what_it_leads_to() {
    let machine = with_kubelet();
    machine.serve_by_iptables(Variant::Nft, &two());
    machine.edit(Variant::Nft, Family::V4, "*nat\n:ADMIN - [0:0]\n-A ADMIN -j KUBE-SERVICES\nCOMMIT\n");
    let before = machine.state();
    let problems = machine.clean();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("the chain IPv4 nat KUBE-SERVICES of iptables-nft stays"), "{problems:?}");
    assert!(problems[0].contains("; and so do "), "{problems:?}");
    let (before, after) = (before.chains, machine.state().chains);
    let is_nat = |name: &String| name.starts_with("nft IPv4 nat KUBE-S");
    assert!(before.keys().filter(|name| is_nat(name)).count() > 2);
    for (name, rules) in before.iter().filter(|(name, _)| is_nat(name)) {
        assert_eq!(after.get(name), Some(rules), "whoever comes through ADMIN finds services as before");
    }
    assert!(!after.keys().any(|name| name.starts_with("nft IPv6 nat")), "{after:?}");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_goes() {
    let machine = with_kubelet();
    machine.serve_by_iptables(Variant::Legacy, &two());
    machine.serve_by_ipvs(Variant::Nft, &two());
    machine.serve_by_nftables();
    machine.servers.lock().unwrap().set_unavailable(Some(nix::errno::Errno::EPERM));
    let sets = machine.state().sets;
    let problems = machine.clean();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("sets and virtual servers stay, for they cannot be told apart"), "{problems:?}");
    let state = machine.state();
    assert_eq!((state.sets, state.chains, state.names), (sets, with_kubelet().state().chains, Names::default()));
    machine.servers.lock().unwrap().set_unavailable(None);
    assert_eq!(machine.clean(), [""; 0]);
    assert_eq!(machine.state(), with_kubelet().state());
}

/// A step that fails does not keep the others from being made.
#[test]
fn what_cannot_be_removed_is_told_and_the_rest_goes() {
    let machine = with_kubelet();
    machine.serve_by_ipvs(Variant::Nft, &two());
    machine.serve_by_nftables();
    machine.sets.lock().unwrap().set_in_use(BTreeSet::from([SetName::new("KUBE-LOOP-BACK")]));
    let problems = machine.clean();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("the ipset KUBE-LOOP-BACK cannot be destroyed"), "{problems:?}");
    let State { chains, sets, device, servers, names } = machine.state();
    assert_eq!((chains, device, names), (with_kubelet().state().chains, Device::Absent, Names::default()));
    assert_eq!((sets.len(), servers.len()), (1, 0));
}

#[test]
fn a_device_of_another_kind_is_nobodys_of_ours() {
    let machine = with_kubelet();
    machine.links.lock().unwrap().set_device(Device::Other { kind: "bridge".into() });
    let problems = machine.clean();
    assert_eq!(
        problems,
        ["the device kube-ipvs0 stays: it is a bridge and no dummy device, so neither kube-proxy nor weir made it"]
    );
}

/// A kernel without IPVS, ipset, accounting and nf_tables.
#[test]
fn what_cannot_be_there_is_skipped() {
    let machine = with_kubelet();
    machine.serve_by_iptables(Variant::Legacy, &two());
    machine.links.lock().unwrap().set_device(Device::Dummy { addresses: BTreeSet::new() });
    let without = || {
        let mut node = machine.node();
        node.rules.retain(|rules| rules.variant == Variant::Legacy);
        (node.sets, node.tables, node.counters, node.servers) = (None, None, None, Box::new(|| Ok(None)));
        node
    };
    let mut node = without();
    let leftovers = Leftovers::find(&mut node, &[]);
    assert_eq!(leftovers.problems(), [""; 0]);
    assert_eq!(remove::all(&mut node, leftovers), [""; 0]);
    assert_eq!(machine.state(), with_kubelet().state());
    assert!(Leftovers::find(&mut without(), &[]).grouped().summary.is_empty());
}

#[test]
fn excluded_networks_keep_their_virtual_servers() {
    let machine = with_kubelet();
    machine.serve_by_ipvs(Variant::Nft, &two());
    let mut node = machine.node();
    let leftovers = Leftovers::find(&mut node, &["172.30.0.2/32".parse().unwrap()]);
    assert_eq!(remove::all(&mut node, leftovers), [""; 0]);
    let left: Vec<String> = machine.state().servers.iter().map(|server| server.key.to_string()).collect();
    assert_eq!(left, ["172.30.0.2:80/TCP"]);
}

#[test]
fn many_problems_are_one_line() {
    assert!(told(&[]).is_ok());
    let failure = told(&["a stays".to_owned(), "b stays".to_owned()]).unwrap_err();
    assert_eq!(failure.to_string(), "encountered an error while tearing down rules: a stays; b stays");
}
