//! Addresses and links of the host.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use weir::kernel::xtables::variant::Variant;
use weir::lab::{Lab, LabConfig, rerun};

use crate::fixture::{PATIENCE, Watched};

#[test]
fn addresses_are_told_and_bursts_are_gathered() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = Lab::new(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() }).unwrap();
    let node = lab.node();
    let watched = node.run(|| Watched::start(Variant::Nft)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    while watched.addresses.try_recv().is_ok() {}
    for address in ["203.0.113.5", "2001:db8:203::5"] {
        let address: IpAddr = address.parse().unwrap();
        let start = Instant::now();
        node.add_address("lo", address.into()).unwrap();
        let at = watched.addresses.recv_timeout(PATIENCE).unwrap();
        println!("{address} was told after {:?}", at - start);
        std::thread::sleep(Duration::from_millis(200));
        while watched.addresses.try_recv().is_ok() {}
    }
    let start = Instant::now();
    for number in 0..100 {
        node.add_address("lo", IpAddr::from(Ipv4Addr::new(203, 0, 113, 100 + number)).into()).unwrap();
    }
    let took = start.elapsed();
    std::thread::sleep(Duration::from_millis(200));
    let told = watched.addresses.try_iter().count();
    println!("100 addresses in {took:?} were told in {told} times");
    assert!(told >= 1 && told as u128 <= took.as_millis() / 50 + 2, "{told} in {took:?}");
    watched.is_silent("no rule changed");
}
