//! The reflector as a pure machine: what happened goes in; updates and what to do next come out.
//!
//! Two promises hold for any sequence of inputs. Nothing is removed unless the server said so: by a `DELETED` event, or
//! by a complete list without the object. And nothing is lost: a watch goes on from the last version seen, and where
//! that cannot be known, everything is listed again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::state::{Fact, FactKey, Kind, Update};

/// After this many answers in a row that could not be used, a watch is given up for a new list: the version that it
/// starts from may be what the server chokes on.
const RELIST_AFTER: u32 = 5;
/// How much shorter pages become when one was too long to read.
const SHRINK: u32 = 8;

/// What the reflector is doing.
#[derive(Debug)]
enum Phase {
    /// Reading pages.
    List { continue_token: Option<String>, collected: Collected },
    /// Reading the initial events of a watch, until a bookmark ends them.
    StreamingList { collected: Collected },
    /// Reading changes.
    Watch { resource_version: String },
}

/// Objects of a list that is not complete yet.
type Collected = BTreeMap<FactKey, Fact>;

/// An object as an event or a page told it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Present(Fact),
    /// Deleted, or present without a meaning for the proxy.
    Absent(FactKey),
    /// It could not be read; what is known about it stays.
    Unreadable,
}

/// An item of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Object { change: Change, resource_version: Option<String> },
    Bookmark { resource_version: Option<String>, ends_initial_events: bool },
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub changes: Vec<Change>,
    pub continue_token: Option<String>,
    pub resource_version: String,
}

/// What went wrong. The texts are one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot reach the API server: {0}")]
    Unreachable(String),
    #[error("the connection broke: {0}")]
    HungUp(String),
    #[error("the API server went silent: {0}")]
    Stalled(&'static str),
    #[error("the API server no longer has the requested version (410): {0}")]
    Gone(String),
    #[error("the API server has no such API (404): {0}")]
    Missing(String),
    #[error("the API server denies access ({code}): {message}")]
    Denied { code: u16, message: String },
    #[error("the API server refuses the request ({code}): {message}")]
    Refused { code: u16, message: String },
    #[error("the API server is busy ({code}): {message}")]
    Busy { code: u16, message: String, retry_after: Option<Duration> },
    #[error("the API server failed ({code}): {message}")]
    Server { code: u16, message: String },
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    #[error("the answer has more than {0} bytes in one piece")]
    TooLarge(usize),
    #[error("the initial events of the streaming list did not end")]
    EndlessInitialEvents,
}

/// What the driver tells the machine.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// Start, or the wait is over.
    Resume,
    Page(Page),
    Event(Event),
    /// The server ended a watch in an orderly way.
    Ended,
    Failed(Failure),
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    List { limit: u32, continue_token: Option<String> },
    StreamingList,
    Watch { resource_version: String },
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on reading the open response.
    Read,
    Request(Request),
    /// Wait, then [`Input::Resume`].
    Wait(Pause),
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// As the backoff says, and at least as long as the server asked for.
    Backoff { at_least: Option<Duration> },
    /// Until it is worth asking whether the API has appeared.
    AbsentApi,
}

/// What a step results in.
#[derive(Debug)]
pub(super) struct Step {
    pub update: Option<Update>,
    pub next: Next,
}

impl Step {
    fn quiet(next: Next) -> Step {
        Step { update: None, next }
    }
}

/// The reflector's state.
#[derive(Debug)]
pub(super) struct Machine {
    kind: Kind,
    phase: Phase,
    /// The server is thought to know streaming lists.
    streaming: bool,
    /// A complete list has been told.
    synced: bool,
    page_limit: u32,
    /// Unusable answers to a watch since its last event.
    unusable: u32,
}

impl Machine {
    pub fn new(kind: Kind, page_limit: u32) -> Machine {
        let phase = Phase::StreamingList { collected: Collected::new() };
        Machine { kind, phase, streaming: true, synced: false, page_limit: page_limit.max(1), unusable: 0 }
    }

    /// Whether lists are asked for as streams.
    pub fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// The version that a watch goes on from.
    pub fn resource_version(&self) -> Option<&str> {
        match &self.phase {
            Phase::Watch { resource_version } => Some(resource_version),
            Phase::List { .. } | Phase::StreamingList { .. } => None,
        }
    }

    /// One step.
    pub fn step(&mut self, input: Input) -> Step {
        match input {
            Input::Resume => Step::quiet(Next::Request(self.request())),
            Input::Page(page) => self.page(page),
            Input::Event(event) => self.event(event),
            Input::Ended => self.ended(),
            Input::Failed(failure) => self.failed(failure),
        }
    }

    fn request(&self) -> Request {
        match &self.phase {
            Phase::List { continue_token, .. } => {
                Request::List { limit: self.page_limit, continue_token: continue_token.clone() }
            }
            Phase::StreamingList { .. } => Request::StreamingList,
            Phase::Watch { resource_version } => Request::Watch { resource_version: resource_version.clone() },
        }
    }

    fn page(&mut self, page: Page) -> Step {
        let Phase::List { continue_token, collected } = &mut self.phase else {
            return Step::quiet(Next::Request(self.request()));
        };
        for change in page.changes {
            collect(collected, change);
        }
        if page.continue_token.is_some() {
            *continue_token = page.continue_token;
            return Step::quiet(Next::Request(self.request()));
        }
        let update = self.complete(page.resource_version);
        Step { update: Some(update), next: Next::Request(self.request()) }
    }

