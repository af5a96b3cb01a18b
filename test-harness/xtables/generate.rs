//! Random rules and changes that a kernel accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir::kernel::xtables::encode::ONE;
use weir::kernel::xtables::{
    AddrTypeMatch, BuiltinChange, ChainChange, ChainKey, ChainName, Changes, CtStates, InterfaceMatch, Match, NetMatch,
    ObservedRule, PortRange, RecentAction, Rule, Table, Target,
};
use weir::net::{Endpoint, Family, Protocol};

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn maybe<T>(&mut self, percent: usize, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.chance(percent).then(|| make(self))
    }

    fn ip(&mut self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(self.next() as u32 | 1 << 24)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(u128::from(self.next()) << 64 | 0xfd << 120)),
        }
    }

    fn net(&mut self, family: Family) -> NetMatch {
        let length = 1 + self.below(usize::from(family.bits())) as u8;
        NetMatch { invert: self.chance(30), net: IpNet::new(self.ip(family), length).unwrap().trunc() }
    }

    fn ports(&mut self) -> PortRange {
        let (a, b) = (self.next() as u16 | 1, self.next() as u16 | 1);
        // iptables-nft turns an inverted range into two ranges or another one; one port keeps its `!`.
        if self.chance(70) {
            PortRange { invert: self.chance(30), ..PortRange::one(a) }
        } else {
            PortRange { invert: false, first: a.min(b), last: a.max(b) }
        }
    }

    fn comment(&mut self) -> String {
        const ALPHABET: &[u8] = b"abcXYZ019-_ .:/,;'\"\\$`!#%&()*+<=>?@[]^{|}~";
        let length = self.below(40);
        (0..length).map(|_| char::from(*self.pick(ALPHABET))).collect()
    }

    fn a_match(&mut self) -> Match {
        match self.below(6) {
            0 => Match::Comment(self.comment().into()),
            1 => {
                let mask = self.next() as u32 | 1;
                Match::Mark { invert: self.chance(50), value: self.next() as u32 & mask, mask }
            }
            2 => Match::Random { probability: self.next() as u32 % (ONE + 1) },
            3 => {
                let seconds = 1 + self.below(100_000) as u32;
                let check = RecentAction::Check { seconds, reap: self.chance(50) };
                let action = if self.chance(50) { RecentAction::Set } else { check };
                Match::Recent { name: format!("KUBE-SEP-{}", self.below(5)).into(), action }
            }
            4 => {
                let source_local = self.maybe(50, |r| r.chance(50));
                let destination_local = self.maybe(50, |r| r.chance(50)).or(source_local.is_none().then_some(false));
                Match::AddrType(AddrTypeMatch { source_local, destination_local })
            }
            _ => {
                let bits = 1 + self.below(127) as u16;
                Match::CtState { invert: self.chance(50), states: CtStates(bits & 0x0f | (bits & 0x70) << 2) }
            }
        }
    }

    /// A rule for a chain of the table that goes to one of `callees`, if anywhere.
    pub fn rule(&mut self, family: Family, table: Table, callees: &[ChainName]) -> Rule {
        let protocol = self.maybe(60, |r| *r.pick(&Protocol::ALL));
        let mut matches: Vec<Match> = (0..self.below(3)).map(|_| self.a_match()).collect();
        if let Some(protocol) = protocol.filter(|_| self.chance(70)) {
            let (mut source, destination) = (self.maybe(20, Random::ports), self.maybe(80, Random::ports));
            // iptables-nft writes two inverted ports as "not both of them", which is something else.
            if let (Some(source), Some(PortRange { invert: true, .. })) = (&mut source, &destination) {
                source.invert = false;
            }
            matches.push(Match::Ports { protocol, source, destination });
        }
        let interface = |r: &mut Random, name: &str| InterfaceMatch { invert: r.chance(50), name: name.into() };
        Rule {
            source: self.maybe(30, |r| r.net(family)),
            destination: self.maybe(60, |r| r.net(family)),
            in_interface: self.maybe(10, |r| interface(r, "cni0")),
            out_interface: self.maybe(10, |r| interface(r, "veth+")),
            protocol,
            matches,
            target: self.target(family, table, protocol, callees),
        }
    }

    fn target(
        &mut self,
        family: Family,
        table: Table,
        protocol: Option<Protocol>,
        callees: &[ChainName],
    ) -> Option<Target> {
        let mark = Target::Mark { value: self.next() as u32, mask: self.next() as u32 };
        match self.below(10) {
            0 => None,
            1 => Some(Target::Return),
            2 => Some(Target::Accept),
            3 => Some(mark),
            4 if table == Table::Filter => Some(Target::Reject),
            5 if table == Table::Filter => Some(Target::Drop),
            6 if table == Table::Nat && protocol.is_some() => {
                Some(Target::Dnat(Endpoint::new(self.ip(family), self.next() as u16 | 1)))
            }
            7 if !callees.is_empty() => Some(Target::Goto(self.pick(callees).clone())),
            _ if !callees.is_empty() => Some(Target::Jump(self.pick(callees).clone())),
            _ => Some(Target::Return),
        }
    }
}

