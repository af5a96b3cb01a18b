//! What is measured: weir in its modes, and any other proxy by its command.

use std::env;
use std::fs::{self, File};
use std::io;
use std::process::{Command, Stdio};

use weir::lab::{Host, HostChild};

use crate::bare::Tables;
use crate::cluster;

/// weir's modes: name, tables, flags.
const MODES: [(&str, Tables, &[&str]); 3] = [
    ("nft-netlink", Tables::Nft, &["--iptables-variant", "nft", "--iptables-driver", "netlink"]),
    ("nft-restore", Tables::Nft, &["--iptables-variant", "nft", "--iptables-driver", "restore"]),
    ("legacy", Tables::Legacy, &["--iptables-variant", "legacy"]),
];

/// Commands of others.
const COMMAND: &str = "WEIR_BENCH_COMMAND";
/// More flags for weir, separated by spaces.
const FLAGS: &str = "WEIR_BENCH_FLAGS";

/// Below /run, which is this process's own ([`weir::lab::sandbox`]) and goes with it.
const KUBECONFIG: &str = "/run/weir-bench-kubeconfig";
const LOG: &str = "/run/weir-bench-log";

/// A proxy that can be measured.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `weir nft-netlink`, or the name that was given to another's command.
    pub name: String,
    /// Whose tables it writes, as far as that is known: what the bare change is measured in.
    pub tables: Option<Tables>,
    program: String,
    arguments: Vec<String>,
}

/// Names of weir's modes.
pub fn modes() -> Vec<String> {
    MODES.iter().map(|(name, ..)| (*name).to_owned()).collect()
}

/// weir in a mode.
pub fn weir(mode: &str) -> Option<Proxy> {
    let (name, tables, flags) = MODES.iter().find(|(name, ..)| *name == mode)?;
    // A comparison of everything now and then is not the cost of a change: here it comes once in ten minutes.
    let common = "proxy --master {server} --hostname-override {node} --cluster-cidr {cidr} --iptables-sync-period 10m";
    let more = env::var(FLAGS).unwrap_or_default();
    let arguments = common.split(' ').chain(flags.iter().copied()).chain(more.split_whitespace());
    Some(Proxy {
        name: format!("weir {name}"),
        tables: Some(*tables),
        program: env!("CARGO_BIN_EXE_weir").to_owned(),
        arguments: arguments.map(str::to_owned).collect(),
    })
}

/// Those of `WEIR_BENCH_COMMAND` (one on each line) and of `WEIR_BENCH_COMMAND_1` and so on: `NAME=PROGRAM ARGUMENT …`.
/// `{server}`, `{node}`, `{cidr}` and `{kubeconfig}` stand for what they say. A name that ends with `nft` or `legacy`
/// tells whose tables the program writes.
pub fn others() -> Result<Vec<Proxy>, String> {
    let numbered = (1..).map_while(|n| env::var(format!("{COMMAND}_{n}")).ok());
    let all: Vec<String> = env::var(COMMAND).ok().into_iter().chain(numbered).collect();
    all.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()).map(other).collect()
}

fn other(line: &str) -> Result<Proxy, String> {
    let wrong = || format!("{COMMAND}: {line:?} is not NAME=PROGRAM ARGUMENT …");
    let (name, command) = line.split_once('=').ok_or_else(wrong)?;
    let mut words = command.split_whitespace().map(str::to_owned);
    let tables = [("nft", Tables::Nft), ("legacy", Tables::Legacy)].into_iter().find(|(end, _)| name.ends_with(end));
    Ok(Proxy {
        name: name.to_owned(),
        tables: tables.map(|(_, tables)| tables),
        program: words.next().ok_or_else(wrong)?,
        arguments: words.collect(),
    })
}

impl Proxy {
    /// Starts it on the node. What it logs is kept for [`last_words`].
    pub fn start(&self, node: &Host, server: &str) -> io::Result<HostChild> {
        fs::write(KUBECONFIG, kubeconfig(server))?;
        let fill = |argument: &String| {
            argument
                .replace("{server}", server)
                .replace("{node}", cluster::NODE)
                .replace("{cidr}", cluster::POD_NETWORK)
                .replace("{kubeconfig}", KUBECONFIG)
        };
        let log = File::create(LOG)?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(fill)).env("WEIR_LOG", "warn").stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        node.spawn(command).map_err(io::Error::other)
    }
}

/// The last line that a proxy logged.
pub fn last_words() -> String {
    let log = fs::read(LOG).unwrap_or_default();
    let text = String::from_utf8_lossy(&log).into_owned();
    let is_error = |line: &&str| line.to_lowercase().starts_with("error");
    let line = text.lines().find(is_error).or_else(|| text.lines().rfind(|line| !line.trim().is_empty()));
    line.unwrap_or("it said nothing").trim().to_owned()
}

fn kubeconfig(server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: bench\n\
         clusters: [{{name: bench, cluster: {{server: \"{server}\"}}}}]\n\
         contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]\n\
         users: [{{name: bench, user: {{}}}}]\n"
    )
}
