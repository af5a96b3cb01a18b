//! What is wanted against what is there, as a difference. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Changes, Entries, ObservedSet, SetChange, SetName, SetSpec, SetType};

/// A set of that name is there and cannot become what it should be: rules look in it, and the kernel lets no set of another
/// type or family take its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ipset {set} is there as {found}, and it must be {} of {}; remedy: delete the rules that look in it, then \
     `ipset destroy {set}`: it is made anew",
    wanted.set_type, wanted.family
)]
pub struct Mismatch {
    pub set: SetName,
    pub wanted: SetSpec,
    /// Type and family, or what else is known of it.
    pub found: Box<str>,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Without the sets that are in `mismatches`.
    pub changes: Changes,
    /// In the order of the names.
    pub mismatches: Vec<Mismatch>,
}

/// Compares sets by name. Sets that are there, not wanted and ours are destroyed; what is not ours is left alone.
pub fn compare<'a>(
    wanted: &BTreeMap<SetName, (SetSpec, Entries)>,
    observed: impl IntoIterator<Item = &'a ObservedSet>,
    is_ours: &dyn Fn(&str) -> bool,
) -> Compared {
    let mut compared = Compared::default();
    let mut there: BTreeMap<&SetName, &ObservedSet> = observed.into_iter().map(|set| (&set.name, set)).collect();
    for (name, (spec, entries)) in wanted {
        match change(name, spec, entries, there.remove(name)) {
            Ok(change) if change.is_nothing() => {}
            Ok(change) => drop(compared.changes.sets.insert(name.clone(), change)),
            Err(mismatch) => compared.mismatches.push(mismatch),
        }
    }
    for (name, found) in there {
        if is_ours(name.as_str()) {
            let gone = SetChange { before: found.spec.clone().ok(), ..SetChange::default() };
            compared.changes.sets.insert(name.clone(), gone);
        }
    }
    compared
}

fn change(
    name: &SetName,
    spec: &SetSpec,
    entries: &Entries,
    found: Option<&ObservedSet>,
) -> Result<SetChange, Mismatch> {
    let anew = || SetChange { before: None, after: Some(*spec), add: entries.clone(), remove: BTreeSet::new() };
    let Some(found) = found else { return Ok(anew()) };
    let mismatch = |found: Box<str>| Mismatch { set: name.clone(), wanted: *spec, found };
    match &found.spec {
        Ok(before) if !is_alike(spec, before) => {
            Err(mismatch(format!("{} of {}", before.set_type, before.family).into()))
        }
        Ok(before) => {
            let missing = |(entry, comment): &(&_, &_)| found.entries.get(*entry) != Some(*comment);
            let add = entries.iter().filter(missing).map(|(entry, comment)| (*entry, comment.clone())).collect();
            let remove = found.entries.keys().filter(|entry| !entries.contains_key(entry)).copied().collect();
            // A bitmap's family is only in its name.
            Ok(SetChange { before: Some(SetSpec { family: spec.family, ..*before }), after: Some(*spec), add, remove })
        }
        // Of the right type, with options or entries that are not ours: one like it takes its place.
        Err(text) if text.split(' ').next() == Some(spec.set_type.as_str()) => Ok(anew()),
        Err(text) => Err(mismatch(text.clone())),
    }
}

fn is_alike(wanted: &SetSpec, found: &SetSpec) -> bool {
    wanted.set_type == found.set_type && (wanted.set_type == SetType::BitmapPort || wanted.family == found.family)
}
