//! Real connections through virtual servers that `ipvsadm` made: shows that the lab works here, and how the kernel takes
//! a device that is never up.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use weir::lab::{EchoServer, Failure, Host, Lab, LabConfig, Probe, connect};
use weir::net::{Family, Protocol};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("a_virtual_server_is_reached_from_outside_from_pods_and_from_the_node", reached_from_everywhere),
        ("addresses_of_a_device_that_is_down_are_local", a_device_that_is_down),
    ]
}

const PORT: u16 = 8080;

fn service(family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => "10.96.0.10".parse().unwrap(),
        Family::V6 => "fd00:10:96::10".parse().unwrap(),
    };
    SocketAddr::new(address, 80)
}

fn run(host: &Host, line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    host.check(program, &words.collect::<Vec<_>>(), "").unwrap()
}

/// The flag by which ipvsadm, and the name by which iptables, know the family.
fn words(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// A node with a device that is down, a virtual server for each family and protocol, and two pods behind it.
fn lab() -> (Lab, Vec<EchoServer>) {
    let start = Instant::now();
    let lab = Lab::new(&LabConfig { pods: 2, node2_pods: 1, ..LabConfig::default() }).unwrap();
    println!("the lab is there after {:?}", start.elapsed());
    let protocols = [(Protocol::Tcp, PORT), (Protocol::Udp, PORT)];
    let servers = [&lab.pods()[0], &lab.node2_pods()[0]].map(|pod| EchoServer::start(pod, &protocols).unwrap());
    let node = lab.node();
    node.set_sysctl("net/ipv4/vs/conntrack", "1").unwrap();
    run(node, "ip link add kube-ipvs0 type dummy");
    for family in Family::ALL {
        let to = service(family);
        run(node, &format!("ip address add {} dev kube-ipvs0", to.ip()));
        // Answers come back this way, whoever asked.
        run(node, &format!("{} -w -t nat -A POSTROUTING -m ipvs --ipvs -j MASQUERADE", words(family)));
        for protocol in ["-t", "-u"] {
            run(node, &format!("ipvsadm -A {protocol} {to} -s rr"));
            for pod in [&lab.pods()[0], &lab.node2_pods()[0]] {
                let pod = SocketAddr::new(pod.address(family).unwrap(), PORT);
                run(node, &format!("ipvsadm -a {protocol} {to} -r {pod} -m"));
            }
        }
    }
    (lab, Vec::from(servers))
}

fn reached_from_everywhere() {
    let (lab, _servers) = lab();
    for family in Family::ALL {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for from in [lab.client(), lab.node(), &lab.pods()[1]] {
                let mut names: Vec<String> = (0..4)
                    .map(|_| connect(from, service(family), protocol, None))
                    .map(|reply| reply.unwrap_or_else(|e| panic!("{} {family} {protocol}: {e}", from.name())).server)
                    .collect();
                assert_ne!(names[0], names[1], "round robin: {names:?}");
                names.sort();
                assert_eq!(names, ["pod1", "pod1", "pod3", "pod3"], "{} {family} {protocol}", from.name());
            }
        }
    }
}

/// kube-proxy never sets the device up (contract 4.2). Whether an address of it is local is seen by a port that nobody
/// serves: *refused* by the node, and not *unreachable* by way of the gateway.
fn a_device_that_is_down() {
    let lab = Lab::new(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() }).unwrap();
    let node = lab.node();
    // The kernel's default, which the lab turns off.
    for scope in ["all", "default"] {
        node.set_sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "1").unwrap();
    }
    run(node, "ip link add kube-ipvs0 type dummy");
    for family in Family::ALL {
        let to = service(family);
        let probe = Probe::tcp(to);
        assert_eq!(probe.run(lab.client()), Err(Failure::Unreachable), "{family}: not local yet");
        run(node, &format!("ip address add {} dev kube-ipvs0", to.ip()));
        println!("{}", run(node, "ip address show dev kube-ipvs0"));
        println!("{}", run(node, "ip -6 route show table local"));
        for from in [lab.client(), node] {
            assert_eq!(probe.run(from), Err(Failure::Refused), "{family} from {}", from.name());
        }
        run(node, &format!("ip address del {} dev kube-ipvs0", to.ip()));
        assert_eq!(probe.run(lab.client()), Err(Failure::Unreachable), "{family}: no longer local");
    }
}
