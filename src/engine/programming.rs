//! How long the network took to follow: from the time that the API server's side noted on a slice to the kernel's yes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::event::Resolved;
use super::ledger::Progress;
use crate::model::ServicePortKey;
use crate::net::ObjectName;
use crate::plan::Move;
use crate::state::Trigger;

/// So many times are kept for one service. The kernel takes up changes much faster than they come; beyond this it does
/// not, and a few thousand more values of the same wait say nothing new.
const MOST: usize = 64;

/// Times that were noted, of changes that are not in force yet.
#[derive(Debug, Default)]
pub(super) struct Programming {
    waiting: BTreeMap<ObjectName, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    keys: BTreeSet<ServicePortKey>,
    triggers: Vec<Trigger>,
}

impl Programming {
    /// Facts were told, with these times; this is how the services they touch resolve now. Returns the services that
    /// carry a time.
    pub(super) fn told(
        &mut self,
        triggers: BTreeMap<ObjectName, Vec<Trigger>>,
        resolved: &Resolved,
    ) -> BTreeSet<ObjectName> {
        for (name, times) in &triggers {
            let waiting = self.waiting.entry(name.clone()).or_default();
            let room = MOST.saturating_sub(waiting.triggers.len());
            waiting.triggers.extend(times.iter().take(room));
        }
        if !self.waiting.is_empty() {
            for (key, _) in resolved {
                if let Some(waiting) = self.waiting.get_mut(&key.name.service) {
                    waiting.keys.insert(key.clone());
                }
            }
        }
        triggers.into_keys().collect()
    }

    /// The kernel said yes to moves. Returns the services among them that carry a time.
    pub(super) fn moved(&self, moves: &[Move]) -> BTreeSet<ObjectName> {
        if self.waiting.is_empty() {
            return BTreeSet::new();
        }
        let keys = moves.iter().filter_map(|m| m.after.as_ref().or(m.before.as_ref())).map(|port| &port.key);
        keys.map(|key| &key.name.service).filter(|name| self.waiting.contains_key(*name)).cloned().collect()
    }

    /// Takes out the times of these services whose family is in force by now. A family of which the kernel refuses a
    /// part has no such time.
    pub(super) fn settle(
        &mut self,
        services: &BTreeSet<ObjectName>,
        progress: impl Fn(&ServicePortKey) -> Progress,
    ) -> Vec<Trigger> {
        let mut done = Vec::new();
        for name in services {
            let Some(Waiting { keys, triggers }) = self.waiting.get_mut(name) else { continue };
            triggers.retain(|trigger| {
                let of_family = keys.iter().filter(|key| key.family == trigger.family);
                let states: Vec<_> = of_family.map(&progress).collect();
                if states.contains(&Progress::Owed) {
                    return true;
                }
                if !states.contains(&Progress::Refused) {
                    done.push(*trigger);
                }
                false
            });
            if triggers.is_empty() {
                self.waiting.remove(name);
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::ServicePort;
    use crate::net::{Family, Protocol, ServicePortName};

    fn name(service: &str) -> ObjectName {
        ObjectName::new("ns", service)
    }

    fn key(service: &str, port: &str, family: Family) -> ServicePortKey {
        ServicePortKey { family, name: ServicePortName::new(name(service), port, Protocol::Tcp) }
    }

    fn at(family: Family, time: i64) -> Trigger {
        Trigger { family, time }
    }

    fn moved(keys: &[ServicePortKey]) -> Vec<Move> {
        let port = |key: &ServicePortKey| ServicePort::new(key.clone(), [10, 0, 0, 1].into(), 80);
        keys.iter().map(|key| Move { before: Some(Arc::new(port(key))), after: None }).collect()
    }

    #[test]
    fn a_time_waits_for_every_port_of_its_family() {
        let (a, b, six) = (key("s", "a", Family::V4), key("s", "b", Family::V4), key("s", "a", Family::V6));
        let mut programming = Programming::default();
        let triggers = BTreeMap::from([(name("s"), vec![at(Family::V4, 1), at(Family::V6, 2)])]);
        let told = programming.told(triggers, &vec![(a.clone(), None), (b.clone(), None), (six.clone(), None)]);
        assert_eq!(told, [name("s")].into());
        let owed = |keys: Vec<ServicePortKey>| {
            move |key: &ServicePortKey| if keys.contains(key) { Progress::Owed } else { Progress::InForce }
        };
        assert_eq!(programming.settle(&told, owed(vec![b.clone()])), [at(Family::V6, 2)]);
        assert_eq!(programming.moved(&moved(&[key("other", "a", Family::V4)])), BTreeSet::new());
        let services = programming.moved(&moved(&[a, b]));
        assert_eq!(programming.settle(&services, owed(Vec::new())), [at(Family::V4, 1)]);
        assert!(programming.waiting.is_empty());
    }

    #[test]
    fn what_changes_no_rule_is_in_force_at_once_and_what_is_refused_never() {
        let mut programming = Programming::default();
        let triggers = BTreeMap::from([(name("s"), vec![at(Family::V4, 1)])]);
        let told = programming.told(triggers.clone(), &Resolved::new());
        assert_eq!(programming.settle(&told, |_| Progress::Owed), [at(Family::V4, 1)], "it has no ports");
        let told = programming.told(triggers, &vec![(key("s", "a", Family::V4), None)]);
        assert_eq!(programming.settle(&told, |_| Progress::Refused), []);
        assert!(programming.waiting.is_empty(), "and it is not kept");
    }

    #[test]
    fn a_service_that_never_comes_into_force_does_not_grow() {
        let mut programming = Programming::default();
        for time in 0..1_000 {
            let triggers = BTreeMap::from([(name("s"), vec![at(Family::V4, time)])]);
            let told = programming.told(triggers, &vec![(key("s", "a", Family::V4), None)]);
            assert_eq!(programming.settle(&told, |_| Progress::Owed), []);
        }
        assert_eq!(programming.settle(&[name("s")].into(), |_| Progress::InForce).len(), MOST);
    }
}
