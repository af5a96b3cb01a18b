//! Kubernetes objects as text, dual-stack, and the facts in them.

use std::fmt::Write;
use std::net::IpAddr;

use weir::lab::{Host, Lab};
use weir::net::{Family, PerFamily};
use weir::source::manifest::{Config, load};
use weir::state::Update;

/// The node under test, as its object and its endpoints call it.
pub const NODE: &str = "node";

/// A service, with an address of each sort and family that has its number.
#[derive(Clone)]
pub struct Service {
    name: &'static str,
    number: u8,
    labels: String,
    annotations: String,
    spec: String,
    status: String,
}

impl Service {
    /// A ClusterIP service with these ports, in YAML: `{port: 80}, {port: 81, protocol: UDP}`.
    pub fn new(name: &'static str, number: u8, ports: &str) -> Service {
        let service = Service {
            name,
            number,
            labels: String::new(),
            annotations: String::new(),
            spec: String::new(),
            status: String::new(),
        };
        service.with(&format!("ports: [{ports}]"))
    }

    /// With a field of the spec, in YAML: `externalTrafficPolicy: Local`.
    pub fn with(mut self, field: &str) -> Service {
        writeln!(self.spec, "  {field}").unwrap();
        self
    }

    /// With a label, in YAML.
    pub fn label(mut self, label: &str) -> Service {
        self.labels = format!(", labels: {{{label}}}");
        self
    }

    /// With annotations, in YAML: `weir.dev/scheduler: lc`.
    pub fn annotated(mut self, annotations: &str) -> Service {
        self.annotations = format!(", annotations: {{{annotations}}}");
        self
    }

    /// With an external IP of each family.
    pub fn external(self) -> Service {
        let field = format!("externalIPs: [{}, {:?}]", self.external_ip(Family::V4), ip(self.external_ip(Family::V6)));
        self.with(&field)
    }

    /// A load balancer's service with a VIP of each family.
    pub fn balanced(mut self) -> Service {
        let (v4, v6) = (self.vip(Family::V4), ip(self.vip(Family::V6)));
        self.status = format!("status: {{loadBalancer: {{ingress: [{{ip: {v4}}}, {{ip: {v6:?}}}]}}}}\n");
        self.with("type: LoadBalancer")
    }

    pub fn cluster_ip(&self, family: Family) -> IpAddr {
        self.address(family, "10.96.0", "fd00:10:96:")
    }

    pub fn external_ip(&self, family: Family) -> IpAddr {
        self.address(family, "203.0.113", "2001:db8:203:")
    }

    pub fn vip(&self, family: Family) -> IpAddr {
        self.address(family, "198.51.100", "2001:db8:51:")
    }

    fn address(&self, family: Family, v4: &str, v6: &str) -> IpAddr {
        let text = match family {
            Family::V4 => format!("{v4}.{}", self.number),
            Family::V6 => format!("{v6}:{}", self.number),
        };
        text.parse().unwrap()
    }

    /// The object.
    pub fn text(&self) -> String {
        let Service { name, labels, annotations, spec, status, .. } = self;
        let (v4, v6) = (self.cluster_ip(Family::V4), ip(self.cluster_ip(Family::V6)));
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: test, name: {name}{labels}{annotations}}}\nspec:\n  \
             clusterIP: {v4}\n  clusterIPs: [{v4}, {v6:?}]\n  ipFamilies: [IPv4, IPv6]\n{spec}{status}"
        )
    }

    /// One slice of each family. `part` tells it from others of this service, `ports` is YAML as in
    /// [`Service::new`]; a port without a name needs `name: ""`.
    pub fn slice(&self, part: &str, ports: &str, endpoints: &[Endpoint]) -> String {
        let name = self.name;
        let mut text = String::new();
        for family in Family::ALL {
            let infix = family.as_str().to_lowercase();
            let entries: String = endpoints.iter().filter_map(|endpoint| endpoint.text(family)).collect();
            let entries =
                if entries.is_empty() { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{entries}") };
            write!(
                text,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: test, \
                 name: {name}-{part}-{infix}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 addressType: {family}\nports: [{ports}]\n{entries}"
            )
            .unwrap();
        }
        text
    }

    /// The service and a slice of its one unnamed TCP port, which is 8080 at the endpoints.
    pub fn on(&self, endpoints: &[Endpoint]) -> String {
        format!("{}{}", self.text(), self.slice("a", "{name: '', port: 8080}", endpoints))
    }
}

fn ip(address: IpAddr) -> String {
    address.to_string()
}

/// An endpoint: a pod, and what its entry says more.
#[derive(Clone)]
pub struct Endpoint {
    addresses: PerFamily<Option<IpAddr>>,
    /// `None`: its entry does not say.
    node: Option<&'static str>,
    more: String,
}

impl Endpoint {
    /// A pod of the lab, where it is.
    pub fn of(lab: &Lab, pod: &Host) -> Endpoint {
        let on_node = lab.pods().iter().any(|other| other.name() == pod.name());
        let addresses = PerFamily::new(|family| pod.address(family));
        Endpoint { addresses, node: Some(if on_node { NODE } else { "node2" }), more: String::new() }
    }

    /// As if nobody knew on which node it is.
    pub fn anywhere(self) -> Endpoint {
        Endpoint { node: None, ..self }
    }

    /// With a field, in YAML.
    pub fn with(mut self, field: &str) -> Endpoint {
        write!(self.more, ", {field}").unwrap();
        self
    }

    /// Going, and serving while it does.
    pub fn terminating(self) -> Endpoint {
        self.with("conditions: {ready: false, serving: true, terminating: true}")
    }

    /// Of no use now.
    pub fn unready(self) -> Endpoint {
        self.with("conditions: {ready: false, serving: false, terminating: false}")
    }

    fn text(&self, family: Family) -> Option<String> {
        let address = self.addresses.get(family).map(ip)?;
        let node = self.node.map(|name| format!(", nodeName: {name}")).unwrap_or_default();
        Some(format!("- {{addresses: [{address:?}]{node}{}}}\n", self.more))
    }
}

/// The object of the node under test.
pub fn node_in_zone(zone: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
    )
}

/// What a source says at first, or after it was interrupted: these are all the objects there are, and the node under
/// test if it is not among them.
pub fn facts(objects: &[String]) -> Vec<Update> {
    let has_node = objects.iter().any(|object| object.contains("kind: Node\n"));
    let node = (!has_node).then(|| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}\n"));
    facts_alone(&[objects, node.as_slice()].concat())
}

/// These are all the objects there are.
pub fn facts_alone(objects: &[String]) -> Vec<Update> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), objects.concat()).unwrap();
    let loaded = load(Config { dir: folder.path().to_owned(), node_name: NODE.into() }).unwrap();
    assert!(loaded.errors.is_empty() && loaded.duplicates.is_empty(), "{:?} {:?}", loaded.errors, loaded.duplicates);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.updates
}
