//! Model → kernel objects. Pure: same model, same objects, in the same order; no clock, no environment, no I/O.
//!
//! [`iptables`] and [`ipvs`] are the modes; [`egress`] is what both have; [`removal`] is the plan of nothing; `build` writes
//! a rule from left to right.

mod build;
pub mod egress;
pub mod iptables;
pub mod ipvs;
pub mod removal;

use std::sync::Arc;

use crate::model::ServicePort;

/// One fragment's step from what is in force to what is wanted. `None` = no such service port.
///
/// Both sides have the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub before: Option<Arc<ServicePort>>,
    pub after: Option<Arc<ServicePort>>,
}
