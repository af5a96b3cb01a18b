//! The lab with a running weir on its node and a server in every pod.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use weir::cmd::options::ProxyMode;
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::{DriverChoice, Variant, find};
use weir::lab::{DROP_TIMEOUT, EchoServer, Host, Lab, LabConfig, Probe};
use weir::net::{Family, Protocol};

use super::manifests::{Endpoint, facts};
use super::node::Weir;
use super::seen::{Seen, complaints, exactly, next_port};
use super::variants::{driver, tell_untouched};

/// How pods are told from others in the lab.
pub const FLAGS: [&str; 1] = ["--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"];

/// Ports that every pod listens on, by TCP and UDP. The server of the first has the pod's name, those of others
/// `POD:PORT`.
const PORTS: [u16; 3] = [8080, 8081, 8082];

/// A compare that nobody waits for.
pub const SELDOM: Duration = Duration::from_secs(30);

/// What the node under test runs on, and in which mode weir serves it.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub variant: Variant,
    pub mode: ProxyMode,
}

impl From<Variant> for Setup {
    /// In iptables mode.
    fn from(variant: Variant) -> Setup {
        Setup { variant, mode: ProxyMode::Iptables }
    }
}

/// The lab, with weir.
pub struct World {
    pub lab: Lab,
    pub driver: RestoreDriver,
    pub mode: ProxyMode,
    weir: Option<Weir>,
    _servers: Vec<EchoServer>,
}

impl World {
    /// Three pods on the node and two on the other, and weir; `None` where the variant is not installed.
    pub fn new(setup: impl Into<Setup>) -> Option<World> {
        World::comparing(setup, SELDOM)
    }

    /// The same, with this much time between two compares.
    pub fn comparing(setup: impl Into<Setup>, sync_period: Duration) -> Option<World> {
        let mut world = World::without_weir(setup)?;
        world.weir = Some(world.another(sync_period));
        Some(world)
    }

    /// The same, without weir.
    pub fn without_weir(setup: impl Into<Setup>) -> Option<World> {
        let Setup { variant, mode } = setup.into();
        let lab = Lab::new(&LabConfig::default()).unwrap();
        let driver = driver(lab.node(), variant)?;
        tell_untouched(&lab, &driver, mode);
        let servers = lab.pods().iter().chain(lab.node2_pods()).flat_map(serve).collect();
        Some(World { lab, driver, mode, weir: None, _servers: servers })
    }

    /// Starts weir on the node.
    pub fn another(&self, sync_period: Duration) -> Weir {
        let mode = format!("--proxy-mode={}", self.mode.as_str());
        Weir::start(self.lab.node(), self.driver.clone(), &[FLAGS[0], mode.as_str()], sync_period)
    }

    /// The same in another mode, with more flags. Rules are written in the way that weir finds best.
    pub fn start(&self, mode: ProxyMode, flags: &[&str], sync_period: Duration) -> Weir {
        let mode = format!("--proxy-mode={}", mode.as_str());
        let all = [&FLAGS, [mode.as_str()].as_slice(), flags].concat();
        let node = self.lab.node();
        let find = || find(Some(self.driver.tools().variant), DriverChoice::Auto).unwrap();
        Weir::start(node, node.run(find).unwrap(), &all, sync_period)
    }

    pub fn weir(&self) -> &Weir {
        self.weir.as_ref().unwrap()
    }

    /// Stops the running weir, if there is one, and lets this one take its place.
    pub fn replace_weir(&mut self, weir: Option<Weir>) {
        if let Some(old) = std::mem::replace(&mut self.weir, weir) {
            old.stop();
        }
    }

    /// These are all the objects of the cluster now: tells weir, and waits until that is in force.
    pub fn tell(&self, objects: &[String]) {
        self.weir().tell(facts(objects));
    }

