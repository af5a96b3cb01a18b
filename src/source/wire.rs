//! The fields of API objects that are read, and how they become facts.
//!
//! A type that does not fit (a string where a number belongs) is an error of the decoder, with its place. A value that
//! fits but cannot be used (a bad address, port 0) becomes a [`Problem`]: the part is left out, the rest is served.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use crate::net::{Family, ObjectName, Protocol, parse_cidr, parse_ip};
use crate::state;

/// Label that leaves a Service to another proxy (contract 2.1).
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label that marks slices of headless services (contract 2.1).
pub const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Label that names the service of a slice.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label with the zone of a node.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";
/// Taint of a node that the autoscaler is about to delete (contract 6.1).
pub const TAINT_TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Annotation with the time at which the endpoints of a slice changed.
pub const ANNOTATION_TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Part of an object that cannot be used and is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// `Service ns/name`.
    pub object: String,
    /// `spec.externalIPs[1]`.
    pub field: String,
    pub value: String,
    pub expected: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {:?} is left out: expected {}", self.object, self.field, self.value, self.expected)
    }
}

/// `metadata`, with just the labels and annotations that are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub namespace: Option<String>,
    pub resource_version: Option<String>,
    pub labels: Option<Labels>,
    pub annotations: Option<Annotations>,
    pub deletion_timestamp: Option<String>,
}

/// Labels that are read; all others are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub proxy_name: Option<String>,
    #[serde(rename = "service.kubernetes.io/headless")]
    pub headless: Option<String>,
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<String>,
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub zone: Option<String>,
}

/// Annotations that are read; all others are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub trigger_time: Option<String>,
    /// Bookmark that ends the initial events of a streaming list.
    #[serde(rename = "k8s.io/initial-events-end")]
    pub initial_events_end: Option<String>,
}

impl Metadata {
    /// Name of a namespaced object; `default` where no namespace is given.
    pub fn object_name(&self) -> ObjectName {
        let namespace = self.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        ObjectName::new(namespace.unwrap_or("default"), self.name.as_str())
    }

    fn labels(&self) -> Cow<'_, Labels> {
        self.labels.as_ref().map_or_else(|| Cow::Owned(Labels::default()), Cow::Borrowed)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: Option<ServiceSpec>,
    #[serde(default)]
    pub status: Option<ServiceStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub service_type: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub ip_families: Option<Vec<String>>,
    pub ports: Option<Vec<ServicePort>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    pub load_balancer_source_ranges: Option<Vec<String>>,
    pub session_affinity: Option<String>,
    pub session_affinity_config: Option<SessionAffinityConfig>,
    pub internal_traffic_policy: Option<String>,
    pub external_traffic_policy: Option<String>,
    pub health_check_node_port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    pub name: Option<String>,
    pub protocol: Option<String>,
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
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    pub load_balancer: Option<LoadBalancerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    pub ingress: Option<Vec<Ingress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingress {
    pub ip: Option<String>,
    pub ip_mode: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    pub metadata: Metadata,
    #[serde(default)]
    pub address_type: Option<String>,
    #[serde(default)]
    pub ports: Option<Vec<SlicePort>>,
    #[serde(default)]
    pub endpoints: Option<Vec<Endpoint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    pub addresses: Option<Vec<String>>,
    pub conditions: Option<EndpointConditions>,
    pub node_name: Option<String>,
    pub hints: Option<EndpointHints>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointHints {
    pub for_zones: Option<Vec<NameRef>>,
    pub for_nodes: Option<Vec<NameRef>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NameRef {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: Option<NodeSpec>,
    #[serde(default)]
    pub status: Option<NodeStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<String>>,
    pub taints: Option<Vec<Taint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub addresses: Option<Vec<NodeAddress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub address_type: String,
    pub address: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ServiceCidr {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: Option<ServiceCidrSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    pub cidrs: Option<Vec<String>>,
}

/// Shares equal strings: node names, zones, port names and namespaces repeat in every slice.
#[derive(Default)]
pub struct Interner {
    strings: HashSet<Arc<str>>,
    hints: HashSet<Arc<state::Hints>>,
}

impl Interner {
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.strings.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        self.strings.insert(shared.clone());
        shared
    }

    fn intern_hints(&mut self, hints: state::Hints) -> Arc<state::Hints> {
        if let Some(shared) = self.hints.get(&hints) {
            return shared.clone();
        }
        let shared = Arc::new(hints);
        self.hints.insert(shared.clone());
        shared
    }

    /// Forgets strings that nobody uses any more.
    pub fn sweep(&mut self) {
        self.hints.retain(|shared| Arc::strong_count(shared) > 1);
        self.strings.retain(|shared| Arc::strong_count(shared) > 1);
    }
}

/// Collects the problems of one object.
struct Problems<'a> {
    kind: &'static str,
    name: &'a ObjectName,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    fn new(kind: &'static str, name: &'a ObjectName) -> Self {
        Problems { kind, name, found: Vec::new() }
    }

    fn add(&mut self, field: impl Into<String>, value: impl fmt::Display, expected: &'static str) {
        let object = if self.name.namespace.is_empty() {
            format!("{} {}", self.kind, self.name.name)
        } else {
            format!("{} {}", self.kind, self.name)
        };
        self.found.push(Problem { object, field: field.into(), value: value.to_string(), expected });
    }

    /// A port in `1..=65535`.
    fn port(&mut self, field: impl FnOnce() -> String, port: i64) -> Option<u16> {
        match u16::try_from(port) {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.add(field(), port, "a port from 1 to 65535");
                None
            }
        }
    }

