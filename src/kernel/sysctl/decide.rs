//! What becomes of each parameter.

use std::fmt;

use super::name::dotted;
use super::{Pin, Pins, Wanted};

/// What is done about one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Write(&'static str),
    /// It has the value that is wanted.
    AsWanted,
    /// Any value will do.
    Leave,
    /// The admin's word counts: another value than the wanted one stays.
    Pinned {
        wanted: &'static str,
        by: Pin,
    },
    /// The kernel does not have it.
    Missing {
        required: bool,
    },
}

/// What becomes of one parameter. Displayed, it is a line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its path below `/proc/sys`.
    pub name: &'static str,
    /// The value now; `None`: the kernel does not have it.
    pub before: Option<Box<str>>,
    pub action: Action,
    pub why: &'static str,
}

/// Decides on every parameter, in order. `current` gives the values now.
pub fn decide(wanted: &[Wanted], current: impl Fn(&str) -> Option<Box<str>>, pins: &Pins) -> Vec<Decision> {
    let one = |wanted: &Wanted| {
        let before = current(wanted.name);
        let action = action(wanted, before.as_deref(), pins);
        Decision { name: wanted.name, before, action, why: wanted.why }
    };
    wanted.iter().map(one).collect()
}

fn action(wanted: &Wanted, before: Option<&str>, pins: &Pins) -> Action {
    let Some(before) = before else { return Action::Missing { required: wanted.required } };
    let Some(value) = wanted.value else { return Action::Leave };
    match pins.of(wanted.name, value) {
        _ if same(before, value) => Action::AsWanted,
        Some(by) => Action::Pinned { wanted: value, by },
        None => Action::Write(value),
    }
}

/// Values of several numbers are separated by any space.
pub(super) fn same(left: &str, right: &str) -> bool {
    left.split_whitespace().eq(right.split_whitespace())
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { before, why, .. } = self;
        let name = dotted(self.name);
        let before = before.as_deref().unwrap_or_default();
        match &self.action {
            Action::Write(value) => write!(f, "{name}: {before} -> {value} ({why})"),
            Action::AsWanted => write!(f, "{name}: {before}, as wanted ({why})"),
            Action::Leave if before.is_empty() => write!(f, "{name}: left alone ({why})"),
            Action::Leave => write!(f, "{name}: {before}, left alone ({why})"),
            Action::Pinned { wanted, by } => {
                write!(f, "{name}: {before}, pinned {by}; {wanted} would be better ({why})")
            }
            Action::Missing { .. } => write!(f, "{name}: this kernel has none ({why})"),
        }
    }
}