    pub fn families(&self) -> Vec<Family> {
        self.driver.tools().families()
    }

    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name).unwrap()
    }

    /// The node's address on the lan.
    pub fn node_ip(&self, family: Family) -> IpAddr {
        self.lab.node().address(family).unwrap()
    }

    /// Pods as endpoints.
    pub fn endpoints<const N: usize>(&self, names: [&str; N]) -> [Endpoint; N] {
        names.map(|name| Endpoint::of(&self.lab, self.host(name)))
    }

    /// Connects once. For the node itself, an address of the node cannot be told from another: its connections all
    /// count as masqueraded.
    pub fn ask(&self, from: &str, protocol: Protocol, to: SocketAddr, timeout: Option<Duration>) -> Seen {
        let host = self.host(from);
        let source = match (from, to.ip().is_loopback(), to.is_ipv4()) {
            ("node", true, true) => Ipv4Addr::LOCALHOST.into(),
            ("node", true, false) => Ipv6Addr::LOCALHOST.into(),
            _ => host.address(Family::of(&to.ip())).unwrap(),
        };
        let mut probe = Probe::new(protocol, to).from(SocketAddr::new(source, next_port()));
        if let Some(timeout) = timeout {
            probe = probe.timeout(timeout);
        }
        match Seen::of(probe.run(host), source, &self.lab.oracle_host()) {
            Seen::Kept(server) if from == "node" => Seen::Masqueraded(server),
            seen => seen,
        }
    }

    /// Looks at all cases at once, and fails with all that is wrong.
    #[track_caller]
    pub fn judge(&self, cases: Vec<Case>) {
        let wrong = complaints(&cases, |case| {
            let timeout = case.expect.contains(&Seen::Dropped).then_some(DROP_TIMEOUT);
            let ask = || self.ask(case.from, case.protocol, case.to, timeout);
            exactly(&case.expect, ask).map_err(|error| format!("{case}: {error}"))
        });
        assert!(wrong.is_empty(), "{}:\n{}", self.driver.tools().variant, wrong.join("\n"));
    }

    /// The same for each family that there is.
    #[track_caller]
    pub fn judge_both(&self, cases: impl Fn(Family) -> Vec<Case>) {
        self.judge(self.families().into_iter().flat_map(cases).collect());
    }
}

fn serve(pod: &Host) -> Vec<EchoServer> {
    let start = |port: u16| {
        let name = if port == PORTS[0] { pod.name().to_owned() } else { format!("{}:{port}", pod.name()) };
        let at = |protocol| pod.addresses().map(move |ip| (protocol, SocketAddr::new(ip, port)));
        let sockets: Vec<_> = at(Protocol::Tcp).chain(at(Protocol::Udp)).collect();
        EchoServer::start_on(pod, &name, &sockets).unwrap()
    };
    PORTS.into_iter().map(start).collect()
}

/// A connection and what may become of it.
pub struct Case {
    pub row: &'static str,
    pub from: &'static str,
    pub protocol: Protocol,
    pub to: SocketAddr,
    pub expect: BTreeSet<Seen>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row {}, {} to {}/{}", self.row, self.from, self.to, self.protocol)
    }
}

/// A TCP connection.
pub fn tcp(row: &'static str, from: &'static str, to: (IpAddr, u16), expect: impl Into<BTreeSet<Seen>>) -> Case {
    Case { row, from, protocol: Protocol::Tcp, to: to.into(), expect: expect.into() }
}

/// A question by UDP.
pub fn udp(row: &'static str, from: &'static str, to: (IpAddr, u16), expect: impl Into<BTreeSet<Seen>>) -> Case {
    Case { protocol: Protocol::Udp, ..tcp(row, from, to, expect) }
}

/// One of these servers, who sees the client's address.
pub fn kept<const N: usize>(servers: [&str; N]) -> BTreeSet<Seen> {
    servers.map(|name| Seen::Kept(name.to_owned())).into()
}

/// One of these servers, who sees the node's address.
pub fn masqueraded<const N: usize>(servers: [&str; N]) -> BTreeSet<Seen> {
    servers.map(|name| Seen::Masqueraded(name.to_owned())).into()
}
