//! A comparison of everything, for which is planned as late as possible.
//!
//! A plan of everything takes time and space where there are many services. At a cold start the kernel holds little, and
//! what comes [first](super::first) shall not wait for that plan: so what the kernel holds is kept aside until it is too
//! much to keep, or all of it was seen.

use std::sync::Arc;

use crate::kernel::xtables::{Changes, ObservedChain, PerTable, Table, sum};
use crate::model::{ServicePort, Settings};
use crate::net::Family;
use crate::plan::iptables::{Comparison, Desired, Planner};

/// So many chains are kept aside: a kernel with more of them is served already.
const ASIDE: usize = 4_096;

/// The comparison, and what was not shown to it yet.
pub(super) struct Whole<'a> {
    settings: Arc<Settings>,
    families: &'a [Family],
    model: &'a [Arc<ServicePort>],
    aside: Vec<(Family, Table, ObservedChain)>,
    planned: Option<Planned>,
}

/// A plan of everything, being compared.
struct Planned {
    comparison: Comparison,
    planner: Planner,
    rules: PerTable,
}

impl<'a> Whole<'a> {
    pub(super) fn new(settings: Arc<Settings>, families: &'a [Family], model: &'a [Arc<ServicePort>]) -> Self {
        Whole { settings, families, model, aside: Vec::new(), planned: None }
    }

    /// Shows a chain that the kernel holds.
    pub(super) fn observed(&mut self, family: Family, table: Table, chain: ObservedChain) {
        match &mut self.planned {
            Some(planned) => planned.comparison.observed(family, table, chain),
            None => self.aside.push((family, table, chain)),
        }
        if self.aside.len() >= ASIDE {
            self.planned = Some(self.plan());
        }
    }

    fn plan(&mut self) -> Planned {
        let (desired, planner) = Desired::plan(&self.settings, self.families, self.model);
        let rules = sum(desired.chains().iter().map(|(key, rules)| (key, rules.len())));
        let mut comparison = desired.compare();
        for (family, table, chain) in std::mem::take(&mut self.aside) {
            comparison.observed(family, table, chain);
        }
        Planned { comparison, planner, rules }
    }

    /// The difference, a planner that knows the model, and how many rules that comes to.
    pub(super) fn finish(mut self) -> (Changes, Planner, PerTable) {
        let Planned { comparison, planner, rules } = match self.planned.take() {
            Some(planned) => planned,
            None => self.plan(),
        };
        (comparison.finish(), planner, rules)
    }
}
