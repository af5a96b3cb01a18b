//! What goes: nothing is wanted, and this is the difference.

use std::sync::Arc;

use ipnet::IpNet;

use super::node::{Node, Rules};
use super::told;
use crate::engine::{has_leftovers, now, observe_servers, observe_sets_and_device};
use crate::kernel::link::Device;
use crate::kernel::nftables::{KUBE_PROXY_TABLE, ObservedTable};
use crate::kernel::xtables::observe_all;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::{ObserveError, link};
use crate::model::{IpvsSettings, Settings};
use crate::net::Family;
use crate::plan::iptables::{NFACCT_CT_INVALID, NFACCT_LOCALHOST};
use crate::plan::ipvs::{Difference, Goal, Observed, Planner, compare};
use crate::plan::removal::{Removal, Search};

/// The accounting objects that kube-proxy makes, and weir in its place (contract 3.2).
const COUNTERS: [&str; 2] = [NFACCT_CT_INVALID, NFACCT_LOCALHOST];

/// Everything that goes, and why something stays.
pub struct Leftovers {
    pub rules: Vec<(Variant, Removal)>,
    /// Without rules.
    pub others: Difference,
    /// It knows of no service.
    pub planner: Planner,
    pub tables: Vec<ObservedTable>,
    pub counters: Vec<&'static str>,
    /// What could not be read, and what stays.
    problems: Vec<String>,
}

impl Leftovers {
    /// Looks at everything. Virtual servers at addresses of these networks stay.
    pub fn find(node: &mut Node, exclude_cidrs: &[IpNet]) -> Self {
        let mut problems = std::mem::take(&mut node.problems);
        let rules = node.rules.iter_mut().filter_map(|rules| noted(search(rules), &mut problems)).collect();
        let tables = node.tables.as_mut().map(|tables| tables.observe(KUBE_PROXY_TABLE));
        let tables = tables.and_then(|found| noted(found, &mut problems)).unwrap_or_default();
        let (others, planner) = find_others(node, exclude_cidrs, &mut problems);
        let counters = find_counters(node, &mut problems);
        let mut leftovers = Leftovers { rules, others, planner, tables, counters, problems };
        leftovers.keep_what_is_held();
        leftovers
    }

    /// What could not be read, and what stays because of others' rules. One line each.
    pub fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    /// Sets and accounting objects that rules look at which do not go.
    fn keep_what_is_held(&mut self) {
        for (_, Removal { held, .. }) in &self.rules {
            self.others.sets.sets.retain(|name, _| !held.sets.contains(name.as_str()));
            self.counters.retain(|name| !held.counters.contains(*name));
        }
        let several = self.rules.len() > 1;
        for (variant, removal) in &self.rules {
            self.problems.extend(told::held(removal, several.then_some(*variant)));
        }
    }
}

/// The value, or the error among the problems.
fn noted<T>(result: Result<T, ObserveError>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| problems.push(error.to_string())).ok()
}

fn search(rules: &mut Rules) -> Result<(Variant, Removal), ObserveError> {
    let mut search = Search::new(|name| COUNTERS.contains(&name));
    let show = &mut |family, table, chain| search.observed(family, table, chain);
    observe_all(&mut *rules.kernel, &rules.families, show)?;
    Ok((rules.variant, search.finish()))
}

/// Sets, the device, virtual servers.
fn find_others(node: &mut Node, exclude_cidrs: &[IpNet], problems: &mut Vec<String>) -> (Difference, Planner) {
    let settings = Arc::new(settings(node, exclude_cidrs));
    let observed = observe(node, problems);
    if let Device::Other { kind } = &observed.device {
        problems.push(format!(
            "the device {} stays: it is a {kind} and no dummy device, so neither kube-proxy nor weir made it",
            link::SERVICE_DEVICE
        ));
    }
    compare(&settings, &Family::ALL, Goal::Retire, &observed, &|_| false, now())
}

/// Nobody waits for connections.
fn settings(node: &Node, exclude_cidrs: &[IpNet]) -> Settings {
    let defaults = Settings::default();
    let ipvs = IpvsSettings { drain_seconds: 0, exclude_cidrs: exclude_cidrs.into(), ..defaults.ipvs.clone() };
    Settings { local_addresses: node.addresses.clone(), ipvs, ..defaults }
}

/// What there is of sets, device and virtual servers, all or nothing: what is ours of one shows in the others, so none may
/// go as long as one cannot be read.
fn observe(node: &mut Node, problems: &mut Vec<String>) -> Observed {
    let nothing = || Observed { sets: Vec::new(), device: Device::Absent, servers: Vec::new() };
    let seen = match (&mut node.sets, &mut node.links) {
        (Some(sets), Some(links)) => observe_sets_and_device(&mut **sets, &mut **links),
        (None, Some(links)) => links.observe().map(|device| Observed { device, ..nothing() }),
        (_, None) => return nothing(),
    };
    let Some(mut observed) = noted(seen, problems) else { return nothing() };
    if has_leftovers(&observed) {
        let servers = (node.servers)().and_then(|servers| match servers {
            Some(mut servers) => observe_servers(&mut *servers, &Family::ALL),
            None => Ok(Vec::new()),
        });
        match servers {
            Ok(servers) => observed.servers = servers,
            Err(error) => {
                problems.push(format!(
                    "sets and virtual servers stay, for they cannot be told apart from others': {error}"
                ));
                return nothing();
            }
        }
    }
    observed
}

fn find_counters(node: &mut Node, problems: &mut Vec<String>) -> Vec<&'static str> {
    let Some(counters) = &mut node.counters else { return Vec::new() };
    let mut found = Vec::new();
    for name in COUNTERS {
        match counters.has(name) {
            Ok(true) => found.push(name),
            Ok(false) => {}
            Err(error) => problems.push(format!("cannot look for the accounting object {name}: {error}")),
        }
    }
    found
}
