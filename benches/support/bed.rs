//! The test bed: a node in namespaces, a scripted API server on its loopback, and a pod that answers for every endpoint
//! of the cluster. Nothing of it outlives the process.

#[path = "../../test-harness/api_server/mod.rs"]
mod api_server;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use weir::lab::{Host, Lab, LabConfig};
use weir::net::Family;

use self::api_server::ApiServer;
use crate::cluster::{self, Size};
use crate::json;
use crate::probe::Mirror;

/// Where the generator's endpoints are, without the network of the lab's own pods.
const ENDPOINTS: [&str; 2] = ["10.128.0.0/10", "10.192.0.0/15"];
/// A port that the outside host listens on.
const FOREIGN_PORT: u16 = 8080;

/// The test bed. Fields are dropped in this order.
pub struct Bed {
    pub size: Size,
    pub server: ApiServer,
    /// How often an endpoint of each service was replaced.
    versions: Vec<AtomicU32>,
    _runtime: tokio::runtime::Runtime,
    _mirrors: [Mirror; 2],
    lab: Lab,
}

impl Bed {
    /// Builds it, with all objects on the server.
    pub fn new(size: Size) -> Bed {
        let lab = Lab::new(&LabConfig { pods: 2, node2_pods: 0, ..LabConfig::default() }).expect("the lab");
        route(&lab);
        let mirrors =
            [Mirror::start(&lab.pods()[1], &cluster::TARGET_PORTS), Mirror::start(lab.client(), &[FOREIGN_PORT])];
        // In the namespace: the runtime's threads are where they are started.
        let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = lab.node().run(runtime).expect("the node").expect("a runtime");
        let server = runtime.block_on(runtime.spawn(ApiServer::start())).expect("a server");
        server.put(json::node(&cluster::node()));
        for service in cluster::services(size) {
            server.put(json::service(&service));
        }
        for slice in cluster::slices(size) {
            server.put(json::slice(&slice));
        }
        let versions = (0..size.services).map(|_| AtomicU32::new(0)).collect();
        Bed { size, server, versions, _runtime: runtime, _mirrors: mirrors, lab }
    }

    /// Where the proxy runs.
    pub fn node(&self) -> &Host {
        self.lab.node()
    }

    /// A pod on the node that connects to services.
    pub fn client(&self) -> &Host {
        &self.lab.pods()[0]
    }

    /// An address that is no service, beyond the node.
    pub fn foreign(&self) -> SocketAddr {
        SocketAddr::new(self.lab.client().address(Family::V4).expect("IPv4"), FOREIGN_PORT)
    }

    /// One endpoint of service `i` is replaced; returns the new one. The API server has acknowledged the write.
    pub fn change(&self, i: u32) -> IpAddr {
        let version = self.versions[i as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let endpoints = self.size.endpoints;
        self.server.put(json::slice(&cluster::slice(i, endpoints, version)));
        cluster::endpoint_ip(i, endpoints - 1, version).into()
    }
}

/// The cluster IP and port of service `i`.
pub fn service(i: u32) -> SocketAddr {
    SocketAddr::new(cluster::cluster_ip(i).into(), cluster::PORT)
}

/// Sends all endpoints to the answering pod. What is for a service and is not translated ends at the gateway, which
/// refuses it at once: so a probe in a loop waits for nothing.
fn route(lab: &Lab) {
    let ip = |host: &Host, arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        host.check("ip", &arguments, "").expect("a route");
    };
    let answering = &lab.pods()[1];
    let pod = answering.address(Family::V4).expect("IPv4");
    for network in ENDPOINTS {
        ip(answering, &format!("route add local {network} dev lo"));
        ip(lab.node(), &format!("route add {network} via {pod} dev veth2"));
    }
    ip(lab.gateway(), &format!("route add local {} dev lo", cluster::SERVICE_NETWORK));
    assert_eq!(lab.node().address(Family::V4), Some(IpAddr::V4(cluster::NODE_ADDRESS)));
}

/// Connection tracking forgets closed connections within a second: probes make many. The setting is there once the
/// proxy has made the kernel track connections.
pub fn forget_connections_soon(node: &Host) {
    for state in ["close", "time_wait", "last_ack", "close_wait"] {
        // Without it the table is only fuller.
        let _ = node.set_sysctl(&format!("net/netfilter/nf_conntrack_tcp_timeout_{state}"), "1");
    }
}
