//! A node with kube-proxy's rules, others' things, and the program.

use std::fs;

use tempfile::TempDir;
use weir::cmd::accounting::Accounting;
use weir::kernel::nfacct::Nfacct;
use weir::kernel::xtables::variant::Variant;
use weir::lab::{Flow, Host, Probe};
use weir::net::Family;

use crate::process::Proxy;
use crate::program::{Ran, run_in, weir};
use crate::shared::left::Left;
use crate::shared::manifests::NODE;
use crate::shared::world::FLAGS;
use crate::snapshot::{COUNTERS, assert_same, foreign, snapshot};

/// The node, with others' rules in both kinds of tables.
pub struct World {
    pub left: Left,
    pub variant: Variant,
    folder: TempDir,
}

impl World {
    /// Endpoints serve; nobody leads to them yet. `None` where the variant is not installed.
    pub fn new(variant: Variant) -> Option<World> {
        let left = Left::without_rules(variant)?;
        add_others(left.world.lab.node());
        Some(World { left, variant, folder: tempfile::tempdir().unwrap() })
    }

    pub fn node(&self) -> &Host {
        self.left.world.lab.node()
    }

    /// These are all the objects that weir is told of.
    pub fn tell(&self, objects: &[String]) {
        let node = format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}\n");
        fs::write(self.folder.path().join("all.yaml"), node + &objects.concat()).unwrap();
    }

    /// Starts `weir proxy`, and waits until everything is in force.
    pub fn serve(&self) -> Proxy {
        let source = format!("--manifests={}", self.folder.path().display());
        let variant = format!("--iptables-variant={}", self.variant);
        let name = format!("--hostname-override={NODE}");
        Proxy::start(self.node(), &[&source, &variant, &name, FLAGS[0]]).started()
    }

    /// Starts it, and stops it once it has done all there is to do.
    pub fn serve_once(&self) {
        let (code, log) = self.serve().stop();
        assert_eq!(code, Some(0), "{log}");
    }

    /// `weir cleanup`.
    pub fn cleanup(&self, flags: &[&str]) -> Ran {
        let words: Vec<&str> = ["cleanup"].into_iter().chain(flags.iter().copied()).collect();
        run_in(self.node(), weir(&words))
    }

    pub fn snapshot(&self) -> Vec<String> {
        snapshot(self.node())
    }

    /// Lists, removes, and looks: everything of ours is gone, everything of others is as it was; and once more.
    #[track_caller]
    pub fn ends_clean(&self) {
        let before = self.snapshot();
        let left = foreign(&before);
        assert!(left.len() > 20 && left.len() < before.len(), "{left:#?}");
        let listed = self.cleanup(&["--dry-run"]);
        assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""), "{listed:?}");
        assert!(listed.out.lines().any(|line| line.starts_with('-')), "{}", listed.out);
        assert_same(&self.snapshot(), &before, "a list changes nothing");

        let removed = self.cleanup(&[]);
        assert_eq!((removed.code, removed.err.as_str()), (Some(0), ""), "{removed:?}");
        assert_eq!(listed.out.lines().last(), removed.out.lines().last(), "what was listed was removed");
        assert_same(&self.snapshot(), &left, "after cleanup");
        for flags in [&["--dry-run"] as &[&str], &[]] {
            let again = self.cleanup(flags);
            let expected = (Some(0), "Nothing to change.\n", "");
            assert_eq!((again.code, again.out.as_str(), again.err.as_str()), expected, "{flags:?}");
        }
        assert_same(&self.snapshot(), &left, "after cleanup");
        // What leads nowhere is answered by nobody.
        for (host, to) in self.left.clients() {
            let asked = Probe::tcp(to).timeout(std::time::Duration::from_millis(300)).run(host);
            assert!(asked.is_err(), "{} to {to}: {asked:?}", host.name());
        }
    }

    /// A connection of each client that stays open, with who answers it.
    pub fn hold(&self) -> Vec<(Flow, String)> {
        let open = |(host, to)| {
            let mut flow = Flow::open(host, &Probe::tcp(to)).unwrap();
            let server = flow.ask().unwrap().server;
            (flow, server)
        };
        self.left.clients().into_iter().map(open).collect()
    }
}

/// Every connection is answered by whom it was answered before.
#[track_caller]
pub fn are_open(flows: &mut [(Flow, String)], when: &str) {
    for (flow, server) in flows {
        assert_eq!(flow.ask().unwrap_or_else(|error| panic!("{when}: {error}")).server, *server, "{when}");
    }
}

/// What an administrator and others have that no proxy may touch: rules in both kinds of tables, some of which look like
/// kube-proxy's; sets; tables of nftables; accounting objects.
fn add_others(node: &Host) {
    let rules = "*nat\n:KUBE-MARK-DROP - [0:0]\n:OTHERS - [0:0]\n-A KUBE-MARK-DROP -j MARK --or-mark 0x8000\n\
                 -A POSTROUTING -m mark --mark 0x77 -m comment --comment \"as -j KUBE-SERVICES does\" -j OTHERS\nCOMMIT\n\
                 *mangle\n:KUBE-KUBELET-CANARY - [0:0]\n-A PREROUTING -p tcp -m tcp --dport 23 -j DSCP --set-dscp 0x01\nCOMMIT\n";
    for tool in ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"] {
        node.check(&format!("{tool}-restore"), &["--noflush"], rules).unwrap();
    }
    let sets = "create blocklist hash:ip family inet comment\nadd blocklist 203.0.113.9 comment \"KUBE-CLUSTER-IP\"\n\
                create KUBE-NOT-A-PROXYS hash:net family inet6\nadd KUBE-NOT-A-PROXYS 2001:db8:9::/64\n";
    node.check("ipset", &["restore"], sets).unwrap();
    let tables = "table inet kube-proxy {\nchain others {\ntcp dport 7 counter drop\n}\n}\n\
                  table ip kube-proxy-of-others {\nset s {\ntype ipv4_addr\nelements = { 203.0.113.9 }\n}\n}\n";
    node.check("nft", &["-f", "-"], tables).unwrap();
    let made = node.run(|| {
        Nfacct::open().unwrap().ensure(COUNTERS[0]).unwrap();
        Accounting::make(&Family::ALL)
    });
    assert_ne!(made.unwrap(), Accounting::default(), "this kernel has no accounting objects");
}
