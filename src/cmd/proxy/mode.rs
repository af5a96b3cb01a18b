//! The backend of a mode: its drivers opened, and everything that it needs found before anything is changed.

use std::path::Path;
use std::sync::Arc;

use crate::cmd::Failure;
use crate::cmd::options::{IpvsOptions, RuleOptions};
use crate::engine::{
    Backend, IptablesBackend, IpvsBackend, IpvsHooks, Kernel, OnDenied, SharedSettings, WithCompanion,
    observe_sets_and_device,
};
use crate::kernel::ipset::IpsetDriver;
use crate::kernel::ipvs::{Ipvs, IpvsDriver};
use crate::kernel::link::LinkDriver;
use crate::kernel::sysctl::{self, Decision, Pins, SysctlError, Sysctls};
use crate::kernel::xtables::Driver;
use crate::kernel::xtables::RuleCounts;
use crate::kernel::xtables::nft::probe::can_look_up_sets;
use crate::kernel::{KernelTraffic, ObserveError};
use crate::net::stable_hash64;
use crate::plan::ipvs::obstacles;

/// Above so many virtual servers the kernel no longer estimates the rates of each: before Linux 6.2 it does so every two
/// seconds in one timer interrupt, which took 20 ms and more at 50,000.
const MOST_ESTIMATED: usize = 10_000;

/// The families of objects of IPVS mode, opened and found usable.
pub struct IpvsKernel {
    objects: Objects,
    parameters: Parameters,
}

/// Their drivers.
struct Objects {
    sets: IpsetDriver,
    links: LinkDriver,
    servers: IpvsDriver,
}

/// What a backend reports to.
pub struct Needs<'a> {
    pub traffic: &'a KernelTraffic,
    pub counts: &'a RuleCounts,
    pub denied: OnDenied,
}

impl IpvsKernel {
    /// Opens them, and looks for everything that would keep the mode from working. The kernel loads the modules of IPVS
    /// and of the default scheduler if it can; nothing else changes.
    ///
    /// # Errors
    /// One line: no IPVS, no permission, ipset too old, no such scheduler, a set of another type or a device of another
    /// kind that has a name of ours.
    pub fn open(
        options: &IpvsOptions,
        node_name: &str,
        driver: &Driver,
        traffic: &KernelTraffic,
    ) -> Result<Self, Failure> {
        let cannot = |why: &dyn std::fmt::Display| Failure::new(format!("cannot use --proxy-mode ipvs: {why}"));
        check_sets(driver).map_err(|why| cannot(&why))?;
        let mut objects = Objects {
            servers: IpvsDriver::open(order_seed(node_name)).map_err(|error| cannot(&error))?,
            sets: IpsetDriver::open().map_err(|error| cannot(&error))?,
            links: LinkDriver::open().map_err(|error| cannot(&error))?,
        };
        objects.servers.count(traffic.servers.clone());
        objects.sets.count(traffic.sets.clone());
        objects.links.count(traffic.links.clone());
        let scheduler = &options.scheduler;
        if !objects.servers.has_scheduler(scheduler).map_err(|error| cannot(&error))? {
            return Err(Failure::new(format!(
                "--ipvs-scheduler {scheduler}: the kernel has no such scheduler: load its module \
                 (`modprobe ip_vs_{scheduler}`), or choose another one"
            )));
        }
        let observed =
            observe_sets_and_device(&mut objects.sets, &mut objects.links).map_err(|error| cannot(&error))?;
        if let Some(obstacle) = obstacles(&observed, &driver.families()).first() {
            return Err(cannot(obstacle));
        }
        // Last: some of them are there only since IPVS is.
        let parameters = Parameters::of(options).map_err(|error| cannot(&error))?;
        Ok(IpvsKernel { objects, parameters })
    }

    /// How long connections live without a packet, where flags say so. A kernel that refuses keeps its own times
    /// (contract 4.1).
    fn set_timeouts(&mut self, options: &IpvsOptions) {
        let Some(timeouts) = options.timeouts() else { return };
        match self.objects.servers.set_timeouts(timeouts.tcp, timeouts.tcp_fin, timeouts.udp) {
            Ok(()) => tracing::info!(?timeouts, "timeouts of IPVS connections are set"),
            Err(error) => tracing::error!(%error, ?timeouts, "timeouts of IPVS connections stay as they are"),
        }
    }
}

/// Kernel parameters: what is wanted, and whose word counts.
struct Parameters {
    system: Sysctls,
    pins: Pins,
    decisions: Vec<Decision>,
}