    /// A port in `1..=65535`, or 0 for none.
    fn optional_port(&mut self, field: impl FnOnce() -> String, port: Option<i64>) -> u16 {
        match port {
            None | Some(0) => 0,
            Some(port) => self.port(field, port).unwrap_or(0),
        }
    }

    fn protocol(&mut self, field: impl FnOnce() -> String, protocol: Option<&str>) -> Option<Protocol> {
        let text = protocol.filter(|text| !text.is_empty()).unwrap_or("TCP");
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.add(field(), text, "TCP, UDP or SCTP");
        }
        parsed
    }

    /// A name that ends up in the names and comments of kernel objects. An API server only takes DNS labels; where there
    /// is none, a quote or a line break must not get further than this.
    fn name<'t>(&mut self, field: impl FnOnce() -> String, text: &'t str) -> Option<&'t str> {
        let fine = is_name(text) || text.is_empty();
        if !fine {
            self.add(field(), text, NAME_EXPECTED);
        }
        fine.then_some(text)
    }

    /// Addresses of a list; empty strings are dropped silently (contract 2.3).
    fn ips(&mut self, field: &str, texts: Option<&[String]>) -> Vec<IpAddr> {
        let mut ips = Vec::new();
        for (i, text) in texts.unwrap_or_default().iter().enumerate() {
            match parse_ip(text) {
                Some(ip) => ips.push(ip),
                None if text.is_empty() => {}
                None => self.add(format!("{field}[{i}]"), text, "an IPv4 or IPv6 address"),
            }
        }
        ips
    }

    /// Networks of a list, white space around them trimmed (contract 2.3).
    fn cidrs(&mut self, field: &str, texts: Option<&[String]>) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for (i, text) in texts.unwrap_or_default().iter().enumerate() {
            match parse_cidr(text.trim()) {
                Some(net) => nets.push(net),
                None if text.trim().is_empty() => {}
                None => self.add(format!("{field}[{i}]"), text, "a CIDR such as 10.0.0.0/8 or fd00::/64"),
            }
        }
        nets
    }

    /// One of two words; anything else is the default and a problem.
    fn choice<T: Default>(
        &mut self,
        field: &str,
        text: Option<&str>,
        choices: [(&str, T); 2],
        expected: &'static str,
    ) -> T {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return T::default() };
        for (word, value) in choices {
            if word == text {
                return value;
            }
        }
        self.add(field, text, expected);
        T::default()
    }
}

/// What [`is_name`] accepts, for messages.
pub const NAME_EXPECTED: &str = "at most 253 letters, digits, hyphens, dots and underscores";

/// Whether a text can be a name: what any kind of name that Kubernetes knows is made of.
pub fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

