//! Service ports by identity, in order, in little space.

use std::ops::Deref;
use std::sync::Arc;

use crate::model::{ServicePort, ServicePortKey};

/// Service ports in the order of their keys, no key twice.
///
/// A clone is a snapshot that costs nothing: both share the list until one of them changes while the other is still
/// there. Finding and replacing one costs the logarithm of the size; a new or removed one moves those behind it, eight
/// bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragments(Arc<Vec<Arc<ServicePort>>>);

impl Fragments {
    fn position(&self, key: &ServicePortKey) -> Result<usize, usize> {
        // Mostly they come in order.
        if self.0.last().is_none_or(|last| last.key < *key) {
            return Err(self.0.len());
        }
        self.0.binary_search_by(|port| port.key.cmp(key))
    }

    pub fn get(&self, key: &ServicePortKey) -> Option<&Arc<ServicePort>> {
        self.position(key).ok().and_then(|at| self.0.get(at))
    }

    pub fn contains(&self, key: &ServicePortKey) -> bool {
        self.position(key).is_ok()
    }

    /// Puts one in; returns what had its key before.
    pub fn insert(&mut self, port: Arc<ServicePort>) -> Option<Arc<ServicePort>> {
        let position = self.position(&port.key);
        let ports = Arc::make_mut(&mut self.0);
        match position {
            Ok(at) => ports.get_mut(at).map(|slot| std::mem::replace(slot, port)),
            Err(at) => {
                ports.insert(at, port);
                None
            }
        }
    }

    pub fn remove(&mut self, key: &ServicePortKey) -> Option<Arc<ServicePort>> {
        let at = self.position(key).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(at))
    }
}

impl Deref for Fragments {
    type Target = [Arc<ServicePort>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<Arc<ServicePort>> for Fragments {
    /// Of two with one key the later counts.
    fn from_iter<I: IntoIterator<Item = Arc<ServicePort>>>(ports: I) -> Self {
        let mut fragments = Fragments::default();
        for port in ports {
            fragments.insert(port);
        }
        fragments
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::tests::{key, value};

    proptest! {
        #[test]
        fn they_are_a_map(steps in proptest::collection::vec((0usize..30, 0u32..4), 0..200)) {
            let mut fragments = Fragments::default();
            let mut map = BTreeMap::new();
            for (n, version) in steps {
                if version == 0 {
                    prop_assert_eq!(fragments.remove(&key(n)), map.remove(&key(n)));
                } else {
                    prop_assert_eq!(fragments.insert(value(n, version)), map.insert(key(n), value(n, version)));
                }
                prop_assert_eq!(fragments.get(&key(n)), map.get(&key(n)));
                prop_assert_eq!(fragments.contains(&key(n)), map.contains_key(&key(n)));
            }
            prop_assert!(fragments.iter().eq(map.values()));
            prop_assert_eq!(map.into_values().rev().collect::<Fragments>(), fragments);
        }
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut fragments: Fragments = (0..3).map(|n| value(n, 1)).collect();
        let snapshot = fragments.clone();
        assert!(std::ptr::eq(snapshot.as_ptr(), fragments.as_ptr()), "nothing is copied");
        fragments.insert(value(1, 2));
        fragments.remove(&key(0));
        assert_eq!(snapshot.get(&key(1)), Some(&value(1, 1)));
        assert_eq!((snapshot.len(), fragments.len()), (3, 2));
    }
}
