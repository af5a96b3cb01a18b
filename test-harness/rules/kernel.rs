//! A proxy over a simulated kernel, without an engine: what is planned is applied.

use std::sync::Arc;

use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{Changes, Table, Xtables};
use weir::model::oracle::Mode;
use weir::model::{ServicePort, Settings};
use weir::net::Family;
use weir::plan::iptables::{Desired, Planner};
use weir::sim::SimKernel;
use weir::sim::trace::{Ruleset, lint};

use crate::proxy::{Proxy, moves};

/// A kernel that holds the rules of a model.
pub struct Programmed {
    pub kernel: SimKernel,
    planner: Planner,
    model: Vec<Arc<ServicePort>>,
}

impl Programmed {
    /// From an empty kernel to these services in one step.
    pub fn new(variant: Variant, settings: &Arc<Settings>, model: Vec<Arc<ServicePort>>) -> Self {
        let mut kernel = SimKernel::new(variant);
        let (desired, planner) = Desired::plan(settings, &Family::ALL, &model);
        let changes = compare(&mut kernel, desired);
        kernel.apply(&changes).unwrap_or_else(|error| panic!("the kernel refuses the plan: {error}"));
        Programmed { kernel, planner, model }
    }

    /// On to another model by the smallest change, which is returned.
    pub fn change(&mut self, model: Vec<Arc<ServicePort>>) -> Changes {
        let changes = self.planner.replan(&moves(&self.model, &model));
        self.kernel.apply(&changes).unwrap_or_else(|error| panic!("the kernel refuses the change: {error}"));
        self.model = model;
        changes
    }
}

impl Proxy for Programmed {
    const MODE: Mode = Mode::Iptables;

    fn start(variant: Variant, settings: &Arc<Settings>, model: Vec<Arc<ServicePort>>) -> Self {
        Programmed::new(variant, settings, model)
    }

    fn go_on(&mut self, model: Vec<Arc<ServicePort>>) {
        self.change(model);
    }

    fn rules(&mut self, family: Family) -> Ruleset {
        let rules = Ruleset::observe(&mut self.kernel, family).unwrap();
        let findings = lint(&rules);
        assert!(findings.is_empty(), "J18 {family}: {}", findings.join("\n"));
        rules
    }
}

/// The difference between the kernel and what is wanted.
pub fn compare(kernel: &mut SimKernel, desired: Desired) -> Changes {
    let mut comparison = desired.compare();
    for family in Family::ALL {
        for table in Table::ALL {
            kernel.observe(family, table, &mut |chain| comparison.observed(family, table, chain)).unwrap();
        }
    }
    comparison.finish()
}
