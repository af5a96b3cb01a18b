//! Services that kube-proxy served before weir came: as facts, with their endpoints.

use std::net::SocketAddr;

use weir::lab::EchoServer;
use weir::net::{Family, Protocol};

use super::kube_proxy::{Service, endpoint_ip};
use super::manifests::NODE;
use super::variants::ip;
use super::world::World;

/// Endpoints 1 to 5, in turn on the three pods of the node.
const ENDPOINTS: std::ops::RangeInclusive<u8> = 1..=5;

/// Six services with everything that has rules of its own, under the names of the golden hashes (contract 3.1).
pub fn six() -> Vec<Service> {
    let service = |number: u8, endpoints: &[u8]| Service {
        namespace: format!("ns{number}"),
        name: format!("svc{number}"),
        number,
        endpoints: endpoints.to_vec(),
        ..Service::default()
    };
    vec![
        service(1, &[1]),
        Service {
            external_ip: true,
            vip: true,
            node_port: 30002,
            external_policy_local: true,
            health_check_node_port: 30092,
            ..service(2, &[2])
        },
        Service { node_port: 30003, ..service(3, &[3]) },
        Service { external_ip: true, vip: true, node_port: 30004, ..service(4, &[4, 5]) },
        Service { vip: true, node_port: 30005, source_ranges: true, affinity: true, ..service(5, &[3]) },
        Service { vip: true, node_port: 30006, ..service(6, &[]) },
    ]
}

/// So many more that weir's dispatch is a tree. (And not more: an ordinary user's tool cannot send the kernel much at
/// once.)
pub fn more() -> Vec<Service> {
    let service = |number: u8| Service {
        namespace: "more".to_owned(),
        name: format!("svc{number}"),
        number,
        endpoints: vec![1],
        ..Service::default()
    };
    (101..=140).map(service).collect()
}

/// The same services as facts, with all endpoints on this node.
pub fn objects(services: &[Service]) -> Vec<String> {
    objects_away(services, &[])
}

/// The same with the endpoints of these numbers said to be on another node.
pub fn objects_away(services: &[Service], away: &[u8]) -> Vec<String> {
    services.iter().map(|service| object(service, away)).collect()
}

fn object(service: &Service, away: &[u8]) -> String {
    let (v4, v6) = (Family::V4, Family::V6);
    let Service { namespace, name, node_port, .. } = service;
    let mut spec = String::new();
    let mut field = |present: bool, text: String| {
        if present {
            spec.push_str(&format!("  {text}\n"));
        }
    };
    let kind = match (service.vip, node_port) {
        (true, _) => "LoadBalancer",
        (false, 0) => "ClusterIP",
        (false, _) => "NodePort",
    };
    field(true, format!("type: {kind}"));
    field(service.external_ip, format!("externalIPs: [{}, '{}']", service.external_ip(v4), service.external_ip(v6)));
    field(service.external_policy_local, "externalTrafficPolicy: Local".to_owned());
    field(service.health_check_node_port > 0, format!("healthCheckNodePort: {}", service.health_check_node_port));
    field(service.affinity, "sessionAffinity: ClientIP".to_owned());
    let ranges = format!("loadBalancerSourceRanges: [{}, '{}']", Service::range(v4), Service::range(v6));
    field(service.source_ranges, ranges);
    let status = match service.vip {
        true => format!(
            "status: {{loadBalancer: {{ingress: [{{ip: {}}}, {{ip: '{}'}}]}}}}\n",
            service.vip(v4),
            service.vip(v6)
        ),
        false => String::new(),
    };
    let (ip4, ip6) = (service.cluster_ip(v4), service.cluster_ip(v6));
    let port = if *node_port > 0 { format!(", nodePort: {node_port}") } else { String::new() };
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec:\n  clusterIP: {ip4}\n  \
         clusterIPs: [{ip4}, '{ip6}']\n  ipFamilies: [IPv4, IPv6]\n  ports: [{{name: p80, port: 80{port}}}]\n{spec}{status}"
    );
    for family in Family::ALL {
        let node = |number: &u8| if away.contains(number) { "elsewhere" } else { NODE };
        let entry = |number: &u8| {
            format!("- {{addresses: ['{}'], nodeName: {}}}\n", endpoint_ip(family, *number), node(number))
        };
        let endpoints: String = service.endpoints.iter().map(entry).collect();
        let endpoints =
            if endpoints.is_empty() { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{endpoints}") };
        let infix = family.as_str().to_lowercase();
        text.push_str(&format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: {namespace}, name: \
             {name}-{infix}, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family}\nports: [{{name: p80, \
             port: 80}}]\n{endpoints}"
        ));
    }
    text
}

/// Adds the endpoints to the pods, and starts their servers.
pub fn add_endpoints(world: &World) -> Vec<EchoServer> {
    let mut servers = Vec::new();
    for number in ENDPOINTS {
        let place = usize::from(number - 1) % world.lab.pods().len();
        let pod = &world.lab.pods()[place];
        for family in world.families() {
            let address = endpoint_ip(family, number);
            let nodad = if family == Family::V6 { "nodad" } else { "" };
            ip(pod, &format!("addr add {} dev eth0 {nodad}\n", ipnet::IpNet::from(address)));
            ip(world.lab.node(), &format!("route add {} dev veth{}\n", ipnet::IpNet::from(address), place + 1));
            let at = SocketAddr::new(address, 80);
            servers.push(EchoServer::start_on(pod, &at.to_string(), &[(Protocol::Tcp, at)]).unwrap());
        }
    }
    servers
}
