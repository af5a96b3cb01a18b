//! What is wanted against what the kernel holds.

use std::collections::BTreeMap;

use super::{Changes, Entries, ObservedSet, SetChange, SetName, SetSpec};

/// The difference. Sets that are not wanted are destroyed if `is_ours` says that they may be. A set of the wanted name and
/// another type is left alone.
pub fn compare(
    wanted: &BTreeMap<SetName, (SetSpec, Entries)>,
    observed: &[ObservedSet],
    is_ours: &dyn Fn(&str) -> bool,
) -> Changes {
    let mut changes = Changes::default();
    let mut held = BTreeMap::new();
    for set in observed {
        match (wanted.contains_key(&set.name), &set.spec) {
            (true, _) => {
                held.insert(&set.name, set);
            }
            (false, Ok(spec)) if is_ours(set.name.as_str()) => {
                let change = SetChange { before: Some(*spec), ..SetChange::default() };
                changes.sets.insert(set.name.clone(), change);
            }
            (false, _) => {}
        }
    }
    for (name, (spec, entries)) in wanted {
        let change = match held.get(name) {
            None => SetChange { before: None, after: Some(*spec), add: entries.clone(), remove: Default::default() },
            Some(set) if set.spec.is_err() => continue,
            Some(set) => {
                let is_held = |entry: &_, comment: &_| set.entries.get(entry) == Some(comment);
                let add = entries.iter().filter(|(entry, comment)| !is_held(*entry, *comment));
                let remove = set.entries.keys().filter(|entry| !entries.contains_key(entry));
                SetChange {
                    before: Some(*spec),
                    after: Some(*spec),
                    add: add.map(|(entry, comment)| (*entry, comment.clone())).collect(),
                    remove: remove.copied().collect(),
                }
            }
        };
        if !change.is_nothing() {
            changes.sets.insert(name.clone(), change);
        }
    }
    changes
}
