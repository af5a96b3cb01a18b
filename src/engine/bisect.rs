//! Groups of fragments that were refused together, each to be tried by itself until single fragments are left.

use std::collections::{BTreeSet, VecDeque};

use crate::model::ServicePortKey;

/// How many times the kernel's own hint is followed before halving takes over: hints may be wrong.
const HINTS: u8 = 8;

/// The groups that wait, in the order in which they are tried. A fragment is in one group at most.
#[derive(Debug)]
pub(super) struct Suspects {
    groups: VecDeque<Vec<ServicePortKey>>,
    members: BTreeSet<ServicePortKey>,
    hints: u8,
}

impl Default for Suspects {
    fn default() -> Self {
        Suspects { groups: VecDeque::new(), members: BTreeSet::new(), hints: HINTS }
    }
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn contains(&self, key: &ServicePortKey) -> bool {
        self.members.contains(key)
    }

    /// A group that was refused: its two parts are tried next. With a hint the parts are all others, and the fragment
    /// that the kernel blames; otherwise two halves.
    pub(super) fn split(&mut self, mut group: Vec<ServicePortKey>, hint: Option<&ServicePortKey>) {
        let blamed = hint.filter(|_| self.hints > 0).and_then(|hint| group.iter().position(|key| key == hint));
        let rest = match blamed {
            Some(position) => {
                self.hints -= 1;
                vec![group.remove(position)]
            }
            None => group.split_off(group.len().div_ceil(2)),
        };
        self.put_back(rest);
        self.put_back(group);
    }

    /// A group to be tried next, as it is.
    pub(super) fn put_back(&mut self, group: Vec<ServicePortKey>) {
        if !group.is_empty() {
            self.members.extend(group.iter().cloned());
            self.groups.push_front(group);
        }
    }

    /// Takes out the group to try now, without those that are not to be kept.
    pub(super) fn next(&mut self, keep: impl Fn(&ServicePortKey) -> bool) -> Option<Vec<ServicePortKey>> {
        let mut group = self.groups.pop_front()?;
        for key in &group {
            self.members.remove(key);
        }
        group.retain(keep);
        Some(group)
    }

    /// Drops groups of which nothing is to be kept, up to the first that is worth trying. Not to be called while a group
    /// is being tried.
    pub(super) fn settle(&mut self, keep: impl Fn(&ServicePortKey) -> bool) {
        while let Some(group) = self.groups.front()
            && !group.iter().any(&keep)
        {
            self.next(|_| false);
        }
        if self.groups.is_empty() {
            self.clear();
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Suspects::default();
    }
}
