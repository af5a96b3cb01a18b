//! The machine alone: single steps, then a server model that changes, forgets and fails as it likes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::net::ObjectName;
use crate::state::Node;

fn fact(name: u8, value: u8) -> Fact {
    let zone: Arc<str> = value.to_string().into();
    Fact::Node(Node { name: name.to_string().into(), zone: Some(zone), ..Node::default() })
}

fn key(name: u8) -> FactKey {
    FactKey { kind: Kind::Node, name: ObjectName::new("", name.to_string()) }
}

fn present(name: u8, value: u8, version: u64) -> Input {
    Input::Event(Event::Object {
        change: Change::Present(fact(name, value)),
        resource_version: Some(version.to_string()),
    })
}

fn end_of_initial_events(version: u64) -> Input {
    Input::Event(Event::Bookmark { resource_version: Some(version.to_string()), ends_initial_events: true })
}

fn watching() -> Machine {
    let mut machine = Machine::new(Kind::Node, 500);
    assert_eq!(machine.step(Input::Resume).next, Next::Request(Request::StreamingList));
    let step = machine.step(end_of_initial_events(7));
    assert_eq!(step.update, Some(Update::Replace { kind: Kind::Node, facts: Vec::new() }));
    assert_eq!(step.next, Next::Read);
    machine
}

fn resumed(machine: &mut Machine) -> Request {
    match machine.step(Input::Resume).next {
        Next::Request(request) => request,
        other => panic!("{other:?} after a wait"),
    }
}

fn refused() -> Failure {
    Failure::Refused { code: 422, message: String::new() }
}

/// Every failure in every phase: whether there is a wait, and what is asked for then.
#[test]
fn failures_lead_to_the_right_request() {
    let busy = Failure::Busy { code: 429, message: String::new(), retry_after: Some(Duration::from_secs(3)) };
    let server = Failure::Server { code: 500, message: String::new() };
    let denied = Failure::Denied { code: 403, message: String::new() };
    let text = String::new;
    let watch = || Request::Watch { resource_version: "7".to_owned() };
    let page = || Request::List { limit: 500, continue_token: Some("t".to_owned()) };
    let list = |limit| Request::List { limit, continue_token: None };
    let stream = || Request::StreamingList;
    for (failure, from_watch, from_stream, from_list) in [
        (Failure::Unreachable(text()), watch(), stream(), page()),
        (Failure::HungUp(text()), watch(), stream(), page()),
        (Failure::Stalled(""), watch(), stream(), page()),
        (denied, watch(), stream(), page()),
        (busy, watch(), stream(), page()),
        (server, watch(), stream(), page()),
        (Failure::Malformed(text()), watch(), stream(), page()),
        (Failure::Gone(text()), stream(), list(500), list(500)),
        (Failure::Missing(text()), stream(), list(500), list(500)),
        (refused(), stream(), list(500), list(500)),
        (Failure::EndlessInitialEvents, stream(), list(500), list(500)),
        (Failure::TooLarge(1), stream(), list(500), Request::List { limit: 62, continue_token: Some("t".to_owned()) }),
    ] {
        let at_least = match &failure {
            Failure::Busy { retry_after, .. } => *retry_after,
            _ => None,
        };
        let pause = Next::Wait(Pause::Backoff { at_least });

        let mut machine = watching();
        let step = machine.step(Input::Failed(failure.clone()));
        assert_eq!((step.update, &step.next), (None, &pause), "watch: {failure:?}");
        assert_eq!(resumed(&mut machine), from_watch, "watch: {failure:?}");

        let mut machine = Machine::new(Kind::Node, 500);
        let step = machine.step(Input::Failed(failure.clone()));
        assert_eq!(step.update, None);
        if from_stream == stream() {
            assert_eq!(step.next, pause, "streaming list: {failure:?}");
            assert_eq!(resumed(&mut machine), stream(), "streaming list: {failure:?}");
        } else {
            assert_eq!(step.next, Next::Request(from_stream), "a fallback does not wait: {failure:?}");
        }

        let mut machine = Machine::new(Kind::Node, 500);
        machine.step(Input::Failed(refused()));
        machine.step(Input::Page(Page {
            changes: Vec::new(),
            continue_token: Some("t".to_owned()),
            resource_version: "7".to_owned(),
        }));
        let step = machine.step(Input::Failed(failure.clone()));
        assert_eq!((step.update, &step.next), (None, &pause), "list: {failure:?}");
        assert_eq!(resumed(&mut machine), from_list, "list: {failure:?}");
    }
}

#[test]
fn a_watch_is_given_up_after_some_unusable_answers_without_progress() {
    let mut machine = watching();
    let failure = || Input::Failed(Failure::Malformed(String::new()));
    for _ in 0..RELIST_AFTER - 1 {
        machine.step(failure());
    }
    machine.step(present(1, 1, 8));
    for _ in 0..RELIST_AFTER - 1 {
        machine.step(failure());
        assert_eq!(resumed(&mut machine), Request::Watch { resource_version: "8".to_owned() });
    }
    machine.step(failure());
    assert_eq!(resumed(&mut machine), Request::StreamingList);
}

