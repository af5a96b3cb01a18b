//! How long the network took to follow: from the time that the API server's side noted on a slice to the kernel's yes.

use std::collections::{BTreeMap, BTreeSet};

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
    /// In the order in which they were told.
    triggers: Vec<Trigger>,
    /// So many of them were told before the service was last sent to the kernel.
    sent: usize,
}

/// Services that carry a time, with those of their fragments that the kernel said yes to.
pub(super) type Touched = BTreeMap<ObjectName, BTreeSet<ServicePortKey>>;

impl Programming {
    /// Facts were told, with these times; this is how the services they touch resolve now.
    pub(super) fn told(&mut self, triggers: BTreeMap<ObjectName, Vec<Trigger>>, resolved: &Resolved) -> Touched {
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
        triggers.into_keys().map(|name| (name, BTreeSet::new())).collect()
    }

    /// The kernel is asked for moves.
    pub(super) fn sent(&mut self, moves: &[Move]) {
        for key in keys(moves) {
            if let Some(waiting) = self.waiting.get_mut(&key.name.service) {
                waiting.sent = waiting.triggers.len();
            }
        }
    }

    /// The kernel is asked for everything.
    pub(super) fn sent_all(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.sent = waiting.triggers.len());
    }

    /// The kernel said yes to moves.
    pub(super) fn moved(&self, moves: &[Move]) -> Touched {
        let mut touched = Touched::new();
        for key in keys(moves).filter(|key| self.waiting.contains_key(&key.name.service)) {
            touched.entry(key.name.service.clone()).or_default().insert(key.clone());
        }
        touched
    }

    /// Takes out the times of these services whose family is in force by now: of what was sent, or of all where nothing
    /// is owed. A family of which the kernel refuses a part has no such time.
    pub(super) fn settle(&mut self, touched: &Touched, progress: impl Fn(&ServicePortKey) -> Progress) -> Vec<Trigger> {
        let mut done = Vec::new();
        for (name, moved) in touched {
            let Some(waiting) = self.waiting.get_mut(name) else { continue };
            let (mut place, mut sent) = (0, 0);
            waiting.triggers.retain(|trigger| {
                let was_sent = place < waiting.sent;
                place += 1;
                let of_family = waiting.keys.iter().filter(|key| key.family == trigger.family);
                let states: Vec<_> = of_family
                    .map(|key| match progress(key) {
                        // What is owed is newer.
                        Progress::Owed if was_sent && moved.contains(key) => Progress::InForce,
                        state => state,
                    })
                    .collect();
                if states.contains(&Progress::Owed) {
                    sent += usize::from(was_sent);
                    return true;
                }
                if !states.contains(&Progress::Refused) {
                    done.push(*trigger);
                }
                false
            });
            waiting.sent = sent;
            if waiting.triggers.is_empty() {
                self.waiting.remove(name);
            }
        }
        done
    }
}

fn keys(moves: &[Move]) -> impl Iterator<Item = &ServicePortKey> {
    moves.iter().filter_map(|m| m.after.as_ref().or(m.before.as_ref())).map(|port| &port.key)
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

    fn moves(keys: &[ServicePortKey]) -> Vec<Move> {
        let port = |key: &ServicePortKey| ServicePort::new(key.clone(), [10, 0, 0, 1].into(), 80);
        keys.iter().map(|key| Move { before: Some(Arc::new(port(key))), after: None }).collect()
    }

    #[test]
    fn a_time_waits_for_every_port_of_its_family() {
        let (a, b, six) = (key("s", "a", Family::V4), key("s", "b", Family::V4), key("s", "a", Family::V6));
        let mut programming = Programming::default();
        let triggers = BTreeMap::from([(name("s"), vec![at(Family::V4, 1), at(Family::V6, 2)])]);
        let told = programming.told(triggers, &vec![(a.clone(), None), (b.clone(), None), (six.clone(), None)]);
        assert_eq!(told, [(name("s"), BTreeSet::new())].into());
        let owed = |keys: Vec<ServicePortKey>| {
            move |key: &ServicePortKey| if keys.contains(key) { Progress::Owed } else { Progress::InForce }
        };
        assert_eq!(programming.settle(&told, owed(vec![b.clone()])), [at(Family::V6, 2)]);
        assert_eq!(programming.moved(&moves(&[key("other", "a", Family::V4)])), Touched::new());
        let services = programming.moved(&moves(&[a, b]));
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
        let told = Touched::from([(name("s"), BTreeSet::new())]);
        assert_eq!(programming.settle(&told, |_| Progress::InForce).len(), MOST);
    }

    /// A service that changes all the time: each change is timed when what was sent with it is in force.
    #[test]
    fn a_newer_change_does_not_hold_up_the_times_of_what_was_sent() {
        let (a, b) = (key("s", "a", Family::V4), key("s", "b", Family::V4));
        let mut programming = Programming::default();
        let tell = |programming: &mut Programming, time| {
            let triggers = BTreeMap::from([(name("s"), vec![at(Family::V4, time)])]);
            programming.told(triggers, &vec![(a.clone(), None), (b.clone(), None)])
        };
        tell(&mut programming, 1);
        programming.sent(&moves(&[a.clone(), b.clone()]));
        tell(&mut programming, 2);
        let half = programming.moved(&moves(std::slice::from_ref(&a)));
        assert_eq!(programming.settle(&half, |_| Progress::Owed), [], "the other port is still under way");
        let all = programming.moved(&moves(&[a.clone(), b.clone()]));
        assert_eq!(programming.settle(&all, |_| Progress::Owed), [at(Family::V4, 1)]);
        assert_eq!(programming.settle(&all, |_| Progress::Owed), [], "the newer one was not sent");
        programming.sent_all();
        assert_eq!(programming.settle(&all, |_| Progress::Owed), [at(Family::V4, 2)]);
    }
}
