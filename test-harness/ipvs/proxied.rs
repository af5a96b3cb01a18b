//! A lab whose node runs `weir proxy --proxy-mode ipvs`, and what its kernel then holds, as the tools that people use
//! tell it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;
use weir::lab::{EchoServer, Failure, Flow, Host, Lab, LabConfig, Probe};
use weir::net::{Family, Protocol};

use crate::manifests::{Endpoint, NODE};
use crate::process::{PATIENCE, Proxy, eventually};
use crate::program::{all_rules, weir};

/// Where every pod listens, by TCP and UDP.
pub const PORT: u16 = 8080;

/// Two pods on the node and two on the other, a server in each, and a folder of manifests.
pub struct World {
    pub lab: Lab,
    folder: TempDir,
    _servers: Vec<EchoServer>,
}

/// A real server, as `ipvsadm -Ln` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    pub weight: u32,
    pub active: u32,
    pub inactive: u32,
}

/// A connection that stays open, and who answers it.
pub struct Held {
    pub server: String,
    pub flow: Flow,
}

impl World {
    /// Nobody has told anything yet.
    pub fn new() -> World {
        let lab = Lab::new(&LabConfig { pods: 2, node2_pods: 2, ..LabConfig::default() }).unwrap();
        let protocols = [(Protocol::Tcp, PORT), (Protocol::Udp, PORT)];
        let servers = lab.pods().iter().chain(lab.node2_pods()).map(|pod| EchoServer::start(pod, &protocols).unwrap());
        let servers = servers.collect();
        World { lab, folder: tempfile::tempdir().unwrap(), _servers: servers }
    }