#[test]
fn an_absent_api_syncs_once_and_removes_nothing_later() {
    let missing = || Input::Failed(Failure::Missing(String::new()));
    let mut machine = Machine::new(Kind::ServiceCidr, 500);
    let step = machine.step(missing());
    assert_eq!(step.update, Some(Update::Replace { kind: Kind::ServiceCidr, facts: Vec::new() }));
    assert_eq!(step.next, Next::Wait(Pause::AbsentApi));
    assert_eq!(resumed(&mut machine), Request::StreamingList);
    let step = machine.step(missing());
    assert_eq!((step.update, step.next), (None, Next::Wait(Pause::AbsentApi)));
}

#[test]
fn a_deletion_during_the_initial_events_counts() {
    let mut machine = Machine::new(Kind::Node, 500);
    machine.step(present(1, 1, 3));
    machine.step(present(2, 1, 4));
    machine.step(Input::Event(Event::Object { change: Change::Absent(key(1)), resource_version: None }));
    let step = machine.step(end_of_initial_events(5));
    assert_eq!(step.update, Some(Update::Replace { kind: Kind::Node, facts: vec![fact(2, 1)] }));
}

/// An API server as far as the machine can see it.
#[derive(Default)]
struct Server {
    version: u64,
    objects: BTreeMap<u8, u8>,
    /// `None`: deleted.
    history: Vec<(u64, u8, Option<u8>)>,
    compacted: u64,
    snapshots: Vec<(u64, Vec<(u8, u8)>)>,
    /// What the open response still holds.
    stream: VecDeque<Input>,
    /// Changes after this version go to the open watch. `None`: nothing is open.
    sent: Option<u64>,
}

impl Server {
    fn set(&mut self, name: u8, value: Option<u8>) {
        self.version += 1;
        match value {
            Some(value) => self.objects.insert(name, value),
            None => self.objects.remove(&name),
        };
        self.history.push((self.version, name, value));
    }

    fn cut(&mut self) {
        self.stream.clear();
        self.sent = None;
    }

    fn answer(&mut self, request: &Request) -> Option<Input> {
        self.cut();
        match request {
            Request::StreamingList => {
                for (name, value) in &self.objects {
                    self.stream.push_back(present(*name, *value, 1));
                }
                self.stream.push_back(end_of_initial_events(self.version));
                self.sent = Some(self.version);
                None
            }
            Request::Watch { resource_version } => {
                let version: u64 = resource_version.parse().unwrap();
                if version < self.compacted {
                    return Some(Input::Failed(Failure::Gone(String::new())));
                }
                self.sent = Some(version);
                None
            }
            Request::List { limit, continue_token } => Some(self.page(*limit as usize, continue_token.as_deref())),
        }
    }

    fn page(&mut self, limit: usize, token: Option<&str>) -> Input {
        let (snapshot, offset) = match token {
            Some(token) => {
                let (snapshot, offset) = token.split_once('/').unwrap();
                (snapshot.parse().unwrap(), offset.parse().unwrap())
            }
            None => {
                let all = self.objects.iter().map(|(name, value)| (*name, *value)).collect();
                self.snapshots.push((self.version, all));
                (self.snapshots.len() - 1, 0)
            }
        };
        let (version, all): &(u64, Vec<(u8, u8)>) = &self.snapshots[snapshot];
        if *version < self.compacted {
            return Input::Failed(Failure::Gone(String::new()));
        }
        let end = (offset + limit).min(all.len());
        Input::Page(Page {
            changes: all[offset..end].iter().map(|(name, value)| Change::Present(fact(*name, *value))).collect(),
            continue_token: (end < all.len()).then(|| format!("{snapshot}/{end}")),
            resource_version: version.to_string(),
        })
    }

    /// The next item of the open response; an end if there is none.
    fn read(&mut self) -> Input {
        if let Some(input) = self.stream.pop_front() {
            return input;
        }
        let Some(sent) = self.sent else { return Input::Ended };
        if sent < self.compacted {
            return Input::Failed(Failure::Gone(String::new()));
        }
        let Some((version, name, value)) = self.history.iter().find(|(version, ..)| *version > sent).copied() else {
            self.cut();
            return Input::Ended;
        };
        self.sent = Some(version);
        let change = value.map_or(Change::Absent(key(name)), |value| Change::Present(fact(name, value)));
        Input::Event(Event::Object { change, resource_version: Some(version.to_string()) })
    }

    fn facts(&self) -> BTreeMap<FactKey, Fact> {
        self.objects.iter().map(|(name, value)| (key(*name), fact(*name, *value))).collect()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, Option<u8>),
    Compact,
    Fail(Failure),
    Step,
}