impl Parameters {
    fn of(options: &IpvsOptions) -> Result<Self, SysctlError> {
        let (system, pins) = (Sysctls::default(), Pins::by_name(options.kept_sysctls()).and_files(Path::new("/")));
        let wanted = sysctl::wanted(system.kernel_version()?, sysctl::Options { strict_arp: options.strict_arp });
        let decisions = system.decide(&wanted, &pins)?;
        Ok(Parameters { system, pins, decisions })
    }

    /// Stops the estimation of rates where there are very many virtual servers. Called with every new number.
    fn counted(&self, virtual_servers: usize) {
        let wanted: Vec<_> = sysctl::estimation(virtual_servers, MOST_ESTIMATED).into_iter().collect();
        let settled = self.system.decide(&wanted, &self.pins).and_then(|decisions| self.system.apply(&decisions));
        if let Err(error) = settled {
            tracing::warn!(%error, virtual_servers, "the kernel goes on estimating rates of virtual servers");
        }
    }
}

/// Whether rules can look addresses up in sets. The tools load what they need for legacy tables.
fn check_sets(driver: &Driver) -> Result<(), String> {
    match driver {
        Driver::Netlink(_) => driver.families().into_iter().try_for_each(can_look_up_sets),
        Driver::Restore(_) => Ok(()),
    }
}

/// What tells this node from others: where round robin begins depends on it.
fn order_seed(node_name: &str) -> u64 {
    stable_hash64(node_name.as_bytes())
}

/// The backend of the mode that was asked for, over drivers that are open.
///
/// # Errors
/// A kernel parameter that cannot be set, a driver that cannot be opened.
pub fn backend(
    rules: &RuleOptions,
    node_name: &Arc<str>,
    driver: Driver,
    ipvs: Option<IpvsKernel>,
    settings: &SharedSettings,
    needs: Needs<'_>,
) -> Result<Box<dyn Backend>, Failure> {
    match ipvs {
        Some(opened) => ipvs_backend(rules, driver, opened, settings, needs),
        None => iptables_backend(rules, node_name, driver, settings, needs),
    }
}

fn ipvs_backend(
    rules: &RuleOptions,
    driver: Driver,
    mut opened: IpvsKernel,
    settings: &SharedSettings,
    needs: Needs<'_>,
) -> Result<Box<dyn Backend>, Failure> {
    let families = driver.families();
    opened.set_timeouts(&rules.ipvs);
    let IpvsKernel { objects: Objects { sets, links, servers }, parameters } = opened;
    let applied = parameters.system.apply(&parameters.decisions);
    applied.map_err(|error| Failure::new(format!("cannot use --proxy-mode ipvs: {error}")))?;
    let kernel = Kernel { rules: driver, sets, links, servers };
    let mut last = None;
    let counted = move |virtual_servers| {
        if last.replace(virtual_servers) != Some(virtual_servers) {
            parameters.counted(virtual_servers);
        }
    };
    let hooks = IpvsHooks { counted: Box::new(counted), denied: needs.denied, ..IpvsHooks::default() };
    Ok(Box::new(IpvsBackend::new(kernel, settings.clone(), families, hooks)))
}

fn iptables_backend(
    rules: &RuleOptions,
    node_name: &Arc<str>,
    driver: Driver,
    settings: &SharedSettings,
    needs: Needs<'_>,
) -> Result<Box<dyn Backend>, Failure> {
    let families = driver.families();
    if rules.egress.masquerade {
        check_sets(&driver).map_err(|why| Failure::new(format!("cannot use --masquerade-egress: {why}")))?;
    }
    let iptables = IptablesBackend::new(driver, settings.clone(), families.clone()).counting(needs.counts.clone());
    match companions(needs.traffic) {
        Ok(companions) => {
            let seed = order_seed(node_name);
            let servers = needs.traffic.servers.clone();
            let open = move || {
                let mut driver = IpvsDriver::open(seed).map_err(ObserveError::from)?;
                driver.count(servers.clone());
                Ok(driver)
            };
            Ok(Box::new(WithCompanion::new(iptables, companions, open, settings.clone(), families)))
        }
        // Without ipset there are no rules of IPVS mode that could have left anything.
        Err(why) if !rules.egress.masquerade => {
            tracing::debug!(%why, "no ipset: nothing of IPVS mode can be left on this node");
            Ok(Box::new(iptables))
        }
        Err(why) => Err(Failure::new(format!("cannot use --masquerade-egress: {why}"))),
    }
}

/// What iptables mode has of IPVS mode: sets, for node egress, and what IPVS mode left.
fn companions(traffic: &KernelTraffic) -> Result<(IpsetDriver, LinkDriver), String> {
    let mut sets = IpsetDriver::open().map_err(|error| error.to_string())?;
    let mut links = LinkDriver::open().map_err(|error| error.to_string())?;
    sets.count(traffic.sets.clone());
    links.count(traffic.links.clone());
    Ok((sets, links))
}
