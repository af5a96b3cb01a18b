//! Any state to any state, through the whole pipeline: facts → state → resolve → engine → plan → restore input → a
//! simulated kernel that fails now and then, and that others write to as well.
//!
//! | module | |
//! |---|---|
//! | `proxy` | the pipeline on a virtual clock |
//! | `kernel` | what is ours in a kernel and what is not |
//! | `promise` | what must hold after every kernel action: nobody loses a service that does not change |
//! | `random` | random histories; when faults stop, the kernel holds just what the last facts ask for |
//! | `rows` | rows of the catalogue |
//! | `spy` | a kernel that tells what was read and written |
//! | `drift` | chains that somebody was seen to change, and what their repair costs |
//! | `stages` | what comes first when nothing leads to services |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "cluster/mod.rs"]
mod cluster;
#[path = "convergence/drift.rs"]
mod drift;
#[path = "convergence/kernel.rs"]
mod kernel;
#[path = "convergence/promise.rs"]
mod promise;
#[path = "convergence/proxy.rs"]
mod proxy;
#[path = "convergence/random.rs"]
mod random;
#[path = "convergence/rows.rs"]
mod rows;
#[path = "convergence/spy.rs"]
mod spy;
#[path = "convergence/stages.rs"]
mod stages;