fn failures() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Unreachable(String::new())),
        Just(Failure::HungUp(String::new())),
        Just(Failure::Stalled("")),
        Just(Failure::Gone(String::new())),
        Just(Failure::Missing(String::new())),
        Just(Failure::Denied { code: 403, message: String::new() }),
        Just(refused()),
        Just(Failure::Busy { code: 503, message: String::new(), retry_after: None }),
        Just(Failure::Server { code: 500, message: String::new() }),
        Just(Failure::Malformed(String::new())),
        Just(Failure::TooLarge(1)),
        Just(Failure::EndlessInitialEvents),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        // Object 0 is never deleted.
        3 => (1u8..8, proptest::option::of(any::<u8>())).prop_map(|(name, value)| Act::Set(name, value)),
        1 => any::<u8>().prop_map(|value| Act::Set(0, Some(value))),
        1 => Just(Act::Compact),
        2 => failures().prop_map(Act::Fail),
        6 => Just(Act::Step),
    ];
    proptest::collection::vec(act, 0..120)
}

/// The machine with its server, and what the updates add up to.
struct World {
    server: Server,
    machine: Machine,
    next: Next,
    view: BTreeMap<FactKey, Fact>,
    synced: bool,
}

impl World {
    fn new() -> World {
        let mut server = Server::default();
        server.set(0, Some(0));
        let mut machine = Machine::new(Kind::Node, 2);
        let next = machine.step(Input::Resume).next;
        World { server, machine, next, view: BTreeMap::new(), synced: false }
    }

    fn feed(&mut self, input: Input) {
        let told_absent = matches!(&input, Input::Event(Event::Object { change: Change::Absent(_), .. }));
        let step = self.machine.step(input);
        match step.update {
            Some(Update::Upsert(fact)) => {
                self.view.insert(fact.key(), fact);
            }
            Some(Update::Delete(key)) => {
                assert!(told_absent, "{key:?} is removed without the server's word");
                self.view.remove(&key);
            }
            Some(Update::Replace { facts, .. }) => {
                self.synced = true;
                self.view = facts.into_iter().map(|fact| (fact.key(), fact)).collect();
            }
            None => {}
        }
        self.next = step.next;
        assert!(!self.synced || self.view.contains_key(&key(0)), "an object that was always there was lost");
    }

    fn step(&mut self) {
        let input = match self.next.clone() {
            Next::Wait(_) => Input::Resume,
            Next::Read => self.server.read(),
            Next::Request(request) => match self.server.answer(&request) {
                Some(input) => input,
                None => self.server.read(),
            },
        };
        self.feed(input);
    }
}

proptest! {
    /// Whatever happens, an object that is always there is always seen, nothing is removed without the server's word,
    /// and once the faults are over the view is the server's.
    #[test]
    fn nothing_is_lost(acts in acts()) {
        let mut world = World::new();
        for act in acts {
            match act {
                Act::Set(name, value) => world.server.set(name, value),
                Act::Compact => world.server.compacted = world.server.version,
                Act::Fail(failure) => {
                    world.server.cut();
                    world.feed(Input::Failed(failure));
                }
                Act::Step => world.step(),
            }
        }
        for _ in 0..400 {
            world.step();
        }
        prop_assert!(world.synced);
        prop_assert_eq!(world.view, world.server.facts());
    }

    /// Inputs in an order that no server and no driver produce: never a panic, never an invention.
    #[test]
    fn any_order_of_inputs_is_harmless(inputs in proptest::collection::vec(inputs(), 0..60)) {
        for kind in Kind::ALL {
            let mut machine = Machine::new(kind, 2);
            let mut told = std::collections::BTreeSet::new();
            for input in &inputs {
                match input {
                    Input::Event(Event::Object { change: Change::Present(fact), .. }) => {
                        told.insert(fact.key());
                    }
                    Input::Page(page) => told.extend(page.changes.iter().filter_map(|change| match change {
                        Change::Present(fact) => Some(fact.key()),
                        _ => None,
                    })),
                    _ => {}
                }
                let is_absence = matches!(input, Input::Event(Event::Object { change: Change::Absent(_), .. }));
                match machine.step(input.clone()).update {
                    Some(Update::Upsert(fact)) => prop_assert!(told.contains(&fact.key())),
                    Some(Update::Delete(_)) => prop_assert!(is_absence),
                    Some(Update::Replace { facts, .. }) => {
                        prop_assert!(facts.iter().all(|fact| told.contains(&fact.key())));
                    }
                    None => {}
                }
            }
        }
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    let version = || proptest::option::of((0u8..9).prop_map(|version| version.to_string()));
    let change = || {
        prop_oneof![
            (0u8..4, 0u8..4).prop_map(|(name, value)| Change::Present(fact(name, value))),
            (0u8..4).prop_map(|name| Change::Absent(key(name))),
            Just(Change::Unreadable),
        ]
    };
    prop_oneof![
        Just(Input::Resume),
        Just(Input::Ended),
        failures().prop_map(Input::Failed),
        (change(), version())
            .prop_map(|(change, resource_version)| { Input::Event(Event::Object { change, resource_version }) }),
        (version(), any::<bool>()).prop_map(|(resource_version, ends_initial_events)| {
            Input::Event(Event::Bookmark { resource_version, ends_initial_events })
        }),
        (proptest::collection::vec(change(), 0..3), version()).prop_map(|(changes, continue_token)| {
            Input::Page(Page { changes, continue_token, resource_version: "5".to_owned() })
        }),
    ]
}
