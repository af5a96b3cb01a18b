//! The kernel side as the engine sees it: two verbs over fragments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::xtables::{ApplyError, ApplyErrorKind, ObserveError, Scope};
use crate::model::{ServicePort, ServicePortKey};
use crate::net::Family;
use crate::plan::Move;

/// A planner and a driver behind one face. Calls block; the engine makes them on a thread of their own, one at a time.
///
/// A backend remembers the fragments that the kernel said yes to. [`Move::before`] is always what it remembers.
pub trait Backend: Send {
    /// Makes exactly the changes of these fragments.
    ///
    /// The base (what an empty cluster needs) is part of the change where the backend does not remember that it is in
    /// place; then an empty slice installs the base alone. On an error the backend remembers what it did before the
    /// call; the kernel may hold part of the change.
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError>;

    /// Reads the kernel, and makes it hold the base and exactly these fragments by the smallest difference; with
    /// [`RepairMode::ReportOnly`] only says what the difference is.
    ///
    /// With [`Scope::All`], after a success with [`RepairMode::Repair`] the backend remembers `model`. Otherwise it
    /// remembers what it did before the call; after an error of the apply kind the kernel may hold part of the change.
    ///
    /// With [`Scope::Chains`], `model` is what the backend remembers, and only these chains are read, compared and
    /// written. A backend that cannot know what they should hold, because part of the kernel is in doubt or it has
    /// forgotten, takes the request for one about everything.
    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError>;

    /// Forgets every fragment and the base: the next [`apply`](Backend::apply) writes each of its objects whole,
    /// whatever the kernel holds, and the base with it. Nothing is removed that is not named, and no jump is added
    /// that is already there: rules of fragments not yet applied again stay as they are wherever that is possible.
    fn forget(&mut self);

    /// Does what is due by time alone: removes what was only kept for its last connections.
    ///
    /// # Errors
    /// The kernel could not be read or written; what is due stays due.
    fn tend(&mut self) -> Result<(), RepairError> {
        Ok(())
    }

    /// How long to wait before [`tend`](Backend::tend); `None` as long as there is nothing to tend.
    fn rest(&self) -> Option<Duration> {
        None
    }

    /// What is not as it was asked for, and what is only kept for a while.
    fn standing(&self) -> Standing {
        Standing::default()
    }

    /// The fragment that owns what the error names, if that is cheap to tell. Only a hint: a wrong one costs a few
    /// more attempts.
    fn suspect(&self, _error: &ApplyError) -> Option<ServicePortKey> {
        None
    }
}

impl Backend for Box<dyn Backend> {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        (**self).apply(moves)
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError> {
        (**self).repair(model, scope, mode)
    }

    fn forget(&mut self) {
        (**self).forget();
    }

    fn tend(&mut self) -> Result<(), RepairError> {
        (**self).tend()
    }

    fn rest(&self) -> Option<Duration> {
        (**self).rest()
    }

    fn standing(&self) -> Standing {
        (**self).standing()
    }

    fn suspect(&self, error: &ApplyError) -> Option<ServicePortKey> {
        (**self).suspect(error)
    }
}

/// Numbers of what is not as it was asked for, and of what is only kept for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Service ports that are spread by the default scheduler, for the kernel lacks the one that they ask for.
    pub substituted: usize,
    /// Frontends that are not served, for somebody else's virtual server is in their place.
    pub denied: usize,
    /// Endpoints that are kept for their last connections.
    pub draining: usize,
}

/// Whether a compare writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairMode {
    #[default]
    Repair,
    /// Differences are told and left alone.
    ReportOnly,
}

/// One sort of difference between the kernel and the plan: labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DifferenceKind {
    pub family: Family,
    /// Where: `nat`, `filter`, `mangle`, or what another backend calls its parts.
    pub table: &'static str,
    /// What: `chain missing`, `chain changed`, `chain extra`, `rule missing`, …
    pub kind: &'static str,
}

/// What a compare found, and, unless it only reported, put right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// How many objects differed.
    pub differences: BTreeMap<DifferenceKind, u64>,
    /// One line for each difference, or for the first of very many.
    pub lines: Vec<String>,
}

impl Repair {
    /// How many objects differed, of all sorts.
    pub fn total(&self) -> u64 {
        self.differences.values().sum()
    }
}

/// A compare failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RepairError {
    /// The kernel could not be read; nothing was written.
    #[error("cannot read the kernel's rules: {0}")]
    Observe(#[from] ObserveError),
    /// The kernel was read; writing the difference failed.
    #[error("cannot repair the kernel's rules: {0}")]
    Apply(#[from] ApplyError),
}

impl RepairError {
    /// What the kernel said to the write; `None` if it never came to one.
    pub fn kind(&self) -> Option<ApplyErrorKind> {
        match self {
            RepairError::Observe(_) => None,
            RepairError::Apply(error) => Some(error.kind),
        }
    }
}
