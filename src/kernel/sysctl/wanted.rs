//! What IPVS mode wants of the kernel (contract 4.1).

use super::KernelVersion;

/// What is wanted of one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its path below `/proc/sys`.
    pub name: &'static str,
    /// `None`: whatever it is; it is only reported.
    pub value: Option<&'static str>,
    /// For people.
    pub why: &'static str,
    /// Without it there is no service: a kernel that lacks it is an error.
    pub required: bool,
}

/// What the list depends on besides the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Answer ARP only for addresses of the device that was asked, so that nobody on the network takes this node for the
    /// owner of a service address.
    pub strict_arp: bool,
}

const CONN_REUSE_MODE: &str = "net/ipv4/vs/conn_reuse_mode";

/// The kernel since which there is `conn_reuse_mode`, and the first one in which its default delays nobody.
const HAS_CONN_REUSE_MODE: KernelVersion = KernelVersion::new(4, 1);
const CONN_REUSE_WITHOUT_DELAY: KernelVersion = KernelVersion::new(5, 9);

/// What is wanted at the start.
pub fn wanted(kernel: KernelVersion, options: Options) -> Vec<Wanted> {
    let set = |name, value, why| Wanted { name, value: Some(value), why, required: true };
    let mut list = vec![
        set("net/ipv4/vs/conntrack", "1", "rules masquerade connections of IPVS, and for that must see them"),
        conn_reuse_mode(kernel),
        set(
            "net/ipv4/vs/expire_nodest_conn",
            "1",
            "a client of an endpoint that is gone is told at once, instead of being left to wait",
        ),
        set(
            "net/ipv4/vs/expire_quiescent_template",
            "1",
            "clients with session affinity leave an endpoint that gets no new connections",
        ),
        set("net/ipv4/ip_forward", "1", "packets for endpoints on other machines and in pods are forwarded"),
    ];
    if options.strict_arp {
        list.extend([
            set("net/ipv4/conf/all/arp_ignore", "1", "strict ARP: no answers for addresses of other devices"),
            set("net/ipv4/conf/all/arp_announce", "2", "strict ARP: no service address as the sender of a question"),
        ]);
    }
    list
}

fn conn_reuse_mode(kernel: KernelVersion) -> Wanted {
    let (value, why) = if kernel < HAS_CONN_REUSE_MODE {
        (None, "this kernel is older than 4.1, and a client that reuses a port may reach an endpoint that is gone")
    } else if kernel < CONN_REUSE_WITHOUT_DELAY {
        (Some("0"), "before Linux 5.9, any other mode delays a client that reuses a port by one second")
    } else {
        (None, "since Linux 5.9 its default serves a client that reuses a port at once")
    };
    Wanted { name: CONN_REUSE_MODE, value, why, required: value.is_some() }
}

/// What is wanted of the estimators of rates, where there are this many virtual servers and `limit` is the most for which
/// they may run: they walk all virtual and real servers every two seconds, before Linux 6.2 in a timer interrupt.
///
/// Old kernels have no such switch.
pub fn estimation(virtual_servers: usize, limit: usize) -> Option<Wanted> {
    (virtual_servers > limit).then_some(Wanted {
        name: "net/ipv4/vs/run_estimation",
        value: Some("0"),
        why: "estimating the rates of so many virtual servers stalls packets; counters of rates stay at 0",
        required: false,
    })
}
