//! Faults that requests meet.

use std::time::Duration;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The first page of a list.
    List,
    /// A further page.
    Continue,
    StreamingList,
    Watch,
    /// A new event.
    Create,
    /// A changed event.
    Patch,
    /// In a script: any of them.
    Any,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer is an error status, with an API `Status` as its body.
    Status { code: u16, retry_after: Option<u64> },
    /// The answer is this text with status 200.
    Text(String),
    /// The connection is cut after so many bytes of the body.
    HangUpAfter(usize),
    /// No byte of an answer, for ever.
    NoAnswer,
    /// The head of the answer, and not a byte more.
    Stall,
    /// The watch ends, in order, as soon as it began.
    EndAtOnce,
    /// The first item of the watch is an `ERROR` event with this code.
    ErrorEvent { code: u16 },
    /// These bytes come before the rest of the body.
    Garbage(Vec<u8>),
    /// The initial events of a streaming list never end.
    NoInitialEventsEnd,
    /// The body comes in pieces of `size` bytes, one each `every`.
    Slow { size: usize, every: Duration },
}

#[derive(Default)]
pub(super) struct Script {
    rules: Vec<Rule>,
}

struct Rule {
    verb: Verb,
    resource: String,
    times: u32,
    fault: Fault,
}

impl Script {
    pub(super) fn add(&mut self, verb: Verb, resource: &str, times: u32, fault: Fault) {
        self.rules.push(Rule { verb, resource: resource.to_owned(), times, fault });
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The fault that a request meets: the first rule that fits, once less to go.
    pub(super) fn take(&mut self, verb: Verb, resource: &str) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.times > 0
                && (rule.verb == Verb::Any || rule.verb == verb)
                && (rule.resource == "*" || rule.resource == resource)
        })?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}
