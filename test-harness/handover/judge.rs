//! A real kube-proxy before weir and after it: the program that `WEIR_KUBE_PROXY` names, with facts of the scripted API
//! server.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use weir::cmd::cleanup::remove_nftables_leftovers;
use weir::kernel::xtables::variant::Variant;
use weir::lab::{HostChild, Probe, rerun, skipped};

use crate::cluster::Api;
use crate::process::{Proxy, eventually};
use crate::program::{installed, path_with, run_in};
use crate::shared::manifests::NODE;
use crate::shared::served::{objects, six};
use crate::shared::stream::while_connecting;
use crate::shared::world::FLAGS;
use crate::snapshot::{assert_same, foreign};
use crate::world::{World, are_open};

/// What is set to the path of kube-proxy.
const PROGRAM: &str = "WEIR_KUBE_PROXY";

/// How long kube-proxy may take until it serves.
const PATIENCE: Duration = Duration::from_secs(90);

/// A node, an API server, and kube-proxy, which uses the iptables of one variant.
struct Judge {
    world: World,
    api: Api,
    program: PathBuf,
    tools: TempDir,
}

impl Judge {
    /// `None` where there is no kube-proxy, and it says so.
    fn new(variant: Variant) -> Option<Judge> {
        let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
            skipped(&format!("handover: {PROGRAM} names no kube-proxy, so its rules are those of the contract only"));
            return None;
        };
        let world = World::new(variant)?;
        let tools = tempfile::tempdir().unwrap();
        for family in ["iptables", "ip6tables"] {
            for part in ["", "-save", "-restore"] {
                let tool = installed(&format!("{family}-{variant}{part}")).unwrap();
                symlink(tool, tools.path().join(format!("{family}{part}"))).unwrap();
            }
        }
        let api = Api::start(world.node());
        for object in objects(&six()).iter().flat_map(|text| text.split("---\n")).filter(|text| !text.is_empty()) {
            api.server.put(completed(serde_saphyr::from_str(object).unwrap()));
        }
        let addresses: Vec<Value> =
            world.node().addresses().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()})).collect();
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "uid": "u"},
            "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]}, "status": {"addresses": addresses},
        });
        api.server.put(node);
        Some(Judge { world, api, program, tools })
    }

    fn kube_proxy(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(flags).env("PATH", path_with(self.tools.path()));
        command
    }

    /// Starts kube-proxy and leaves it running until every client is served.
    fn serve_by_kube_proxy(&self, mode: &str) {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mode = format!("--proxy-mode={mode}");
        let kubeconfig = self.api.flag();
        let own = [
            kubeconfig.as_str(),
            mode.as_str(),
            FLAGS[0],
            "--hostname-override=node",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            "--iptables-sync-period=2s",
            "--iptables-min-sync-period=100ms",
            "-v=2",
        ];
        let mut command = self.kube_proxy(&own);
        command.stdout(log.reopen().unwrap()).stderr(log.reopen().unwrap());
        let said = || std::fs::read_to_string(log.path()).unwrap_or_default();
        let mut running: HostChild = self.world.node().spawn(command).unwrap();
        let begin = Instant::now();
        while !self.has_synced(&said()) {
            assert!(running.try_wait().unwrap().is_none(), "kube-proxy ended:\n{}", said());
            assert!(begin.elapsed() < PATIENCE, "kube-proxy does not serve:\n{}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
        running.kill().unwrap();
        running.wait().unwrap();
    }

    /// Both families have been written, which it says of each.
    fn has_synced(&self, log: &str) -> bool {
        let families: BTreeSet<&str> = log
            .lines()
            .filter(|line| line.contains("SyncProxyRules complete") || line.contains("syncProxyRules complete"))
            .filter_map(|line| ["IPv4", "IPv6"].into_iter().find(|family| line.contains(family)))
            .collect();
        families.len() == self.world.left.world.families().len()
    }

    /// `weir proxy` of the same API server, until everything is in force and so many tables of nftables mode are gone.
    fn serve_by_weir(&self, tables: usize) {
        let variant = format!("--iptables-variant={}", self.world.variant);
        let kubeconfig = self.api.flag();
        let flags = [kubeconfig.as_str(), variant.as_str(), FLAGS[0], "--hostname-override=node"];
        let running = Proxy::start(self.world.node(), &flags).started();
        eventually("kube-proxy's tables are gone", || running.said("its table is deleted").len() == tables);
        let (code, log) = running.stop();
        assert_eq!(code, Some(0), "{log}");
    }

    /// kube-proxy, weir, kube-proxy, weir, and cleanup by weir; then the same with kube-proxy's cleanup.
    fn play(&self, mode: &str) {
        let world = &self.world;
        self.serve_by_kube_proxy(mode);
        let others = foreign(&world.snapshot());
        let clients = world.left.clients();
        for (host, to) in &clients {
            Probe::tcp(*to).run(host).unwrap_or_else(|error| panic!("kube-proxy serves {to}: {error}"));
        }
        let mut flows = world.hold();
        let tables = if mode == "nftables" { world.left.world.families().len() } else { 0 };
        let ((), there) = while_connecting(&clients, || self.serve_by_weir(tables));
        assert_eq!(world.node().run(remove_nftables_leftovers).unwrap().unwrap(), 0, "there is nothing more to remove");
        are_open(&mut flows, "on the way there");
        let now = foreign(&world.snapshot());
        assert!(others.iter().all(|line| now.contains(line)), "{now:#?}");

        // In nftables mode kube-proxy removes all other rules before it writes its own: what is lost then is its doing.
        let back = if mode == "nftables" {
            self.serve_by_kube_proxy(mode);
            0
        } else {
            while_connecting(&clients, || self.serve_by_kube_proxy(mode)).1
        };
        are_open(&mut flows, "on the way back");
        println!("{} {mode}: {there} connections on the way there, {back} on the way back", world.variant);
        world.ends_clean();

        self.serve_by_kube_proxy(mode);
        self.serve_by_weir(tables);
        let ran = run_in(world.node(), self.kube_proxy(&["--cleanup"]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let left = world.snapshot();
        let ours: Vec<&String> = left.iter().filter(|line| !foreign(&left).contains(line)).collect();
        println!("{} {mode}: left by kube-proxy --cleanup: {ours:?}", world.variant);
        let harmless = |line: &str| line.starts_with("nfacct ");
        assert!(ours.iter().all(|line| harmless(line)), "{ours:#?}");
        // And weir has nothing to add but those.
        assert_eq!(world.cleanup(&[]).code, Some(0));
        assert_same(&world.snapshot(), &foreign(&left), "after both cleanups");
    }
}

/// With what a real API server fills in, and kube-proxy relies on.
fn completed(mut object: Value) -> Value {
    let fill = |to: &mut Value, fields: Value| {
        for (name, value) in fields.as_object().unwrap() {
            to.as_object_mut().unwrap().entry(name).or_insert(value.clone());
        }
    };
    let ports = if object["kind"] == "Service" { &mut object["spec"]["ports"] } else { &mut object["ports"] };
    ports.as_array_mut().unwrap().iter_mut().for_each(|port| fill(port, json!({"protocol": "TCP"})));
    if object["kind"] == "Service" {
        let spec = json!({"sessionAffinity": "None", "internalTrafficPolicy": "Cluster"});
        fill(&mut object["spec"], spec);
        if object["spec"]["sessionAffinity"] == "ClientIP" {
            fill(&mut object["spec"], json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10_800}}}));
        }
    } else {
        let ready = json!({"conditions": {"ready": true, "serving": true, "terminating": false}});
        object["endpoints"].as_array_mut().unwrap().iter_mut().for_each(|endpoint| fill(endpoint, ready.clone()));
    }
    object
}

fn judge(variant: Variant, mode: &str) {
    if !rerun::allowed().unwrap() {
        return;
    }
    let Some(judge) = Judge::new(variant) else { return };
    judge.play(mode);
}

#[test]
fn iptables_mode_nft() {
    judge(Variant::Nft, "iptables");
}

#[test]
fn iptables_mode_legacy() {
    judge(Variant::Legacy, "iptables");
}

#[test]
fn nftables_mode() {
    judge(Variant::Nft, "nftables");
}
