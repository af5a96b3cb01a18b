//! Which service a slice belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::net::ObjectName;

/// The owner of each slice, so that a slice that changes its label leaves the old one. A service is in the namespace of
/// its slices, so each namespace has a table of its own, with two names an entry.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<Arc<str>, HashMap<Arc<str>, Arc<str>>>);

impl Owners {
    /// The slice belongs to this service of its namespace; returns the one before.
    pub fn insert(&mut self, slice: &ObjectName, service: Arc<str>) -> Option<Arc<str>> {
        match self.0.get_mut(&slice.namespace) {
            Some(owners) => owners.insert(slice.name.clone(), service),
            None => {
                self.0.insert(slice.namespace.clone(), HashMap::from([(slice.name.clone(), service)]));
                None
            }
        }
    }

    /// The slice is gone; returns the service that it belonged to.
    pub fn remove(&mut self, slice: &ObjectName) -> Option<Arc<str>> {
        let owners = self.0.get_mut(&slice.namespace)?;
        let owner = owners.remove(&slice.name);
        if owners.is_empty() {
            self.0.remove(&slice.namespace);
        }
        owner
    }

    /// All slices.
    pub fn slices(&self) -> impl Iterator<Item = ObjectName> + '_ {
        self.0.iter().flat_map(|(namespace, owners)| {
            owners.keys().map(|name| ObjectName { namespace: namespace.clone(), name: name.clone() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_apart_and_leave_nothing() {
        let mut owners = Owners::default();
        let name = |namespace: &str| ObjectName::new(namespace, "slice");
        assert_eq!(owners.insert(&name("a"), "x".into()), None);
        assert_eq!(owners.insert(&name("b"), "y".into()), None);
        assert_eq!(owners.insert(&name("a"), "z".into()).as_deref(), Some("x"));
        let mut slices: Vec<String> = owners.slices().map(|slice| slice.to_string()).collect();
        slices.sort();
        assert_eq!(slices, ["a/slice", "b/slice"]);
        assert_eq!(owners.remove(&name("a")).as_deref(), Some("z"));
        assert_eq!(owners.remove(&name("a")), None);
        assert_eq!(owners.remove(&name("b")).as_deref(), Some("y"));
        assert!(owners.0.is_empty());
    }
}