impl Service {
    /// Contract 2.1: the selectors that an API server applies, for sources that have none.
    pub fn is_selected(&self) -> bool {
        self.metadata.labels().proxy_name.is_none()
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
}

/// `ipFamilies` and `clusterIPs`, which belong together index by index: a family that is unknown takes its address with
/// it, and an address of another family than its own is none.
fn cluster_ips(spec: &ServiceSpec, problems: &mut Problems<'_>) -> (Box<[Family]>, Box<[Option<IpAddr>]>) {
    let mut families = Vec::new();
    let mut unknown = HashSet::new();
    for (i, text) in spec.ip_families.iter().flatten().enumerate() {
        match text.as_str() {
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
        if ip.is_none() && !matches!(text.as_str(), "" | "None") {
            let expected = match family {
                Some(Family::V4) => "an IPv4 address, as spec.ipFamilies says",
                Some(Family::V6) => "an IPv6 address, as spec.ipFamilies says",
                None => "an IPv4 or IPv6 address",
            };
            problems.add(format!("spec.clusterIPs[{i}]"), text, expected);
        }
        ips.push(ip);
    }
    (families.into(), ips.into())
}

/// Whether `loadBalancerSourceRanges` says anything.
fn names_a_range(spec: &ServiceSpec) -> bool {
    spec.load_balancer_source_ranges.iter().flatten().any(|text| !text.trim().is_empty())
}

fn service_ports(spec: &ServiceSpec, names: &mut Interner, problems: &mut Problems<'_>) -> Box<[state::ServicePort]> {
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

fn ingress(status: Option<&ServiceStatus>, problems: &mut Problems<'_>) -> Box<[state::LoadBalancerIngress]> {
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

fn affinity(spec: &ServiceSpec, problems: &mut Problems<'_>) -> Option<u32> {
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

impl EndpointSlice {
    /// Contract 2.1: the selectors that an API server applies, for sources that have none.
    pub fn is_selected(&self) -> bool {
        self.metadata.labels().headless.is_none()
    }

    /// The fact, if the slice belongs to a service and has addresses of a family that is proxied (contract 2.4), and
    /// what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (Option<state::EndpointSlice>, Vec<Problem>) {
        let name = self.metadata.object_name();
        let name = ObjectName { namespace: names.intern(&name.namespace), name: name.name };
        let mut problems = Problems::new("EndpointSlice", &name);
        let family = match self.address_type.as_deref() {
            Some("IPv4") => Family::V4,
            Some("IPv6") => Family::V6,
            other => {
                problems.add("addressType", other.unwrap_or_default(), "IPv4 or IPv6");
                return (None, problems.found);
            }
        };
        let labels = self.metadata.labels();
        let Some(service) = labels.service_name.as_deref().filter(|service| !service.is_empty()) else {
            problems.add(format!("metadata.labels[{LABEL_SERVICE_NAME}]"), "", "the name of a service");
            return (None, problems.found);
        };
        let Some(service) = problems.name(|| format!("metadata.labels[{LABEL_SERVICE_NAME}]"), service) else {
            return (None, problems.found);
        };
        let fact = state::EndpointSlice {
            service: names.intern(service),
            family,
            ports: slice_ports(self.ports.as_deref(), names, &mut problems),
            endpoints: slice_endpoints(self.endpoints.as_deref(), family, names, &mut problems),
            trigger_time: self.trigger_time(&mut problems),
            name: name.clone(),
        };
        (Some(fact), problems.found)
    }

    fn trigger_time(&self, problems: &mut Problems<'_>) -> Option<i64> {
        let text = self.metadata.annotations.as_ref()?.trigger_time.as_deref()?;
        let parsed = text.parse::<k8s_openapi::jiff::Timestamp>().ok();
        if parsed.is_none() {
            problems.add(format!("metadata.annotations[{ANNOTATION_TRIGGER_TIME}]"), text, "a time in RFC 3339 form");
        }
        parsed.and_then(|time| i64::try_from(time.as_nanosecond()).ok())
    }
}

fn slice_ports(
    ports: Option<&[SlicePort]>,
    names: &mut Interner,
    problems: &mut Problems<'_>,
) -> Box<[state::SlicePort]> {
    let mut facts = Vec::new();
    for (i, port) in ports.unwrap_or_default().iter().enumerate() {
        let Some(name) = port.name.as_deref() else {
            problems.add(format!("ports[{i}].name"), "", "a name, which may be empty");
            continue;
        };
        let number = problems.port(|| format!("ports[{i}].port"), port.port.unwrap_or(0));
        let protocol = problems.protocol(|| format!("ports[{i}].protocol"), port.protocol.as_deref());
        let name = problems.name(|| format!("ports[{i}].name"), name);
        if let (Some(port), Some(protocol), Some(name)) = (number, protocol, name) {
            facts.push(state::SlicePort { name: names.intern(name), protocol, port });
        }
    }
    facts.into()
}

fn slice_endpoints(
    endpoints: Option<&[Endpoint]>,
    family: Family,
    names: &mut Interner,
    problems: &mut Problems<'_>,
) -> Box<[state::SliceEndpoint]> {
    let mut facts = Vec::with_capacity(endpoints.map_or(0, <[_]>::len));
    for (i, endpoint) in endpoints.unwrap_or_default().iter().enumerate() {
        let Some(text) = endpoint.addresses.as_ref().and_then(|addresses| addresses.first()) else { continue };
        let Some(ip) = parse_ip(text).filter(|ip| Family::of(ip) == family) else {
            problems.add(format!("endpoints[{i}].addresses[0]"), text, "an address of the slice's addressType");
            continue;
        };
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        facts.push(state::SliceEndpoint {
            ip,
            conditions: state::Conditions {
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
            },
            node: endpoint.node_name.as_deref().map(|node| names.intern(node)),
            hints: endpoint.hints.as_ref().and_then(|hints| hints.to_fact(names)),
        });
    }
    facts.into()
}

impl EndpointHints {
    fn to_fact(&self, names: &mut Interner) -> Option<Arc<state::Hints>> {
        let list = |names: &mut Interner, refs: &Option<Vec<NameRef>>| {
            refs.iter().flatten().map(|reference| names.intern(&reference.name)).collect::<Box<[_]>>()
        };
        let hints = state::Hints { zones: list(names, &self.for_zones), nodes: list(names, &self.for_nodes) };
        (!hints.zones.is_empty() || !hints.nodes.is_empty()).then(|| names.intern_hints(hints))
    }
}

impl Node {
    /// The fact, and what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (state::Node, Vec<Problem>) {
        let name = ObjectName::new("", names.intern(&self.metadata.name));
        let mut problems = Problems::new("Node", &name);
        let default_spec = NodeSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&default_spec);
        let mut pod_cidrs = problems.cidrs("spec.podCIDRs", spec.pod_cidrs.as_deref());
        if pod_cidrs.is_empty() {
            pod_cidrs = problems.cidrs("spec.podCIDR", spec.pod_cidr.as_ref().map(std::slice::from_ref));
        }
        let fact = state::Node {
            zone: self.metadata.labels().zone.as_deref().filter(|zone| !zone.is_empty()).map(|zone| names.intern(zone)),
            ips: node_ips(self.status.as_ref(), &mut problems),
            pod_cidrs: pod_cidrs.into(),
            leaving: self.metadata.deletion_timestamp.is_some()
                || spec.taints.iter().flatten().any(|taint| taint.key == TAINT_TO_BE_DELETED),
            name: name.name.clone(),
        };
        (fact, problems.found)
    }
}

/// InternalIPs first, then ExternalIPs (contract 1.10).
fn node_ips(status: Option<&NodeStatus>, problems: &mut Problems<'_>) -> Box<[IpAddr]> {
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let mut ips = Vec::new();
    for wanted in ["InternalIP", "ExternalIP"] {
        for (i, address) in addresses.iter().enumerate().filter(|(_, address)| address.address_type == wanted) {
            match parse_ip(&address.address) {
                Some(ip) => ips.push(ip),
                None => {
                    let field = format!("status.addresses[{i}].address");
                    problems.add(field, &address.address, "an IPv4 or IPv6 address");
                }
            }
        }
    }
    ips.into()
}

impl ServiceCidr {
    /// The fact, and what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (state::ServiceCidr, Vec<Problem>) {
        let name = ObjectName::new("", names.intern(&self.metadata.name));
        let mut problems = Problems::new("ServiceCIDR", &name);
        let texts = self.spec.as_ref().and_then(|spec| spec.cidrs.as_deref());
        let cidrs = problems.cidrs("spec.cidrs", texts).into();
        (state::ServiceCidr { name: name.name.clone(), cidrs }, problems.found)
    }
}

#[cfg(test)]
mod tests;
