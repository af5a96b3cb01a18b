//! A driver whose writes are made by programs.

use std::collections::BTreeSet;

use super::{OwnWrites, Write};
use crate::kernel::xtables::{ApplyError, ChainName, Changes, ObserveError, ObservedChain, Table, Xtables};
use crate::net::Family;

/// A driver with each of its writes announced as [`Write::ByTool`].
#[derive(Debug)]
pub struct Announced<X> {
    driver: X,
    own: OwnWrites,
}

impl<X> Announced<X> {
    pub fn new(driver: X, own: OwnWrites) -> Self {
        Announced { driver, own }
    }
}

impl<X: Xtables> Xtables for Announced<X> {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        self.driver.observe(family, table, visit)
    }

    fn observe_chains(
        &mut self,
        family: Family,
        table: Table,
        names: &BTreeSet<ChainName>,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        self.driver.observe_chains(family, table, names, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let _writing = self.own.begin(Write::ByTool);
        self.driver.apply(changes)
    }
}