    /// These are all the objects there are now, beside the node's own.
    pub fn tell(&self, objects: &[String]) {
        let node = format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}\n");
        let hidden = self.folder.path().join(".new");
        fs::write(&hidden, node + &objects.concat()).unwrap();
        fs::rename(hidden, self.folder.path().join("all.yaml")).unwrap();
    }

    /// `weir proxy` in IPVS mode, which compares every second. Flags that are given twice count as they are here.
    pub fn weir(&self, flags: &[&str]) -> Command {
        let folder = format!("--manifests={}", self.folder.path().display());
        let own = [
            "proxy",
            "--proxy-mode=ipvs",
            &folder,
            "--hostname-override=node",
            "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
            "--ipvs-sync-period=1s",
            // The machine's is smaller, and in a network namespace nobody may change it.
            "--conntrack-max-per-core=0",
            "-v=2",
        ];
        weir(&own.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts it on the node, and waits until everything is in force.
    pub fn start(&self, flags: &[&str]) -> Proxy {
        Proxy::run(self.lab.node(), self.weir(flags)).started()
    }

    /// Runs a program on the node.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        self.lab.node().check(program, &words.collect::<Vec<_>>(), "").unwrap()
    }

    /// Pods as endpoints.
    pub fn endpoints(&self, names: &[&str]) -> Vec<Endpoint> {
        names.iter().map(|name| Endpoint::of(&self.lab, self.host(name))).collect()
    }

    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name).unwrap()
    }

    /// Connects once from the client, from this address and port or any.
    pub fn ask_from(&self, from: Option<SocketAddr>, to: SocketAddr) -> Result<String, Failure> {
        let probe = from.into_iter().fold(Probe::tcp(to), Probe::from);
        Ok(probe.run(self.lab.client())?.server)
    }

    /// The same, where there must be an answer: who gives it.
    #[track_caller]
    pub fn answer(&self, from: Option<SocketAddr>, to: SocketAddr) -> String {
        self.ask_from(from, to).unwrap_or_else(|error| panic!("{from:?} to {to}: {error}\n{}", self.shown()))
    }

    /// Opens a connection from the client and leaves it open.
    #[track_caller]
    pub fn hold(&self, to: SocketAddr) -> Held {
        let opened = Flow::open(self.lab.client(), &Probe::tcp(to)).and_then(|mut flow| Ok((flow.ask()?, flow)));
        let (reply, flow) = opened.unwrap_or_else(|error| panic!("{to}: {error}\n{}", self.shown()));
        Held { server: reply.server, flow }
    }

    /// `ipvsadm -Ln`, for people.
    pub fn shown(&self) -> String {
        self.run("ipvsadm -Ln")
    }

    /// The real servers of a TCP service by the names of their pods; `None` if there is no such virtual server.
    pub fn reals(&self, to: SocketAddr) -> Option<BTreeMap<String, Real>> {
        self.reals_by("TCP", to)
    }

    /// The same of another protocol, in capitals.
    pub fn reals_by(&self, protocol: &str, to: SocketAddr) -> Option<BTreeMap<String, Real>> {
        let text = self.shown();
        let mut lines = text.lines().skip_while(|line| {
            let mut words = line.split_whitespace();
            (words.next(), words.next()) != (Some(protocol), Some(&to.to_string()))
        });
        lines.next()?;
        Some(lines.map_while(|line| line.trim().strip_prefix("-> ")).map(|line| self.real(line)).collect())
    }

    /// `10.244.1.2:8080  Masq  1  0  4`
    fn real(&self, line: &str) -> (String, Real) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [endpoint, "Masq", weight, active, inactive] = words[..] else { panic!("{line}") };
        let endpoint: SocketAddr = endpoint.parse().unwrap();
        let has_it = |host: &&Host| host.address(Family::of(&endpoint.ip())) == Some(endpoint.ip());
        let pod = self.lab.pods().iter().chain(self.lab.node2_pods()).find(has_it);
        let number = |text: &str| text.parse().unwrap();
        let real = Real { weight: number(weight), active: number(active), inactive: number(inactive) };
        (pod.map_or(endpoint.to_string(), |pod| pod.name().to_owned()), real)
    }

    /// Waits until the real servers of a service are as they should be.
    #[track_caller]
    pub fn until_reals(&self, what: &str, to: SocketAddr, so: impl Fn(Option<&BTreeMap<String, Real>>) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !so(self.reals(to).as_ref()) {
            assert!(std::time::Instant::now() < deadline, "{to}, waited until {what}:\n{}", self.shown());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until a service has exactly these real servers that get connections.
    #[track_caller]
    pub fn until_served_by(&self, to: SocketAddr, names: &[&str]) {
        self.until_reals(&format!("{names:?} serve it"), to, |reals| {
            let serving = reals.into_iter().flatten().filter(|(_, real)| real.weight > 0);
            serving.map(|(name, _)| name.as_str()).eq(names.iter().copied())
        });
    }

    /// Everything in the node's kernel that weir could change. What has no order is sorted.
    pub fn kernel(&self) -> String {
        let node = self.lab.node();
        let vs = "/proc/sys/net/ipv4/vs";
        let sysctls = ["conntrack", "conn_reuse_mode", "expire_nodest_conn", "expire_quiescent_template"];
        let sysctls = sysctls.map(|name| format!("{vs}/{name}")).join(" ");
        let lines = ["ipset save", "ipvsadm -Sn", "ip -br address show dev kube-ipvs0"].map(str::to_owned);
        let lines = lines.into_iter().chain([format!("cat /proc/sys/net/ipv4/conf/all/route_localnet {sysctls}")]);
        let parts = lines.map(|line| {
            let mut words = line.split_whitespace();
            let mut command = Command::new(words.next().unwrap());
            command.args(words);
            let output = node.output(command).unwrap();
            let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
            let mut lines: Vec<&str> = if line.starts_with("ip -br") {
                printed.split_whitespace().collect()
            } else {
                printed.lines().collect()
            };
            if !line.starts_with("cat") {
                lines.sort_unstable();
            }
            format!("## {line}\n{}\n", lines.join("\n"))
        });
        // Built-in chains of a table are there once somebody looked at it.
        let rules = all_rules(node);
        let is_made = |line: &&str| line.starts_with("-A") || line.contains("KUBE") || line.contains("WEIR");
        let rules: Vec<&str> = rules.lines().filter(is_made).collect();
        parts.chain([rules.join("\n")]).collect()
    }

    /// Waits until the kernel is as it was.
    #[track_caller]
    pub fn until_kernel_is(&self, what: &str, before: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let now = self.kernel();
            if now == before {
                return;
            }
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "{what}:\n{}", similar::TextDiff::from_lines(before, &now).unified_diff());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The frontend of a service at port 80.
pub fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 80)
}

/// How many times each of them is there.
pub fn count(servers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for server in servers {
        *counts.entry(server).or_default() += 1;
    }
    counts
}

/// The same, to compare with.
pub fn counts<const N: usize>(list: [(&str, usize); N]) -> BTreeMap<String, usize> {
    list.map(|(name, count)| (name.to_owned(), count)).into()
}

/// Waits for some compares more.
pub fn after_compares(running: &Proxy, number: usize) {
    let before = running.said("task=Repair").len();
    eventually("some compares are through", || running.said("task=Repair").len() >= before + number);
}
