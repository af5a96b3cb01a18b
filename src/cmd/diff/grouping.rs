//! Changes, rule by rule, grouped by the service that they are about.

use std::collections::BTreeMap;

use serde::Serialize;
use similar::{Algorithm, DiffTag};

use crate::kernel::xtables::{BuiltinChange, ChainChange, ChainKey, Changes, Match, ObservedRule, encode};

/// What a group is about. Ordered: the base first, then services by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// Fixed chains, jumps from built-in chains, and the dispatch trees' own jumps.
    Base,
    /// `ns/name:port`.
    Service(String),
    /// Chains that name no service.
    Unknown,
}

/// What happens to a chain or a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Add,
    Change,
    Remove,
}

/// One line of a chain's difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub action: Option<Action>,
    pub rule: String,
}

/// The difference of one chain, as far as it is about the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainDiff {
    pub family: &'static str,
    pub table: &'static str,
    pub chain: String,
    pub action: Action,
    pub lines: Vec<Line>,
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
}

impl Summary {
    pub fn is_empty(&self) -> bool {
        *self == Summary::default()
    }
}

/// A difference, grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouped {
    pub groups: BTreeMap<About, Vec<ChainDiff>>,
    pub summary: Summary,
}

/// Groups the changes.
pub fn group(changes: &Changes) -> Grouped {
    let mut grouped = Grouped::default();
    for change in &changes.builtin {
        grouped.add_builtin(change);
    }
    for (key, change) in &changes.chains {
        grouped.add_chain(key, change);
    }
    let is_service = |about: &&About| matches!(about, About::Service(_));
    grouped.summary.services = grouped.groups.keys().filter(is_service).count();
    grouped
}

impl Grouped {
    fn add_builtin(&mut self, change: &BuiltinChange) {
        let (action, rule) = match change {
            BuiltinChange::CreateChain(key) => {
                self.summary.chains_added += 1;
                return self.push(About::Base, chain_diff(key, Action::Add));
            }
            BuiltinChange::Insert(_, rule) | BuiltinChange::Append(_, rule) => (Action::Add, rule),
            BuiltinChange::Delete(_, rule) => (Action::Remove, rule),
        };
        self.count(action);
        let mut diff = chain_diff(change.chain(), Action::Change);
        diff.lines.push(Line { action: Some(action), rule: encode::rule_text(change.chain().family, rule) });
        self.push(About::Base, diff);
    }

    fn add_chain(&mut self, key: &ChainKey, change: &ChainChange) {
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
        let owner = owner(key, change);
        let mut parts: BTreeMap<About, ChainDiff> = BTreeMap::new();
        for (line_action, rule) in lines(change) {
            if let Some(action) = line_action {
                self.count(action);
            }
            let about = match &owner {
                Some(owner) => owner.clone(),
                None => service_of(&rule).map_or(About::Base, About::Service),
            };
            // In a chain that many services share, only what changes is worth a line.
            if line_action.is_some() || owner.is_some() {
                let diff = parts.entry(about).or_insert_with(|| chain_diff(key, action));
                diff.lines.push(Line { action: line_action, rule: rule_text(&rule, key) });
            }
        }
        if parts.is_empty() {
            parts.insert(owner.unwrap_or(About::Base), chain_diff(key, action));
        }
        for (about, diff) in parts {
            self.push(about, diff);
        }
    }

    fn count(&mut self, action: Action) {
        match action {
            Action::Remove => self.summary.rules_removed += 1,
            Action::Add | Action::Change => self.summary.rules_added += 1,
        }
    }

    fn push(&mut self, about: About, diff: ChainDiff) {
        let group = self.groups.entry(about).or_default();
        if let Some(last) = group.last_mut()
            && (last.family, last.table, &last.chain) == (diff.family, diff.table, &diff.chain)
        {
            last.lines.extend(diff.lines);
            return;
        }
        group.push(diff);
    }
}

fn chain_diff(key: &ChainKey, action: Action) -> ChainDiff {
    ChainDiff {
        family: key.family.as_str(),
        table: key.table.as_str(),
        chain: key.name.to_string(),
        action,
        lines: Vec::new(),
    }
}

/// The rules of both sides in order, each with what happens to it.
fn lines(change: &ChainChange) -> Vec<(Option<Action>, ObservedRule)> {
    let before: Vec<ObservedRule> = change.before.clone().unwrap_or_default();
    let after: Vec<ObservedRule> = change.after.iter().flatten().cloned().map(ObservedRule::from).collect();
    let mut lines = Vec::new();
    // A chain that kube-proxy left has tens of thousands of rules; an answer that is good enough beats the best one.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    for op in similar::capture_diff_slices_deadline(Algorithm::Myers, &before, &after, Some(deadline)) {
        let (tag, old, new) = op.as_tag_tuple();
        let old = before.get(old).unwrap_or_default().iter().cloned();
        let new = after.get(new).unwrap_or_default().iter().cloned();
        if tag == DiffTag::Equal {
            lines.extend(new.map(|rule| (None, rule)));
        } else {
            lines.extend(old.map(|rule| (Some(Action::Remove), rule)));
            lines.extend(new.map(|rule| (Some(Action::Add), rule)));
        }
    }
    lines
}

/// Whom a chain belongs to as a whole. `None` if its rules are about many.
fn owner(key: &ChainKey, change: &ChainChange) -> Option<About> {
    const SERVICE_CHAINS: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
    let name = key.name.as_str();
    let hash = SERVICE_CHAINS.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    // The chains of the dispatch trees have a lower-case letter where services have their hash.
    if hash.starts_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    let after = change.after.iter().flatten().cloned().map(ObservedRule::from);
    let before = change.before.iter().flatten().cloned();
    let mut rules = after.chain(before);
    Some(rules.find_map(|rule| service_of(&rule)).map_or(About::Unknown, About::Service))
}

/// The service that a rule's comment names: the word with a slash, for nothing else in our comments has one.
fn service_of(rule: &ObservedRule) -> Option<String> {
    let ObservedRule::Known(rule) = rule else { return None };
    let comment = rule.matches.iter().find_map(|m| match m {
        Match::Comment(text) => Some(text),
        _ => None,
    })?;
    comment.split(' ').find(|word| word.contains('/')).map(str::to_owned)
}

fn rule_text(rule: &ObservedRule, key: &ChainKey) -> String {
    match rule {
        ObservedRule::Known(rule) => encode::rule_text(key.family, rule),
        ObservedRule::Verbatim(text) => text.to_string(),
    }
}
