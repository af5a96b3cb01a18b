//! Who connects to what, and what is expected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::fate::{Fate, Seen};

/// One expectation and the connections that show it.
pub struct Step {
    /// What happens, and why.
    pub title: &'static str,
    pub attempts: Vec<Attempt>,
}

/// Some connections of one host to one address.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The name of a host.
    pub from: &'static str,
    pub to: SocketAddr,
    pub times: usize,
    /// What is to become of them, all together.
    pub expected: Fate,
}

/// So many that of three endpoints one is left out once in some million demos.
const SHARED: usize = 40;
/// Where there is nothing to be shared.
const FEW: usize = 3;

const fn v4(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

const fn v6(net: [u16; 4], host: u16, port: u16) -> SocketAddr {
    let [a, b, c, d] = net;
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, host)), port)
}

/// Addresses of services, IPv4 and IPv6. They are those of the manifests.
type Both = [SocketAddr; 2];
const WEB: Both = [v4(10, 96, 0, 10, 80), v6([0xfd00, 0x10, 0x96, 0], 0x10, 80)];
const WEB_NODE_PORT: Both = [v4(192, 168, 99, 10, 30080), v6([0x2001, 0xdb8, 0x99, 0], 0x10, 30080)];
const WEB_LOOPBACK: SocketAddr = v4(127, 0, 0, 1, 30080);
const WEB_EXTERNAL: Both = [v4(203, 0, 113, 10, 80), v6([0x2001, 0xdb8, 0x203, 0], 0x10, 80)];
const SHOP_BALANCER: Both = [v4(198, 51, 100, 20, 80), v6([0x2001, 0xdb8, 0x51, 0], 0x20, 80)];
const MIRROR: Both = [v4(10, 96, 0, 30, 80), v6([0xfd00, 0x10, 0x96, 0], 0x30, 80)];
const LOCAL_NODE_PORT: Both = [v4(192, 168, 99, 10, 30082), v6([0x2001, 0xdb8, 0x99, 0], 0x10, 30082)];
const EMPTY: Both = [v4(10, 96, 0, 50, 80), v6([0xfd00, 0x10, 0x96, 0], 0x50, 80)];
const ROLLING: SocketAddr = v4(10, 96, 0, 60, 80);

const WEB_PODS: &[&str] = &["pod2", "pod3", "pod4"];
const SHOP_PODS: &[&str] = &["pod2", "pod4"];

fn attempts(from: &'static str, to: impl IntoIterator<Item = SocketAddr>, expected: &Fate) -> Vec<Attempt> {
    let times = match expected {
        Fate::Answered { pods, .. } if pods.len() > 1 => SHARED,
        Fate::Dropped => 1,
        _ => FEW,
    };
    to.into_iter().map(|to| Attempt { from, to, times, expected: expected.clone() }).collect()
}

/// What weir does day by day, in the order in which it is shown.
pub fn daily() -> Vec<Step> {
    let shared = |seen| Fate::answered(WEB_PODS, seen);
    let shop = Fate::answered(SHOP_PODS, Seen::Masqueraded);
    vec![
        Step {
            title: "A pod connects to a cluster IP: its endpoints share the load, the client's address is kept",
            attempts: attempts("pod1", WEB, &shared(Seen::Kept)),
        },
        Step {
            title: "An outside client connects to a node port: masqueraded, so that answers come back this way",
            attempts: attempts("client", WEB_NODE_PORT, &shared(Seen::Masqueraded)),
        },
        Step {
            title: "The node connects to a node port of its own, on 127.0.0.1",
            attempts: attempts("node", [WEB_LOOPBACK], &shared(Seen::Masqueraded)),
        },
        Step {
            title: "An outside client connects to an external IP",
            attempts: attempts("client", WEB_EXTERNAL, &shared(Seen::Masqueraded)),
        },
        Step {
            title: "A load balancer's address with source ranges: who is in them gets in, who is not is dropped",
            attempts: [attempts("client", SHOP_BALANCER, &shop), attempts("blocked", SHOP_BALANCER, &Fate::Dropped)]
                .concat(),
        },
        Step {
            title: "Hairpin: a pod reaches itself through its service; masqueraded, as it could not answer itself",
            attempts: attempts("pod1", MIRROR, &Fate::answered(&["pod1"], Seen::Masqueraded)),
        },
        Step {
            title: "externalTrafficPolicy Local: only the endpoint on this node answers, and sees the real client",
            attempts: attempts("client", LOCAL_NODE_PORT, &Fate::answered(&["pod2"], Seen::Kept)),
        },
        Step {
            title: "A service without endpoints: refused at once, nobody waits",
            attempts: attempts("pod1", EMPTY, &Fate::Refused),
        },
    ]
}

/// The service whose endpoint is replaced, with the endpoint before and after.
pub fn rolling() -> (Attempt, Attempt) {
    let with = |pods| Attempt { from: "pod1", to: ROLLING, times: FEW, expected: Fate::answered(pods, Seen::Kept) };
    (with(&["pod3"]), with(&["pod5"]))
}

/// What is tried after rules were deleted and came back.
pub fn flushed() -> Attempt {
    let to = v4(10, 96, 0, 10, 80);
    Attempt { from: "pod1", to, times: SHARED, expected: Fate::answered(WEB_PODS, Seen::Kept) }
}

/// What still works when weir is stopped.
pub fn stopped() -> Vec<Attempt> {
    let inside = attempts("pod1", WEB, &Fate::answered(WEB_PODS, Seen::Kept));
    let outside = attempts("client", WEB_NODE_PORT.into_iter().take(1), &Fate::answered(WEB_PODS, Seen::Masqueraded));
    [inside, outside].concat()
}
