//! Changes, line by line, grouped by the service that they are about. Borrows from the changes: rules become text when
//! they are written.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::lines::{Fate, Line, RuleRef, of_chain};
use super::objects::{AddressLine, ServerDiff, SetDiff};
use super::owners::Owners;
use crate::kernel::nftables::ObservedTable;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{BuiltinChange, ChainChange, ChainKey, Changes, Match};
use crate::plan::ipvs::Difference;

/// What a group is about. Ordered: the base first, then services by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Fixed chains, jumps from built-in chains, and the dispatch trees' own jumps; sets and the service device.
    Base,
    /// `ns/name:port`.
    Service(String),
    /// Chains whose rules name no service, and what else is ours and no service wants.
    Unknown,
}

/// What happens to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Add,
    Change,
    Remove,
}

/// The difference of one chain, as far as it is about the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainDiff<'a> {
    pub key: &'a ChainKey,
    /// Of which tables, where both kinds have something.
    pub variant: Option<Variant>,
    pub action: Action,
    /// The chain as a whole is about the group, and rules that stay are among the lines. Otherwise it holds rules about
    /// others as well, and the lines are the changed ones that are about the group.
    pub whole: bool,
    pub lines: Vec<Line<'a>>,
}

/// How much changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub services: usize,
    pub chains_added: usize,
    pub chains_changed: usize,
    pub chains_removed: usize,
    pub rules_added: usize,
    pub rules_removed: usize,
    pub sets_added: usize,
    pub sets_changed: usize,
    pub sets_removed: usize,
    pub entries_added: usize,
    pub entries_removed: usize,
    pub virtual_servers_added: usize,
    /// Without those of which only real servers change.
    pub virtual_servers_changed: usize,
    pub virtual_servers_removed: usize,
    pub real_servers_added: usize,
    /// Those that begin to drain are among them.
    pub real_servers_changed: usize,
    pub real_servers_removed: usize,
    pub addresses_added: usize,
    pub addresses_removed: usize,
    pub devices_added: usize,
    pub devices_removed: usize,
    /// Whole tables of nf_tables. Only `weir cleanup` has these and the next.
    #[serde(skip_serializing_if = "is_none")]
    pub tables_removed: usize,
    #[serde(skip_serializing_if = "is_none")]
    pub accounting_objects_removed: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Summary {
    pub fn is_empty(&self) -> bool {
        *self == Summary::default()
    }
}

/// All that is about one service, or about none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group<'a> {
    /// In the order in which a packet meets them: family, table, then built-in and shared chains, then those of services,
    /// then those of endpoints.
    pub chains: Vec<ChainDiff<'a>>,
    /// By name, as all that follows is by what it is about.
    pub sets: Vec<SetDiff<'a>>,
    pub servers: Vec<ServerDiff>,
    /// What happens to the service device.
    pub device: Option<Action>,
    pub addresses: Vec<AddressLine>,
    /// Tables of nf_tables that go.
    pub tables: Vec<&'a ObservedTable>,
    /// Accounting objects that go.
    pub accounting: Vec<&'a str>,
}

/// A difference, grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouped<'a> {
    pub groups: BTreeMap<About, Group<'a>>,
    pub summary: Summary,
}

/// Groups the changes.
pub fn group<'a>(difference: &'a Difference, owners: &Owners<'_>) -> Grouped<'a> {
    let mut grouped = Grouped::default();
    grouped.add_rules(&difference.rules, None);
    grouped.add_others(difference, owners);
    grouped
}

