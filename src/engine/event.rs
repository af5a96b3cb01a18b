//! What the engine is told, and what it asks for.

use std::sync::Arc;

use super::backend::{Repair, RepairError, RepairMode, Standing};
use super::fragments::Fragments;
use super::notice::Notice;
use super::pacing::Moment;
use crate::kernel::xtables::{ApplyError, Scope, Suspicion};
use crate::model::{ServicePort, ServicePortKey};
use crate::plan::Move;

/// New desired values; `None` = no such service port any more. They are taken in order.
pub type Resolved = Vec<(ServicePortKey, Option<Arc<ServicePort>>)>;

/// An apply failed.
#[derive(Clone, Debug)]
pub struct ApplyFailure {
    pub error: ApplyError,
    /// The fragment that the kernel blames, where that is known ([`Backend::suspect`](super::Backend::suspect)).
    pub suspect: Option<ServicePortKey>,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Service ports resolve differently now.
    Resolved(Resolved),
    /// The source has told everything there is. Nothing is programmed before.
    Synced,
    /// Settings that rules depend on changed; the backend knows them already.
    BaseChanged,
    /// Someone seems to have changed our rules.
    DriftSeen(Suspicion),
    /// The time of the last [`Action::WakeAt`] has come.
    Wake,
    /// The [`Action::Apply`] in flight is over.
    ApplyDone(Result<(), ApplyFailure>),
    /// The [`Action::Repair`] in flight is over.
    RepairDone(Result<Repair, RepairError>),
    /// What the backend could not do as it was asked has changed.
    Standing(Standing),
    /// No more kernel actions.
    Stop,
}

/// Something is to be done. At most one of `Apply` and `Repair` is in flight at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make these moves; answer with [`Event::ApplyDone`]. With `forget`, call
    /// [`Backend::forget`](super::Backend::forget) first. No moves at all: make sure of the base.
    Apply { moves: Vec<Move>, forget: bool },
    /// Compare this part of the kernel with these fragments, which are all that there are; answer with
    /// [`Event::RepairDone`].
    Repair { model: Fragments, scope: Scope, mode: RepairMode },
    /// Send [`Event::Wake`] at this time; replaces the time asked for before.
    WakeAt(Moment),
    /// The kernel said yes to these moves.
    Applied(Vec<Move>),
    /// Tell the operator.
    Notice(Notice),
}
