//! A valid configuration in the types that the rest of the program uses.

use std::net::SocketAddr;

use super::complete::{ConntrackOptions, Endpoints};
use crate::cmd::Failure;
use crate::cmd::options::{
    DetectLocalMode, IpvsOptions, List, NodePortAddress, OwnOptions, ProxyMode, RuleOptions, scheduler,
};
use crate::config::{Config, GoDuration};
use crate::kernel::ipvs::Scheduler;
use crate::net::{parse_cidr, parse_ip};

/// What rules depend on.
///
/// # Errors
/// The mode is kube-proxy's and not weir's; a scheduler's name is none; networks of pods are none.
pub(super) fn rules(config: &Config, own: &OwnOptions) -> Result<RuleOptions, Failure> {
    let proxy_mode = mode(config)?;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let address = |text: &str| match text {
        "primary" => Some(NodePortAddress::Primary),
        cidr => parse_cidr(cidr).map(NodePortAddress::Net),
    };
    Ok(RuleOptions {
        proxy_mode,
        iptables_variant: own.iptables_variant,
        iptables_driver: own.iptables_driver,
        cluster_cidr: cluster_cidr(config, own)?,
        detect_local_mode: detect_local_mode(config),
        pod_bridge_interface: given(&config.detect_local.bridge_interface),
        pod_interface_name_prefix: given(&config.detect_local.interface_name_prefix),
        bind_address: parse_ip(&config.bind_address),
        nodeport_addresses: list(&config.node_port_addresses, address),
        iptables_localhost_nodeports: config.iptables.localhost_node_ports,
        iptables_masquerade_bit: u8::try_from(config.iptables.masquerade_bit).unwrap_or_default(),
        masquerade_all: config.masquerade_all,
        ipvs: ipvs(config, own, proxy_mode)?,
        egress: own.egress.clone(),
    })
}

/// The elements of a list that is valid.
fn list<T>(texts: &Option<Vec<String>>, parse: impl Fn(&str) -> Option<T>) -> Vec<List<T>> {
    texts.iter().map(|texts| List(texts.iter().filter_map(|text| parse(text)).collect())).collect()
}

fn mode(config: &Config) -> Result<ProxyMode, Failure> {
    match config.mode.as_str() {
        "ipvs" => Ok(ProxyMode::Ipvs),
        "nftables" => Err(Failure::new(
            "proxy mode nftables: weir has no such mode yet: give --proxy-mode=iptables or ipvs (mode in the file); \
             with iptables the rules are in nf_tables too, where the node uses iptables-nft",
        )),
        _ => Ok(ProxyMode::Iptables),
    }
}

fn detect_local_mode(config: &Config) -> DetectLocalMode {
    match config.detect_local_mode.as_str() {
        "NodeCIDR" => DetectLocalMode::NodeCidr,
        "BridgeInterface" => DetectLocalMode::BridgeInterface,
        "InterfaceNamePrefix" => DetectLocalMode::InterfaceNamePrefix,
        _ => DetectLocalMode::ClusterCidr,
    }
}

/// The networks of pods. Where local pods are told otherwise they need not be networks for kube-proxy, and nothing reads
/// them here but node egress.
fn cluster_cidr(config: &Config, own: &OwnOptions) -> Result<Vec<ipnet::IpNet>, Failure> {
    let cidrs = &config.detect_local.cluster_cidrs;
    if let Some(bad) = cidrs.iter().find(|cidr| parse_cidr(cidr).is_none())
        && own.egress.masquerade
    {
        return Err(Failure::new(format!(
            "--masquerade-egress needs the networks of pods, and --cluster-cidr (clusterCIDR in the file) has {bad:?}: \
             expected a network such as 10.244.0.0/16 or fd00::/48"
        )));
    }
    Ok(cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).collect())
}

fn ipvs(config: &Config, own: &OwnOptions, mode: ProxyMode) -> Result<IpvsOptions, Failure> {
    let ipvs = &config.ipvs;
    let std = |timeout: GoDuration| timeout.to_std().unwrap_or_default();
    let chosen = scheduler(&ipvs.scheduler)
        .map_err(|why| Failure::new(format!("--ipvs-scheduler (ipvs.scheduler in the file): {why}")));
    Ok(IpvsOptions {
        // In another mode nobody reads it.
        scheduler: if mode == ProxyMode::Ipvs { chosen? } else { chosen.unwrap_or(Scheduler::round_robin()) },
        exclude_cidrs: list(&ipvs.exclude_cidrs, parse_cidr),
        strict_arp: ipvs.strict_arp,
        tcp_timeout: std(ipvs.tcp_timeout),
        tcpfin_timeout: std(ipvs.tcp_fin_timeout),
        udp_timeout: std(ipvs.udp_timeout),
        drain_timeout: own.ipvs.drain_timeout,
        keep_sysctls: own.ipvs.keep_sysctls.clone(),
    })
}

/// Where to serve.
///
/// # Errors
/// An address that validation would have refused.
pub(super) fn endpoints(config: &Config) -> Result<Endpoints, Failure> {
    let healthz = &config.healthz_bind_address;
    Ok(Endpoints {
        healthz: if healthz.is_empty() { None } else { Some(address(healthz)?) },
        metrics: address(&config.metrics_bind_address)?,
        hard_fail: config.bind_address_hard_fail,
        profiling: config.enable_profiling,
        hidden_metrics: !config.show_hidden_metrics_for_version.is_empty(),
    })
}

/// `IP:port`, where the address may have leading zeros.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let found = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(SocketAddr::new(parse_ip(host)?, port.parse().ok()?))
    });
    found.ok_or_else(|| Failure::new(format!("{text:?}: expected an address and a port such as 0.0.0.0:10256")))
}

pub(super) fn conntrack(config: &Config) -> ConntrackOptions {
    let conntrack = &config.conntrack;
    let std = |timeout: GoDuration| timeout.to_std().unwrap_or_default();
    ConntrackOptions {
        max_per_core: u32::try_from(conntrack.max_per_core).unwrap_or_default(),
        min: u32::try_from(conntrack.min).unwrap_or_default(),
        tcp_established_timeout: std(conntrack.tcp_established_timeout),
        tcp_close_wait_timeout: std(conntrack.tcp_close_wait_timeout),
        tcp_be_liberal: conntrack.tcp_be_liberal,
        udp_timeout: std(conntrack.udp_timeout),
        udp_stream_timeout: std(conntrack.udp_stream_timeout),
    }
}
