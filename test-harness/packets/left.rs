//! A node where kube-proxy in iptables mode has been, with all that the kubelet and an administrator have there.

use std::net::SocketAddr;

use weir::cmd::accounting::Accounting;
use weir::kernel::xtables::variant::Variant;
use weir::lab::{EchoServer, Host};
use weir::net::Family;

use super::kube_proxy::{Book, Service};
use super::served::{add_endpoints, six};
use super::variants::restore;
use super::world::World;

/// A node without weir, on which these rules are.
pub struct Left {
    pub world: World,
    _servers: Vec<EchoServer>,
}

impl Left {
    /// `None` where the variant is not installed.
    pub fn new(variant: Variant, services: &[Service], comments: bool) -> Option<Left> {
        let left = Left::without_rules(variant)?;
        left.add_rules(services, comments);
        Some(left)
    }

    /// The same, and kube-proxy comes later.
    pub fn without_rules(variant: Variant) -> Option<Left> {
        let world = World::without_weir(variant)?;
        world.lab.node().set_sysctl("net/ipv4/conf/all/route_localnet", "1").unwrap();
        let servers = add_endpoints(&world);
        for family in world.families() {
            // kube-proxy was there before the administrator closed the firewall behind it.
            restore(world.lab.node(), &world.driver, family, "*filter\n-F INPUT\nCOMMIT\n");
        }
        Some(Left { world, _servers: servers })
    }

    /// kube-proxy's rules, with others'.
    pub fn add_rules(&self, services: &[Service], comments: bool) {
        // kube-proxy made them, and its rules name them.
        let counters = self.world.lab.node().run(|| Accounting::make(&Family::ALL)).unwrap();
        assert_ne!(counters, Accounting::default(), "this kernel has no accounting objects");
        for family in self.world.families() {
            let rules = Book::write(family, services, comments);
            if family == Family::V4 {
                golden_names(&rules);
            }
            restore(self.world.lab.node(), &self.world.driver, family, &rules);
        }
    }

    /// Clients of what the six services offer.
    pub fn clients(&self) -> Vec<(&Host, SocketAddr)> {
        let six = six();
        let of = |family: Family| {
            let node = self.world.node_ip(family);
            [
                ("client", (six[3].vip(family), 80)),
                ("client", (six[4].vip(family), 80)),
                ("client", (node, 30002)),
                ("pod3", (six[0].cluster_ip(family), 80)),
                ("pod1", (six[3].external_ip(family), 80)),
                ("node", (six[3].cluster_ip(family), 80)),
            ]
            .map(|(from, to)| (self.world.host(from), SocketAddr::from(to)))
        };
        self.world.families().into_iter().flat_map(of).collect()
    }

    /// kube-proxy's first sync after it was started again: its chains are written anew, each table at once.
    pub fn give_back(&self, services: &[Service]) {
        for family in self.world.families() {
            let rules = Book::write(family, services, true);
            // What it does not own is there already, and would be emptied if it was declared.
            let others = |line: &str| line.starts_with("-A ") || line.starts_with(':');
            let own = |line: &&str| !others(line) || line.starts_with("-A KUBE-") || line.starts_with(":KUBE-");
            let own: String = rules
                .lines()
                .filter(own)
                .filter(|l| !l.contains("KUBE-FIREWALL"))
                .fold(String::new(), |text, line| text + line + "\n");
            restore(self.world.lab.node(), &self.world.driver, family, &own);
        }
    }
}

/// Names that kube-proxy is known to give (contract 3.1).
fn golden_names(rules: &str) {
    let names = [
        "SVC-XPGD46QRK7WJZT7O",
        "SVL-GNZBNJ2PO5MGZ6GT",
        "EXT-X27LE4BHSL4DOUIK",
        "SVC-4SW47YFZTEDKD3PK",
        "FW-NUKIZ6OKUXPJNT4C",
        "SEP-SXIVWICOYRO3J4NJ",
        "SEP-RS4RBKLTHTF2IUXJ",
        "SEP-OYPFS5VJICHGATKP",
        "SEP-UKSFD7AGPMPPLUHC",
        "SEP-C6EBXVWJJZMIWKLZ",
        "SEP-I77PXRDZVX7PMWMN",
    ];
    for name in names {
        assert!(rules.contains(&format!(":KUBE-{name} ")), "{name} is not in:\n{rules}");
    }
}