impl<'a> Grouped<'a> {
    /// Rules of one kind of tables, which is named where both have something.
    pub fn add_rules(&mut self, rules: &'a Changes, variant: Option<Variant>) {
        self.add_builtin(&rules.builtin, variant);
        for (key, change) in &rules.chains {
            self.add_chain(key, change, variant);
        }
        for group in self.groups.values_mut() {
            let place = |chain: &ChainDiff<'_>| {
                (chain.variant, chain.key.family, chain.key.table, rank(chain), chain.key.name.clone())
            };
            group.chains.sort_by_cached_key(place);
        }
        self.count_services();
    }

    /// Everything but rules.
    pub fn add_others(&mut self, difference: &'a Difference, owners: &Owners<'_>) {
        self.add_sets(&difference.sets, owners);
        self.add_servers(&difference.servers, owners);
        self.add_links(&difference.links, owners);
        self.count_services();
    }

    /// Whole tables of nf_tables that go.
    pub fn add_tables(&mut self, tables: &'a [ObservedTable]) {
        if !tables.is_empty() {
            self.summary.tables_removed += tables.len();
            self.groups.entry(About::Base).or_default().tables.extend(tables);
        }
    }

    /// Accounting objects that go.
    pub fn add_accounting(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.summary.accounting_objects_removed += 1;
            self.groups.entry(About::Base).or_default().accounting.push(name);
        }
    }

    fn count_services(&mut self) {
        let is_service = |about: &&About| matches!(about, About::Service(_));
        self.summary.services = self.groups.keys().filter(is_service).count();
    }

    /// Each chain once, its rules in the order in which they will be found there: what is inserted at the head stands in
    /// reverse.
    fn add_builtin(&mut self, changes: &'a [BuiltinChange], variant: Option<Variant>) {
        let mut chains: HashMap<&ChainKey, ChainDiff<'a>> = HashMap::new();
        let line = |fate, rule| Line { fate, rule: RuleRef::Known(rule) };
        for change in changes.iter().rev() {
            let chain = chains.entry(change.chain()).or_insert_with_key(|key| ChainDiff {
                key,
                variant,
                action: Action::Change,
                whole: false,
                lines: Vec::new(),
            });
            match change {
                BuiltinChange::CreateChain(_) => chain.action = Action::Add,
                BuiltinChange::Insert(_, rule) => chain.lines.push(line(Fate::Add, rule)),
                BuiltinChange::Append(..) | BuiltinChange::Delete(..) => {}
            }
        }
        for change in changes {
            let Some(chain) = chains.get_mut(change.chain()) else { continue };
            match change {
                BuiltinChange::Delete(_, rule) => chain.lines.push(line(Fate::Remove, rule)),
                BuiltinChange::Append(_, rule) => chain.lines.push(line(Fate::Add, rule)),
                BuiltinChange::CreateChain(_) | BuiltinChange::Insert(..) => {}
            }
        }
        for chain in chains.into_values() {
            if chain.action == Action::Add {
                self.summary.chains_added += 1;
            }
            chain.lines.iter().for_each(|line| self.count(line.fate));
            self.push(About::Base, chain);
        }
    }

    fn add_chain(&mut self, key: &'a ChainKey, change: &'a ChainChange, variant: Option<Variant>) {
        let action = match (&change.before, &change.after) {
            (None, _) => Action::Add,
            (_, None) => Action::Remove,
            _ => Action::Change,
        };
        match action {
            Action::Add => self.summary.chains_added += 1,
            Action::Change => self.summary.chains_changed += 1,
            Action::Remove => self.summary.chains_removed += 1,
        }
        let lines = of_chain(change);
        lines.iter().for_each(|line| self.count(line.fate));
        if let Some(owner) = owner(key, &lines) {
            self.push(owner, ChainDiff { key, variant, action, whole: true, lines });
            return;
        }
        let mut parts: BTreeMap<About, Vec<Line<'a>>> = BTreeMap::new();
        // The chain itself is base; with no rule of the base in it, that is worth saying only if it comes or goes.
        if action != Action::Change {
            parts.insert(About::Base, Vec::new());
        }
        for line in lines.into_iter().filter(|line| line.fate != Fate::Keep) {
            let about = service_of(line.rule).map_or(About::Base, |name| About::Service(name.to_owned()));
            parts.entry(about).or_default().push(line);
        }
        for (about, lines) in parts {
            self.push(about, ChainDiff { key, variant, action, whole: false, lines });
        }
    }

    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Keep => {}
            Fate::Add => self.summary.rules_added += 1,
            Fate::Remove => self.summary.rules_removed += 1,
        }
    }

    fn push(&mut self, about: About, chain: ChainDiff<'a>) {
        self.groups.entry(about).or_default().chains.push(chain);
    }
}

/// Chains of a service port or an endpoint, in the order in which a packet meets them.
const SERVICE_CHAINS: [&str; 5] = ["KUBE-EXT-", "KUBE-FW-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-"];

/// Where in its table a chain is met: built-in, then what many services share, then what one owns.
fn rank(chain: &ChainDiff) -> usize {
    let name = chain.key.name.as_str();
    match SERVICE_CHAINS.iter().position(|prefix| name.starts_with(prefix)) {
        Some(place) if chain.whole => 2 + place,
        _ => usize::from(["KUBE-", "WEIR-"].iter().any(|prefix| name.starts_with(prefix))),
    }
}

/// Whom a chain belongs to as a whole. `None` if its rules are about many: the dispatchers.
fn owner(key: &ChainKey, lines: &[Line]) -> Option<About> {
    const FIXED: [&str; 10] = [
        "KUBE-FORWARD",
        "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ",
        "KUBE-PROXY-CANARY",
        // Of IPVS mode and of node egress.
        "KUBE-LOAD-BALANCER",
        "KUBE-NODE-PORT",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
        "WEIR-EGRESS",
    ];
    let name = key.name.as_str();
    if FIXED.contains(&name) {
        return Some(About::Base);
    }
    let hash = SERVICE_CHAINS.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    // The chains of the dispatch trees have a lower-case letter where services have their hash.
    if hash.starts_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    // Of two services whose names have the same hash, the one that is to be there.
    let named = |keep: bool| {
        let lines = lines.iter().filter(|line| (line.fate != Fate::Remove) == keep);
        lines.filter_map(|line| service_of(line.rule)).next()
    };
    let service = named(true).or_else(|| named(false));
    Some(service.map_or(About::Unknown, |name| About::Service(name.to_owned())))
}

/// The service that a rule's comment names: the word with a slash, for nothing else in our comments has one.
fn service_of(rule: RuleRef<'_>) -> Option<&str> {
    let RuleRef::Known(rule) = rule else { return None };
    let comment = rule.matches.iter().find_map(|m| match m {
        Match::Comment(text) => Some(text),
        _ => None,
    })?;
    comment.split(' ').find(|word| word.contains('/'))
}