/// What the owned chains and our rules in the built-in chains should be.
#[derive(Default)]
pub struct World {
    pub chains: BTreeMap<ChainKey, Vec<Rule>>,
    jumps: Vec<(ChainKey, Rule)>,
}

const CHAINS: usize = 12;

/// Chain `i` goes only to chains with greater numbers, so nothing loops.
fn name(i: usize) -> ChainName {
    if i == 0 { ChainName::new("KUBE-SERVICES") } else { ChainName::new(format!("KUBE-SVC-{i:016}")) }
}

impl World {
    fn key(family: Family, table: Table, name: ChainName) -> ChainKey {
        ChainKey { family, table, name }
    }

    /// Changes a part of the world; returns the difference.
    pub fn change(&mut self, random: &mut Random) -> Changes {
        let mut changes = Changes::default();
        for family in Family::ALL {
            for table in [Table::Filter, Table::Nat] {
                if random.chance(75) {
                    self.change_table(random, family, table, &mut changes);
                }
            }
            if random.chance(20) {
                let canary = Self::key(family, Table::Mangle, ChainName::new("KUBE-PROXY-CANARY"));
                let after = (!self.chains.contains_key(&canary)).then(Vec::new);
                self.set(canary, after, &mut changes);
            }
        }
        changes
    }

    fn change_table(&mut self, random: &mut Random, family: Family, table: Table, changes: &mut Changes) {
        let key = |i| Self::key(family, table, name(i));
        // From the leaves up: a chain may go only to what is there.
        for i in (0..CHAINS).rev() {
            let there = self.chains.contains_key(&key(i));
            if !random.chance(if there { 35 } else { 50 }) {
                continue;
            }
            let callees: Vec<ChainName> =
                (i + 1..CHAINS).filter(|j| self.chains.contains_key(&key(*j))).map(name).collect();
            let rules = (0..random.below(6)).map(|_| random.rule(family, table, &callees)).collect();
            self.set(key(i), Some(rules), changes);
        }
        self.change_jumps(random, family, table, changes);
        for i in (0..CHAINS).rev() {
            if random.chance(25) && self.chains.contains_key(&key(i)) && !self.is_used(&key(i)) {
                self.set(key(i), None, changes);
            }
        }
    }

    fn change_jumps(&mut self, random: &mut Random, family: Family, table: Table, changes: &mut Changes) {
        // Before any is added: what is added and deleted at once would leave nothing to go to.
        let deleted = |(key, _): &(ChainKey, Rule)| key.family == family && key.table == table;
        if let Some(at) = self.jumps.iter().position(deleted).filter(|_| random.chance(50)) {
            let (from, rule) = self.jumps.remove(at);
            changes.builtin.push(BuiltinChange::Delete(from, rule));
        }
        let services = Self::key(family, table, name(0));
        if self.chains.contains_key(&services) && random.chance(60) {
            // A DNAT target may be reached from these two only.
            let from = random.pick(if table == Table::Nat { &["PREROUTING", "OUTPUT"] } else { &["FORWARD", "INPUT"] });
            let rule = Rule {
                matches: vec![Match::Comment(random.comment().into())],
                target: Some(Target::Jump(name(0))),
                ..Rule::default()
            };
            let from = Self::key(family, table, ChainName::new(*from));
            self.jumps.push((from.clone(), rule.clone()));
            let change = if random.chance(50) { BuiltinChange::Insert } else { BuiltinChange::Append };
            changes.builtin.push(change(from, rule));
        }
    }

    fn is_used(&self, key: &ChainKey) -> bool {
        let goes_there = |rule: &Rule| match &rule.target {
            Some(Target::Jump(to) | Target::Goto(to)) => *to == key.name,
            _ => false,
        };
        let same_table = |other: &ChainKey| other.family == key.family && other.table == key.table;
        let chains = self.chains.iter().filter(|(other, _)| same_table(other)).flat_map(|(_, rules)| rules);
        let jumps = self.jumps.iter().filter(|(other, _)| same_table(other)).map(|(_, rule)| rule);
        chains.chain(jumps).any(goes_there)
    }

    fn set(&mut self, key: ChainKey, after: Option<Vec<Rule>>, changes: &mut Changes) {
        let before = match &after {
            Some(rules) => self.chains.insert(key.clone(), rules.clone()),
            None => self.chains.remove(&key),
        };
        let before = before.map(|rules| rules.into_iter().map(ObservedRule::Known).collect());
        changes.chains.entry(key).or_insert_with(|| ChainChange { before, after: None }).after = after;
    }

    /// Whether both hold the same owned chains.
    pub fn assert_holds(&self, seen: &BTreeMap<ChainKey, Vec<ObservedRule>>) {
        let owned = |key: &&ChainKey| key.name.as_str().starts_with("KUBE-");
        let expected: BTreeSet<&ChainKey> = self.chains.keys().collect();
        assert_eq!(seen.keys().filter(owned).collect::<BTreeSet<_>>(), expected);
        for (key, rules) in &self.chains {
            assert_eq!(&seen[key], rules, "{key}");
        }
    }
}
