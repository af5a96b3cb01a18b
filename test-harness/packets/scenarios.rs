//! The packets of `rules/scenarios`, sent in iptables mode.

use std::sync::Arc;

use weir::cmd::options::ProxyMode;
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{Changes, Table, Xtables};
use weir::model::oracle::Mode;
use weir::model::{ServicePort, Settings};
use weir::net::Family;
use weir::plan::iptables::Desired;
use weir::sim::scenario::{Flow, Scenario};

use super::fixture::Real;
use super::judge::{self, flows_of, judge_all};
use super::variants::{driver, on_each_variant, restore, tell_untouched};

#[test]
fn every_packet_meets_its_verdict() {
    let scenarios = judge::scenarios();
    on_each_variant(|variant| judge(variant, &scenarios));
}

fn judge(variant: Variant, scenarios: &[Scenario]) {
    let flows: Vec<&Flow> = scenarios.iter().flat_map(flows_of).collect();
    let real = Real::new(&flows, Mode::Iptables);
    let Some(mut driver) = driver(real.lab.node(), variant) else { return };
    tell_untouched(&real.lab, &driver, ProxyMode::Iptables);
    let mut kernel = Kernel { real: &real, driver: &mut driver };
    judge_all(variant.as_str(), &real, &mut kernel, scenarios);
}

/// The node's kernel.
struct Kernel<'a> {
    real: &'a Real,
    driver: &'a mut RestoreDriver,
}

impl judge::Kernel for Kernel<'_> {
    const MODE: Mode = Mode::Iptables;

    /// Our rule in the chain that we share with the kubelet would stay.
    fn clean(&mut self) {
        self.install(Desired::nothing());
        restore(self.real.lab.node(), self.driver, Family::V4, "*filter\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n");
    }

    fn settle(&mut self, settings: &Settings, model: &[Arc<ServicePort>]) {
        let families = self.driver.tools().families();
        self.install(Desired::plan(&Arc::new(settings.clone()), &families, model).0);
    }
}

impl Kernel<'_> {
    fn install(&mut self, desired: Desired) {
        let node = self.real.lab.node();
        let driver = &mut *self.driver;
        node.run(|| {
            let mut comparison = desired.compare();
            for family in driver.tools().families() {
                for table in Table::ALL {
                    driver.observe(family, table, &mut |chain| comparison.observed(family, table, chain)).unwrap();
                }
            }
            let changes: Changes = comparison.finish();
            if !changes.is_empty() {
                driver.apply(&changes).unwrap();
            }
        })
        .unwrap();
    }
}
