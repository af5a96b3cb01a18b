//! Whether the configuration fits the node, looked at once the node is known (contract 1.11, 1.13, 1.14).

use crate::cmd::Failure;
use crate::cmd::settle::{self, Settled};
use crate::net::{Family, parse_ip};
use crate::node::{Configuration, HINT_LOOPBACK, families, node_ports, primary_supported, uncovered};
use crate::state::Node;

/// Says what is odd; an error is what cannot work.
pub type Check = Box<dyn Fn(Option<&Node>) -> Result<(), Failure> + Send + Sync>;

/// A check of this configuration on a host that serves these families.
pub fn check(settled: &Settled, served: &[Family]) -> Check {
    let (settled, served) = (settled.clone(), served.to_vec());
    Box::new(move |node| look(&settled, &served, node))
}

fn look(settled: &Settled, served: &[Family], node: Option<&Node>) -> Result<(), Failure> {
    let rules = &settled.rules;
    let addresses = settle::node_addresses(rules, node);
    let failure = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    primary_supported(addresses.primary, served).map_err(|error| failure(&error))?;
    if addresses.is_guess() {
        tracing::info!("{HINT_LOOPBACK}");
    }
    let detection = settle::detection(rules, node);
    if let Some(line) = uncovered(detection, addresses.primary) {
        tracing::warn!("{line}");
    }
    let exclude: Vec<_> = rules.ipvs.exclude_cidrs().collect();
    let ports = settle::node_port_cidrs(rules, &addresses);
    let configuration = Configuration {
        primary: addresses.primary,
        dual_stack: served.len() == Family::ALL.len(),
        detection,
        cluster_cidrs: &rules.cluster_cidr,
        pod_cidrs: node.map(|node| &*node.pod_cidrs).unwrap_or_default(),
        node_port_addresses: &ports,
        ipvs_exclude_cidrs: &exclude,
        winkernel_source_vip: parse_ip(&settled.config.winkernel.source_vip),
        healthz_bind_address: settled.endpoints.healthz.map(|address| address.ip()),
        metrics_bind_address: Some(settled.endpoints.metrics.ip()),
    };
    let odd = families(&configuration).map_err(|error| failure(&error))?;
    for warning in odd.iter().chain(&node_ports(&configuration)) {
        tracing::warn!("{warning}");
    }
    Ok(())
}
