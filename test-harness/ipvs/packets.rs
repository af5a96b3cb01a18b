//! The packets of `rules/scenarios` in IPVS mode, sent, and cases of the suite `packets` that are about endpoints, not
//! about rules.

use std::sync::{Arc, Mutex};

use weir::cmd::options::ProxyMode;
use weir::engine::{Backend, IpvsBackend, IpvsHooks, Kernel, RepairMode, SharedSettings};
use weir::kernel::ipset::IpsetDriver;
use weir::kernel::ipvs::IpvsDriver;
use weir::kernel::link::LinkDriver;
use weir::kernel::xtables::Scope;
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::Variant;
use weir::lab::Host;
use weir::model::oracle::Mode;
use weir::model::{ServicePort, Settings};
use weir::sim::scenario::Flow;

use super::shared::fixture::Real;
use super::shared::judge::{self, flows_of, judge_all};
use super::shared::variants::{driver, tell_untouched};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![("every_packet_meets_its_verdict", || scenarios(Variant::Nft))]
}

fn scenarios(variant: Variant) {
    let scenarios = judge::scenarios();
    let flows: Vec<&Flow> = scenarios.iter().flat_map(flows_of).collect();
    let real = Real::new(&flows, Mode::Ipvs);
    let Some(driver) = driver(real.lab.node(), variant) else { return };
    tell_untouched(&real.lab, &driver, ProxyMode::Ipvs);
    let mut node = Node::new(real.lab.node(), driver);
    judge_all(variant.as_str(), &real, &mut node, &scenarios);
}

/// The node's kernel under the backend of IPVS mode.
struct Node<'a> {
    host: &'a Host,
    settings: SharedSettings,
    backend: IpvsBackend<RestoreDriver, IpsetDriver, LinkDriver, IpvsDriver>,
}

impl<'a> Node<'a> {
    fn new(host: &'a Host, rules: RestoreDriver) -> Self {
        let families = rules.tools().families();
        let open = || (IpsetDriver::open().unwrap(), LinkDriver::open().unwrap(), IpvsDriver::open(1).unwrap());
        let (sets, links, servers) = host.run(open).unwrap();
        for name in ["conntrack", "expire_nodest_conn", "expire_quiescent_template"] {
            host.set_sysctl(&format!("net/ipv4/vs/{name}"), "1").unwrap();
        }
        let settings = SharedSettings::new(Mutex::new(Arc::new(Settings::default())));
        let kernel = Kernel { rules, sets, links, servers };
        let backend = IpvsBackend::new(kernel, settings.clone(), families, IpvsHooks::default());
        Node { host, settings, backend }
    }
}

impl judge::Kernel for Node<'_> {
    const MODE: Mode = Mode::Ipvs;

    /// The base stays: it leads nowhere without services.
    fn clean(&mut self) {
        self.settle(&Settings::default(), &[]);
    }

    /// Nothing drains here: packets of one step must not find what the one before left.
    fn settle(&mut self, settings: &Settings, model: &[Arc<ServicePort>]) {
        let mut settings = settings.clone();
        settings.ipvs.drain_seconds = 0;
        *self.settings.lock().unwrap() = Arc::new(settings);
        let backend = &mut self.backend;
        let repaired = self.host.run(|| backend.repair(model, &Scope::All, RepairMode::Repair)).unwrap();
        repaired.unwrap_or_else(|error| panic!("{error}"));
    }
}