    /// The list is complete: one atomic replacement, and the watch starts where it ends.
    fn complete(&mut self, resource_version: String) -> Update {
        let phase = std::mem::replace(&mut self.phase, Phase::Watch { resource_version });
        let collected = match phase {
            Phase::List { collected, .. } | Phase::StreamingList { collected } => collected,
            Phase::Watch { .. } => Collected::new(),
        };
        self.synced = true;
        Update::Replace { kind: self.kind, facts: collected.into_values().collect() }
    }

    fn event(&mut self, event: Event) -> Step {
        match &mut self.phase {
            Phase::Watch { resource_version } => {
                let (change, seen) = match event {
                    Event::Object { change, resource_version } => (Some(change), resource_version),
                    Event::Bookmark { resource_version, .. } => (None, resource_version),
                };
                if let Some(seen) = seen {
                    *resource_version = seen;
                    self.unusable = 0;
                }
                Step { update: change.and_then(update), next: Next::Read }
            }
            Phase::StreamingList { collected } => match event {
                Event::Object { change, .. } => {
                    collect(collected, change);
                    Step::quiet(Next::Read)
                }
                Event::Bookmark { ends_initial_events: true, resource_version: Some(version) } => {
                    Step { update: Some(self.complete(version)), next: Next::Read }
                }
                // Without a version nothing can follow the list; the deadline ends the wait for a better one.
                Event::Bookmark { .. } => Step::quiet(Next::Read),
            },
            Phase::List { .. } => Step::quiet(Next::Request(self.request())),
        }
    }

    fn ended(&mut self) -> Step {
        match &self.phase {
            Phase::Watch { .. } | Phase::List { .. } => Step::quiet(Next::Request(self.request())),
            Phase::StreamingList { .. } => {
                self.failed(Failure::HungUp("the watch ended before its initial events did".to_owned()))
            }
        }
    }

    fn failed(&mut self, failure: Failure) -> Step {
        match self.phase {
            Phase::Watch { .. } => self.watch_failed(failure),
            Phase::StreamingList { .. } => self.streaming_list_failed(failure),
            Phase::List { .. } => self.list_failed(failure),
        }
    }

    /// A watch goes on from its version if it can, and starts over with a list if not.
    fn watch_failed(&mut self, failure: Failure) -> Step {
        let relist = match &failure {
            Failure::Unreachable(_)
            | Failure::HungUp(_)
            | Failure::Stalled(_)
            | Failure::Denied { .. }
            | Failure::Busy { .. } => false,
            Failure::Server { .. } | Failure::Malformed(_) => {
                self.unusable += 1;
                self.unusable >= RELIST_AFTER
            }
            Failure::Gone(_)
            | Failure::Missing(_)
            | Failure::Refused { .. }
            | Failure::TooLarge(_)
            | Failure::EndlessInitialEvents => true,
        };
        if relist {
            self.restart_list();
        }
        wait(&failure)
    }

    /// A server that refuses streaming lists, or does not finish them, is asked for pages.
    fn streaming_list_failed(&mut self, failure: Failure) -> Step {
        match &failure {
            Failure::Missing(_) if self.kind == Kind::ServiceCidr => self.api_is_absent(),
            Failure::Gone(_)
            | Failure::Missing(_)
            | Failure::Refused { .. }
            | Failure::TooLarge(_)
            | Failure::EndlessInitialEvents => {
                self.streaming = false;
                self.restart_list();
                Step::quiet(Next::Request(self.request()))
            }
            Failure::Unreachable(_)
            | Failure::HungUp(_)
            | Failure::Stalled(_)
            | Failure::Denied { .. }
            | Failure::Busy { .. }
            | Failure::Server { .. }
            | Failure::Malformed(_) => {
                self.restart_list();
                wait(&failure)
            }
        }
    }

    /// A page is asked for again; a list whose token has expired starts over.
    fn list_failed(&mut self, failure: Failure) -> Step {
        match &failure {
            Failure::Missing(_) if self.kind == Kind::ServiceCidr => return self.api_is_absent(),
            Failure::TooLarge(_) => self.page_limit = (self.page_limit / SHRINK).max(1),
            Failure::Gone(_) | Failure::Refused { .. } | Failure::Missing(_) | Failure::EndlessInitialEvents => {
                self.restart_list();
            }
            Failure::Unreachable(_)
            | Failure::HungUp(_)
            | Failure::Stalled(_)
            | Failure::Denied { .. }
            | Failure::Busy { .. }
            | Failure::Server { .. }
            | Failure::Malformed(_) => {}
        }
        wait(&failure)
    }

    fn restart_list(&mut self) {
        let collected = Collected::new();
        self.unusable = 0;
        self.phase = if self.streaming {
            Phase::StreamingList { collected }
        } else {
            Phase::List { continue_token: None, collected }
        };
    }

    /// ServiceCIDRs are younger than the other kinds: without the API there are none. What was known before stays.
    fn api_is_absent(&mut self) -> Step {
        self.restart_list();
        let first = !std::mem::replace(&mut self.synced, true);
        let update = first.then(|| Update::Replace { kind: self.kind, facts: Vec::new() });
        Step { update, next: Next::Wait(Pause::AbsentApi) }
    }
}

fn wait(failure: &Failure) -> Step {
    let at_least = match failure {
        Failure::Busy { retry_after, .. } => *retry_after,
        _ => None,
    };
    Step::quiet(Next::Wait(Pause::Backoff { at_least }))
}

fn collect(collected: &mut Collected, change: Change) {
    match change {
        Change::Present(fact) => {
            collected.insert(fact.key(), fact);
        }
        Change::Absent(key) => {
            collected.remove(&key);
        }
        Change::Unreadable => {}
    }
}

fn update(change: Change) -> Option<Update> {
    match change {
        Change::Present(fact) => Some(Update::Upsert(fact)),
        Change::Absent(key) => Some(Update::Delete(key)),
        Change::Unreadable => None,
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
