//! Since when something is owed to the kernel: counted and aged as it changes, never by going through all of it.

use std::collections::BTreeMap;

use super::pacing::Moment;
use crate::model::ServicePortKey;
use crate::net::{Family, PerFamily};

/// How many are owed, and since when the oldest: a multiset of times for each family.
#[derive(Debug, Default)]
pub(super) struct Ages(PerFamily<FamilyAges>);

#[derive(Debug, Default)]
struct FamilyAges {
    count: usize,
    times: BTreeMap<Moment, usize>,
}

impl Ages {
    pub(super) fn add(&mut self, family: Family, since: Moment) {
        let ages = self.0.get_mut(family);
        ages.count += 1;
        *ages.times.entry(since).or_default() += 1;
    }

    /// Takes out what was added.
    pub(super) fn take(&mut self, family: Family, since: Moment) {
        let ages = self.0.get_mut(family);
        if let Some(count) = ages.times.get_mut(&since) {
            ages.count -= 1;
            *count -= 1;
            if *count == 0 {
                ages.times.remove(&since);
            }
        }
    }

    pub(super) fn count(&self, family: Family) -> usize {
        self.0.get(family).count
    }

    pub(super) fn oldest(&self, family: Family) -> Option<Moment> {
        self.0.get(family).times.first_key_value().map(|(since, _)| *since)
    }
}

/// Fragments with the time since when each is owed.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    since: BTreeMap<ServicePortKey, Moment>,
    ages: Ages,
}

impl Dirty {
    pub(super) fn contains(&self, key: &ServicePortKey) -> bool {
        self.since.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ServicePortKey> {
        self.since.keys()
    }

    pub(super) fn ages(&self) -> &Ages {
        &self.ages
    }

    /// The fragment is owed since then, or since before that.
    pub(super) fn owe(&mut self, key: &ServicePortKey, since: Moment) {
        match self.since.get_mut(key) {
            Some(known) if *known <= since => {}
            Some(known) => {
                self.ages.take(key.family, *known);
                self.ages.add(key.family, since);
                *known = since;
            }
            None => {
                self.since.insert(key.clone(), since);
                self.ages.add(key.family, since);
            }
        }
    }

    /// The fragment is not owed any more; returns since when it was.
    pub(super) fn settle(&mut self, key: &ServicePortKey) -> Option<Moment> {
        let since = self.since.remove(key)?;
        self.ages.take(key.family, since);
        Some(since)
    }

    /// All of it is owed since now.
    pub(super) fn restamp(&mut self, now: Moment) {
        self.ages = Ages::default();
        for (key, since) in &mut self.since {
            *since = now;
            self.ages.add(key.family, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::tests::key;

    fn counted(dirty: &Dirty, family: Family) -> (usize, Option<Moment>) {
        let of = dirty.since.iter().filter(|(key, _)| key.family == family);
        (of.clone().count(), of.map(|(_, since)| *since).min())
    }

    proptest! {
        #[test]
        fn counts_are_what_counting_gives(steps in proptest::collection::vec((0u8..8, 0usize..12, 0u64..9), 0..150)) {
            let mut dirty = Dirty::default();
            for (what, n, at) in steps {
                let at = Duration::from_secs(at);
                match what {
                    0 => dirty.restamp(at),
                    1..=3 => drop(dirty.settle(&key(n))),
                    _ => dirty.owe(&key(n), at),
                }
                for family in Family::ALL {
                    let ages = dirty.ages();
                    prop_assert_eq!((ages.count(family), ages.oldest(family)), counted(&dirty, family));
                }
            }
        }
    }
}
