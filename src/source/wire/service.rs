//! Services.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde::Deserialize;

use super::Metadata;
use super::names::Interner;
use super::problems::{Problem, Problems};
use crate::net::{Family, ObjectName, parse_ip};
use crate::state;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Service<S = String> {
    pub kind: Option<S>,
    pub metadata: Metadata<S>,
    #[serde(default)]
    pub spec: Option<ServiceSpec<S>>,
    #[serde(default)]
    pub status: Option<ServiceStatus<S>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct ServiceSpec<S = String> {
    #[serde(rename = "type")]
    pub service_type: Option<S>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<S>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<S>>,
    pub ip_families: Option<Vec<S>>,
    pub ports: Option<Vec<ServicePort<S>>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<S>>,
    pub load_balancer_source_ranges: Option<Vec<S>>,
    pub session_affinity: Option<S>,
    pub session_affinity_config: Option<SessionAffinityConfig>,
    pub internal_traffic_policy: Option<S>,
    pub external_traffic_policy: Option<S>,
    pub health_check_node_port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct ServicePort<S = String> {
    pub name: Option<S>,
    pub protocol: Option<S>,
    pub port: i64,
    pub node_port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct ServiceStatus<S = String> {
    pub load_balancer: Option<LoadBalancerStatus<S>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct LoadBalancerStatus<S = String> {
    pub ingress: Option<Vec<Ingress<S>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Ingress<S = String> {
    pub ip: Option<S>,
    pub ip_mode: Option<S>,
}

impl<S: Deref<Target = str> + Default> Service<S> {
    /// Contract 2.1: the selectors that an API server applies, for sources that have none.
    pub fn is_selected(&self) -> bool {
        self.metadata.labels.as_ref().is_none_or(|labels| labels.proxy_name.is_none())
            && self.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) != Some("None")
    }

    /// The fact, and what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (state::Service, Vec<Problem>) {
        let name = self.metadata.object_name();
        let name = ObjectName { namespace: names.intern(&name.namespace), name: name.name };
        let mut problems = Problems::new("Service", &name);
        let default_spec = ServiceSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&default_spec);
        let service_type = match spec.service_type.as_deref() {
            None | Some("" | "ClusterIP") => state::ServiceType::ClusterIp,
            Some("NodePort") => state::ServiceType::NodePort,
            Some("LoadBalancer") => state::ServiceType::LoadBalancer,
            Some("ExternalName") => state::ServiceType::ExternalName,
            Some(other) => {
                problems.add("spec.type", other, "ClusterIP, NodePort, LoadBalancer or ExternalName");
                state::ServiceType::ClusterIp
            }
        };
        let cluster_ip = match spec.cluster_ip.as_deref() {
            None | Some("") => state::ClusterIp::Unset,
            Some("None") => state::ClusterIp::Headless,
            Some(text) => match parse_ip(text) {
                Some(ip) => state::ClusterIp::Ip(ip),
                None => {
                    problems.add("spec.clusterIP", text, "an IPv4 or IPv6 address, or None");
                    state::ClusterIp::Unset
                }
            },
        };
        let (ip_families, cluster_ips) = cluster_ips(spec, &mut problems);
        let source_ranges =
            problems.cidrs("spec.loadBalancerSourceRanges", spec.load_balancer_source_ranges.as_deref());
        let load_balancer = if source_ranges.is_empty() && names_a_range(spec) {
            // An empty list means everybody, and somebody meant less than that.
            problems.add("status.loadBalancer", "", "a loadBalancerSourceRange that can be used, as none of them can");
            Box::default()
        } else {
            ingress(self.status.as_ref(), &mut problems)
        };
        let policy_words = || [("Cluster", state::TrafficPolicy::Cluster), ("Local", state::TrafficPolicy::Local)];
        let fact = state::Service {
            service_type,
            tuning: self.tuning(names, &mut problems),
            cluster_ip,
            cluster_ips,
            ip_families,
            ports: service_ports(spec, names, &mut problems),
            external_ips: problems.ips("spec.externalIPs", spec.external_ips.as_deref()).into(),
            load_balancer,
            source_ranges: source_ranges.into(),
            affinity_seconds: affinity(spec, &mut problems),
            internal_policy: problems.choice(
                "spec.internalTrafficPolicy",
                spec.internal_traffic_policy.as_deref(),
                policy_words(),
                "Cluster or Local",
            ),
            external_policy: problems.choice(
                "spec.externalTrafficPolicy",
                spec.external_traffic_policy.as_deref(),
                policy_words(),
                "Cluster or Local",
            ),
            health_check_node_port: problems
                .optional_port(|| "spec.healthCheckNodePort".to_owned(), spec.health_check_node_port),
            name: name.clone(),
        };
        (fact, problems.found)
    }

    /// What annotations ask for.
    fn tuning(&self, names: &mut Interner, problems: &mut Problems<'_>) -> Option<Arc<state::Tuning>> {
        self.metadata.annotations.as_ref()?.tuning.as_ref()?.to_fact(names, problems)
    }
}

/// `ipFamilies` and `clusterIPs`, which belong together index by index: a family that is unknown takes its address with
/// it, and an address of another family than its own is none.
fn cluster_ips<S: Deref<Target = str>>(
    spec: &ServiceSpec<S>,
    problems: &mut Problems<'_>,
) -> (Box<[Family]>, Box<[Option<IpAddr>]>) {
    let mut families = Vec::new();
    let mut unknown = HashSet::new();
    for (i, text) in spec.ip_families.iter().flatten().enumerate() {
        match &**text {
            "IPv4" => families.push(Family::V4),
            "IPv6" => families.push(Family::V6),
            other => {
                problems.add(format!("spec.ipFamilies[{i}]"), other, "IPv4 or IPv6");
                unknown.insert(i);
            }
        }
    }
    let mut ips = Vec::new();
    for (i, text) in spec.cluster_ips.iter().flatten().enumerate().filter(|(i, _)| !unknown.contains(i)) {
        let family = families.get(ips.len());
        let ip = parse_ip(text).filter(|ip| family.is_none_or(|family| Family::of(ip) == *family));
        if ip.is_none() && !matches!(&**text, "" | "None") {
            let expected = match family {
                Some(Family::V4) => "an IPv4 address, as spec.ipFamilies says",
                Some(Family::V6) => "an IPv6 address, as spec.ipFamilies says",
                None => "an IPv4 or IPv6 address",
            };
            problems.add(format!("spec.clusterIPs[{i}]"), &**text, expected);
        }
        ips.push(ip);
    }
    (families.into(), ips.into())
}

/// Whether `loadBalancerSourceRanges` says anything.
fn names_a_range<S: Deref<Target = str>>(spec: &ServiceSpec<S>) -> bool {
    spec.load_balancer_source_ranges.iter().flatten().any(|text| !text.trim().is_empty())
}

fn service_ports<S: Deref<Target = str>>(
    spec: &ServiceSpec<S>,
    names: &mut Interner,
    problems: &mut Problems<'_>,
) -> Box<[state::ServicePort]> {
    let mut ports = Vec::new();
    let mut seen = HashSet::new();
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let number = problems.port(|| format!("spec.ports[{i}].port"), port.port);
        let protocol = problems.protocol(|| format!("spec.ports[{i}].protocol"), port.protocol.as_deref());
        let name = problems.name(|| format!("spec.ports[{i}].name"), port.name.as_deref().unwrap_or_default());
        if let (Some(number), Some(protocol), Some(name)) = (number, protocol, name) {
            if !seen.insert((name, protocol)) {
                problems.add(format!("spec.ports[{i}].name"), name, "a name that no port before it has");
                continue;
            }
            ports.push(state::ServicePort {
                name: names.intern(name),
                protocol,
                port: number,
                node_port: problems.optional_port(|| format!("spec.ports[{i}].nodePort"), port.node_port),
            });
        }
    }
    ports.into()
}

fn ingress<S: Deref<Target = str>>(
    status: Option<&ServiceStatus<S>>,
    problems: &mut Problems<'_>,
) -> Box<[state::LoadBalancerIngress]> {
    let mut entries = Vec::new();
    let all = status.and_then(|status| status.load_balancer.as_ref()).and_then(|lb| lb.ingress.as_deref());
    for (i, ingress) in all.unwrap_or_default().iter().enumerate() {
        let Some(text) = ingress.ip.as_deref().filter(|text| !text.is_empty()) else { continue };
        let field = || format!("status.loadBalancer.ingress[{i}]");
        let Some(ip) = parse_ip(text) else {
            problems.add(field() + ".ip", text, "an IPv4 or IPv6 address");
            continue;
        };
        let mode = match ingress.ip_mode.as_deref() {
            None | Some("" | "VIP") => state::IpMode::Vip,
            Some("Proxy") => state::IpMode::Proxy,
            Some(other) => {
                problems.add(field() + ".ipMode", other, "VIP or Proxy");
                continue;
            }
        };
        entries.push(state::LoadBalancerIngress { ip, mode });
    }
    entries.into()
}

fn affinity<S: Deref<Target = str>>(spec: &ServiceSpec<S>, problems: &mut Problems<'_>) -> Option<u32> {
    /// The API's default (contract 2.3).
    const DEFAULT_SECONDS: u32 = 10800;
    /// The API's limit: a day.
    const MAX_SECONDS: u32 = 86400;
    let words = [("None", false), ("ClientIP", true)];
    if !problems.choice("spec.sessionAffinity", spec.session_affinity.as_deref(), words, "None or ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    match config.and_then(|config| config.timeout_seconds) {
        None => Some(DEFAULT_SECONDS),
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds @ 1..=MAX_SECONDS) => Some(seconds),
            _ => {
                let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
                problems.add(field, seconds, "1 to 86400 seconds; 10800 is used");
                Some(DEFAULT_SECONDS)
            }
        },
    }
}
