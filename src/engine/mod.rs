//! The engine: when to write to the kernel, when to try again, whom to leave out, when to look for drift.
//!
//! [`Engine::step`] is a pure function of the state, an event and the time; it returns what is to be done. [`Runner`]
//! is the thin loop around it. Read in this order:
//!
//! | file | what |
//! |---|---|
//! | `backend` | the kernel side: apply moves, repair as a whole, forget |
//! | `iptables`, `doubt`, `kept` | the backend of iptables mode; chains in doubt; shared chains during a rebuild |
//! | `event`, `notice` | what the engine is told, what it asks for, what an operator is told |
//! | `ledger` | what is desired, applied, in flight and owed |
//! | `pacing`, `upkeep` | gaps and waits; when a full compare is due |
//! | `bisect`, `quarantine` | refused batches, refused fragments |
//! | `iptables`, `doubt` | the backend of iptables mode, and what it does after a change that failed half way |
//! | `machine`, `outcome` | the step: choice of the next run, consequences of the last |
//! | `status` | a snapshot and its health |
//! | `worker`, `run` | the kernel thread, the loop |
//!
//! # Runs
//! A *run* is one kernel action, or one batch and its bisecting. At most one kernel action is in flight. From the end
//! of a run to the start of the next passes `min_sync_period`; the first starts at once. Whatever becomes dirty
//! meanwhile goes into the next batch, all of it: the batch grows with how long the kernel takes, nothing else.
//!
//! Four kinds of runs take turns where several are ready, so that none starves another: a full compare, a batch of
//! everything that is dirty and unsuspected (*fresh*), the groups of suspects, one quarantined fragment.
//!
//! Nothing runs before the source is synced. The first run is a compare with everything desired: it adopts what is
//! there and changes what differs. Later compares hold the kernel to what it said yes to, so that what they find is
//! drift; they run every `sync_period`, at once when settings changed or someone is suspected of having changed our
//! rules, and once after failed applies, when the kernel answers again.
//!
//! # Failures
//! A fragment is dirty until the kernel said yes, so a failed apply loses nothing.
//!
//! * *Busy, Unavailable*: the batch is tried again after 100 ms, doubling up to `sync_period`. A new change is worth
//!   an attempt earlier, but not within the first 100 ms, nor within the gap. A success ends the waiting.
//! * *Refused*: the batch is split in halves, or, where the kernel names the fragment at fault, into that one and all
//!   others; the parts are tried one after the other, each a batch of its own, without a gap. A part that is accepted
//!   is done with; a part that is refused is split again; a single fragment that is refused goes into **quarantine**.
//!   Finding one fragment among *n* takes at most log2 *n* refusals. After eight quarantines the run ends, with groups
//!   left or not: the search for many keeps to the pacing and takes turns with everyone else.
//! * A change that failed may be half in force. The chains that it was about are written again with whatever comes next
//!   (`doubt`), so that nobody else is refused for what it left, and a compare tidies up ten seconds later.
//! * A group holds identities, not values: what is sent is what is wanted at that time. No fragment is sent an older
//!   value after a newer one was accepted.
//! * A quarantined fragment stays as it was last accepted. It is tried again, always alone, when it is desired to be
//!   something new (at most once a second), else after 30 s, doubling up to 10 minutes. It leaves when it is accepted,
//!   or desired as it already is.
//!
//! # A refused compare
//! A compare has no parts that could be left out: a smaller model would remove rules that serve. So everything is
//! written again through applies, which can be split (a *rebuild*):
//!
//! 1. The backend forgets. What it remembered is to be applied *again*, as it was; this goes before newer values, so
//!    that a fragment whose newer value turns out to be refused keeps its last good one.
//!    Until the compare at the end, chains that many services share are not written whole but added to (`kept`): all
//!    services that the kernel serves go on being served.
//! 2. All of it is one group of suspects, tried as a whole, at once. If a mere leftover was what the compare choked on,
//!    that one batch succeeds and nothing else happens. Else it is bisected as above.
//! 3. If a single fragment is refused before anything was accepted, the base may be at fault. A batch of no fragments
//!    tells: if it is refused too, nobody is quarantined, and it is tried again with growing waits.
//! 4. When the group is used up, a compare with what is now applied follows. If that is refused too, the compare
//!    itself is at fault (something left over cannot be removed); the next comes after 30 s, doubling up to 10 minutes,
//!    or sooner if periodic looks show that the difference changed. If it is refused again: another rebuild.
//!
//! It terminates: every refusal of a group makes it smaller, every refusal of a fragment takes it out of the groups,
//! and nothing goes back into a group but by a new refusal or a rebuild.
//!
//! # Stopping
//! After [`Event::Stop`] no action is started. Rules stay.

mod backend;
mod bisect;
mod describe;
mod doubt;
mod event;
mod first;
mod fragments;
mod iptables;
mod kept;
mod ledger;
mod machine;
mod notice;
mod outcome;
mod owed;
mod pacing;
mod partial;
mod quarantine;
mod run;
mod status;
mod told;
mod upkeep;
mod whole;
mod worker;

pub use backend::{Backend, DifferenceKind, Repair, RepairError, RepairMode};
pub use event::{Action, ApplyFailure, Event, Resolved};
pub use fragments::Fragments;
pub use iptables::{IptablesBackend, SharedSettings};
pub use machine::Engine;
pub use notice::{Notice, Severity};
pub use pacing::{Moment, Pacing};
pub use run::{Clock, Facts, Handle, RunError, Runner};
pub use status::{Counters, Failures, FamilyStatus, QuarantinedStatus, Status, Unhealthy};
pub use upkeep::Cause;
pub use worker::{Finished, Hooks, KernelThread, OnApplied, Task};

#[cfg(test)]
mod tests;
