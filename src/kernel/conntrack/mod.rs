//! Connection tracking: finding and deleting the entries of UDP flows that no longer lead where the rules do.
//!
//! A UDP "connection" lives in the kernel's table for as long as packets keep coming, and only its first packet is
//! looked up in the rules. When the endpoint that it was sent to goes away, a client that keeps sending from one port
//! is sent there for ever, unless its entry is deleted. TCP and SCTP end by themselves and are never touched, nor is
//! any flow whose destination is not a service's (contract 6.5).
//!
//! A [`Cleanup`] is what to look for: pure, made from what moved. [`Conntrack`] is the kernel's table. A [`Worker`]
//! brings the two together on a thread of its own, so that programming rules never waits for it.

mod cleanup;
mod codec;
mod flow;
mod run;
mod table;
mod worker;

#[cfg(test)]
mod tests;

pub use cleanup::{Cleanup, NodePortScope};
pub use flow::{Filter, Flow, Tuple, Zone};
pub use run::Run;
pub use table::{Conntrack, ConntrackError, Ending, FlowTable, Judgement, Purged};
pub use worker::{FamilyStats, Figures, Stats, Timing, Worker, WorkerError};
