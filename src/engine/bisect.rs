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
        self.members.is_empty()
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

    /// Takes out the group to try now.
    pub(super) fn next(&mut self) -> Option<Vec<ServicePortKey>> {
        let group = self.groups.pop_front()?;
        for key in &group {
            self.members.remove(key);
        }
        Some(group)
    }

    /// Drops fragments that need nothing any more. Not to be called while a group is being tried.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&ServicePortKey) -> bool) {
        self.members.retain(&mut keep);
        if self.members.is_empty() {
            self.clear();
            return;
        }
        for group in &mut self.groups {
            group.retain(|key| self.members.contains(key));
        }
        self.groups.retain(|group| !group.is_empty());
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Suspects::default();
    }
}
