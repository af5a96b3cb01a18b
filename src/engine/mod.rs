//! The engine: when to write to the kernel, when to try again, whom to leave out, when to look for drift.
//!
//! [`Engine::step`] is a pure function of the state, an event and the time; it returns what is to be done. [`Runner`]
//! is the thin loop around it. Read in this order:
//!
//! | file | what |
//! |---|---|
//! | `backend` | the kernel side: apply moves, repair everything or some chains, forget |
//! | `event`, `notice`, `told` | what the engine is told, what it asks for, what an operator is told, and was told |
//! | `fragments`, `ledger`, `owed` | what is desired, applied, in flight and owed, and since when |
//! | `pacing`, `upkeep` | gaps, rests and waits; when a compare is due, and how much of the kernel it is about |
//! | `bisect`, `quarantine` | refused batches, refused fragments |
//! | `machine`, `outcome` | the step: choice of the next run, consequences of the last |
//! | `status`, `waits`, `programming` | a snapshot and its health; how long changes waited, by our clock and by the API server's |
//! | `worker`, `tending`, `run` | the kernel thread, what it does by the clock, the loop |
//! | `iptables` | the backend of iptables mode, and its parts: |
//! | `whole`, `first`, `partial`, `describe` | comparing everything; what comes first where nothing leads to services; comparing some chains; a difference in words |
//! | `ipvs` | the backend of IPVS mode |
//! | `doubt`, `kept` | chains in doubt after a change that failed half way; shared chains during a rebuild |
//!
//! # Runs
//! A *run* is one kernel action, or one batch and its bisecting. At most one kernel action is in flight. The first starts
//! at once, and so does a change when nothing happened lately.
//!
//! From the end of a run to the start of the next passes `min_sync_period`, as configured, and before the next changes
//! are applied a *rest* as well: three times what the last changes took, at most five seconds. So the kernel is worked on
//! for a quarter of the time however many changes come, and a small cluster, where a change takes a millisecond, hardly
//! waits. Whatever becomes dirty meanwhile goes into the next batch, all of it: the batch grows with how long the kernel
//! takes, nothing else. What a run costs is the dearest of the last ones, halved with each that follows, and forgotten
//! after a pause. Full compares make no rest for changes: they are rare by themselves.
//!
//! Five kinds of runs take turns where several are ready, so that none starves another: a partial compare, a full
//! compare, a batch of everything that is dirty and unsuspected (*fresh*), the groups of suspects, one quarantined
//! fragment.
//!
//! # Compares
//! Nothing runs before the source is synced. The first run is a compare with everything desired: it adopts what is
//! there and changes what differs. Later compares hold the kernel to what it said yes to, so that what they find is
//! drift; they run every `sync_period`, at once when settings changed or someone may have changed anything, and once
//! after failed applies, when the kernel answers again.
//!
//! Where a packet finds no way to services (a cold start, flushed tables), a backend brings DNS and the API server's own
//! service into force before everything else. That is its business alone: one action, one outcome.
//!
//! A *partial* compare is about the chains that someone was seen to change ([`Event::DriftSeen`]), and nothing else is
//! read or written. It waits for no `min_sync_period` and makes none. It says nothing of the rest of the kernel: the next
//! full compare is due when it was, and health's *last look* stays. Several suspicions add up; with any other reason for
//! a compare they are part of a full one. If it is refused, something else is wrong as well, and a full one follows.
//!
//! Compares that were asked for are followed by a rest of their own kind, so that two who keep changing a rule against
//! each other cannot keep the kernel at work, nor changes waiting. What is repaired, and by whom it was changed, is told
//! once for as long as the same keeps happening.
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
//! A full compare has no parts that could be left out: a smaller model would remove rules that serve. So everything is
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
mod ipvs;
mod kept;
mod ledger;
mod machine;
mod notice;
mod outcome;
mod owed;
mod pacing;
mod partial;
mod programming;
mod quarantine;
mod run;
mod status;
mod tending;
mod told;
mod upkeep;
mod waits;
mod whole;
mod worker;

pub use backend::{Backend, DifferenceKind, Repair, RepairError, RepairMode, Standing};
pub use event::{Action, ApplyFailure, Event, Resolved};
pub use fragments::Fragments;
pub use iptables::{IptablesBackend, SharedSettings};
pub use ipvs::{
    IpvsBackend, IpvsHooks, Kernel, OnDenied, Step, WithCompanion, has_leftovers, now, observe_servers,
    observe_sets_and_device, steps,
};
pub use ledger::Progress;
pub use machine::Engine;
pub use notice::{Notice, Severity};
pub use pacing::{Moment, Pacing};
pub use run::{Clock, Facts, Handle, Listener, OnProgrammed, RunError, Runner};
pub use status::{Counters, Failures, FamilyStatus, QuarantinedStatus, Status, Unhealthy};
pub use upkeep::Cause;
pub use waits::{WAIT_BOUNDS, Waits};
pub use worker::{Finished, Hooks, KernelThread, OnApplied, Task};

#[cfg(test)]
mod tests;
