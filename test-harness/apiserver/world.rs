//! A lab with a control plane on its node, and weir started against it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use weir::lab::{EchoServer, Host, Lab, LabConfig, Probe, rerun};
use weir::net::Protocol;

use crate::admin::Admin;
use crate::control_plane::{ADMIN_TOKEN, ControlPlane, assets};
use crate::objects::{NODE, NODES, SERVICES, SLICES, TARGET, endpoints, node, service, slice};
use crate::process::{Proxy, eventually};

/// One control plane at a time: each takes a processor to start.
static TURN: Mutex<()> = Mutex::new(());

/// Everything that a test needs. Fields are dropped in this order.
pub struct World<'a> {
    pub admin: Admin,
    pub server: ControlPlane<'a>,
    _echo: Vec<EchoServer>,
    _turn: MutexGuard<'static, ()>,
}

/// Runs a test in a lab whose node has a control plane; where there are no programs for it, says so.
pub fn with(test: impl FnOnce(&Lab, World<'_>)) {
    let Some(assets) = assets() else { return };
    if !rerun::allowed().unwrap() {
        return;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new(&LabConfig { pods: 3, node2_pods: 0, ..LabConfig::default() }).unwrap();
    let echo = |pod: &Host| EchoServer::start(pod, &[(Protocol::Tcp, TARGET)]).unwrap();
    let servers = lab.pods().iter().map(echo).collect();
    let server = ControlPlane::start(lab.node(), &assets);
    let admin = Admin::new(lab.node(), &server);
    admin.create(NODES, &node(lab.node()));
    test(&lab, World { admin, server, _echo: servers, _turn: turn });
}

impl World<'_> {
    /// Makes a service with these pods behind it; returns it as the server made it.
    pub fn serve(&self, name: &str, more: &Value, pods: &[&Host]) -> Value {
        let made = self.admin.create(SERVICES, &service(name, more));
        self.admin.create(SLICES, &slice(name, pods));
        made
    }

    /// Other pods serve.
    pub fn serve_by(&self, name: &str, pods: &[&Host]) {
        self.admin.patch(&format!("{SLICES}/{name}-1"), &json!({"endpoints": endpoints(pods)}));
    }

    /// weir, as the administrator.
    pub fn proxy(&self, node: &Host) -> Proxy {
        self.proxy_as(node, ADMIN_TOKEN, &[])
    }

    /// weir, as who has this token.
    pub fn proxy_as(&self, node: &Host, token: &str, more: &[&str]) -> Proxy {
        let kubeconfig = format!("--kubeconfig={}", self.server.kubeconfig(token).display());
        let name = format!("--hostname-override={NODE}");
        let flags = [kubeconfig.as_str(), &name, "--iptables-variant=nft", "--cluster-cidr=10.244.0.0/16"];
        Proxy::start(node, &[&flags[..], more].concat())
    }
}

/// Which servers answer, of some connections.
pub fn answers(from: &Host, to: SocketAddr) -> BTreeSet<String> {
    (0..30).filter_map(|_| Probe::tcp(to).run(from).ok()).map(|reply| reply.server).collect()
}

/// Waits until exactly these pods answer at an address.
pub fn answered_by(from: &Host, to: SocketAddr, pods: &[&Host]) {
    let expected: BTreeSet<String> = pods.iter().map(|pod| pod.name().to_owned()).collect();
    eventually(&format!("{to} is answered by {expected:?}"), || answers(from, to) == expected);
}
