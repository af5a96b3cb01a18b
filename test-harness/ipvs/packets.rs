//! The packets of `rules/scenarios` in IPVS mode, sent, and cases of the suite `packets` that are about endpoints, not
//! about rules.

use std::sync::{Arc, Mutex};

use weir::cmd::options::ProxyMode;
use weir::engine::{Backend, IpvsBackend, IpvsHooks, Kernel, RepairMode, SharedSettings};
use weir::kernel::ipset::IpsetDriver;
use weir::kernel::ipvs::IpvsDriver;
use weir::kernel::link::LinkDriver;
use weir::kernel::xtables::variant::{DriverChoice, Variant, find};
use weir::kernel::xtables::{Driver, Scope};
use weir::lab::Host;
use weir::model::oracle::Mode;
use weir::model::{ServicePort, Settings};
use weir::sim::scenario::{Flow, Scenario};

use super::shared::fixture::Real;
use super::shared::judge::{self, flows_of, judge_all};
use super::shared::variants::{driver, tell_untouched};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("every_packet_meets_its_verdict_1", || scenarios(Variant::Nft, 0)),
        ("every_packet_meets_its_verdict_2", || scenarios(Variant::Legacy, 1)),
        ("every_packet_meets_its_verdict_3", || scenarios(Variant::Nft, 2)),
        ("every_packet_meets_its_verdict_4", || scenarios(Variant::Legacy, 3)),
    ]
}

/// In how many parts the scenarios are played.
const PARTS: usize = 4;

fn scenarios(variant: Variant, part: usize) {
    let scenarios: Vec<Scenario> = judge::scenarios().into_iter().skip(part).step_by(PARTS).collect();
    let flows: Vec<&Flow> = scenarios.iter().flat_map(flows_of).collect();
    let real = Real::new(&flows, Mode::Ipvs);
    let Some(driver) = driver(real.lab.node(), variant) else { return };
    tell_untouched(&real.lab, &driver, ProxyMode::Ipvs);
    let mut node = Node::new(real.lab.node(), variant);
    judge_all(variant.as_str(), &real, &mut node, &scenarios);
}

/// The node's kernel under the backend of IPVS mode.
struct Node<'a> {
    host: &'a Host,
    settings: SharedSettings,
    backend: IpvsBackend<Driver, IpsetDriver, LinkDriver, IpvsDriver>,
}

impl<'a> Node<'a> {
    /// Rules are written in the way that weir finds best.
    fn new(host: &'a Host, variant: Variant) -> Self {
        let rules = host.run(|| find(Some(variant), DriverChoice::Auto).unwrap()).unwrap();
        let families = rules.families();
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
        let settings = self.settings.lock().unwrap().clone();
        self.settle(&settings, &[]);
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
