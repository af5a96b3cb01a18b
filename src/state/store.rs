//! The store of facts.

use super::Update;
use crate::net::ObjectName;
use std::collections::BTreeSet;

/// What a batch touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services whose service or endpoints may resolve differently now.
    pub services: BTreeSet<ObjectName>,
    /// Our node changed in a way that rules may depend on: every service may resolve differently.
    pub node: bool,
}

/// All facts.
#[derive(Debug, Default)]
pub struct State {}

impl State {
    /// Applies a batch as one step.
    pub fn apply(&mut self, _batch: Vec<Update>) -> Touched {
        Touched::default()
    }
}
