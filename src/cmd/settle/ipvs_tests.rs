use crate::cmd::settle::HostFacts;

use super::*;
use crate::cmd::options::Timeouts;
use crate::cmd::settle;
use crate::cmd::settle::testing::rules;
use crate::model::{NodePortAddresses, Settings};
use crate::net::Family;

fn settings(flags: &[&str]) -> IpvsSettings {
    super::settings(&rules(flags).ipvs)
}

#[test]
fn nothing_typed_is_the_default() {
    let (typed, default) = (rules(&[]).ipvs, IpvsOptions::default());
    assert_eq!(format!("{typed:?}"), format!("{default:?}"));
    assert_eq!(settings(&[]), IpvsSettings::default());
    assert_eq!(default.timeouts(), None);
    assert_eq!(default.kept_sysctls().count(), 0);
}

#[test]
fn flags_become_settings() {
    let found = settings(&[
        "--ipvs-scheduler=wlc",
        "--ipvs-drain-timeout=1m30s",
        "--ipvs-exclude-cidrs=fd00::/64,10.2.0.0/16",
        "--ipvs-exclude-cidrs",
        "10.1.0.9/16, 10.2.0.0/16",
    ]);
    let nets = ["10.1.0.0/16", "10.2.0.0/16", "fd00::/64"].map(|net| net.parse().unwrap());
    let expected = IpvsSettings {
        scheduler: "wlc".into(),
        drain_seconds: 90,
        exclude_cidrs: nets.into(),
        ..IpvsSettings::default()
    };
    assert_eq!(found, expected);
    let drain = |text: &str| settings(&[&format!("--ipvs-drain-timeout={text}")]).drain_seconds;
    assert_eq!([drain("0"), drain("1ns"), drain("1s"), drain("1001ms")], [0, 1, 1, 2]);
}

#[test]
fn what_the_kernel_is_told_once() {
    let flags = ["--ipvs-udp-timeout=5m", "--ipvs_tcpfin_timeout=90s"].map(|flag| flag.replace('_', "-"));
    let options = rules(&flags.each_ref().map(String::as_str)).ipvs;
    assert_eq!(options.timeouts(), Some(Timeouts { tcp: 0, tcp_fin: 90, udp: 300 }));
    let options = rules(&["--ipvs-keep-sysctls=net/ipv4/ip_forward, net.ipv4.vs.conn_reuse_mode"]).ipvs;
    let mut kept: Vec<&str> = options.kept_sysctls().collect();
    kept.sort_unstable();
    assert_eq!(kept, ["net.ipv4.ip_forward", "net.ipv4.vs.conn_reuse_mode"]);
}

#[test]
fn flags_are_checked_in_their_mode() {
    let bad = [
        "--ipvs-tcp-timeout=999ms",
        "--ipvs-tcpfin-timeout=597h",
        "--ipvs-udp-timeout=1ms",
        "--ipvs-drain-timeout=9000h",
    ];
    for flag in bad {
        assert!(check(&rules(&[flag])).is_ok(), "{flag}");
        let line = check(&rules(&["--proxy-mode=ipvs", flag])).unwrap_err().to_string();
        assert!(line.starts_with(flag.split('=').next().unwrap()) && !line.contains('\n'), "{line}");
    }
    for flag in
        ["--ipvs-tcp-timeout=1s", "--ipvs-udp-timeout=596h", "--ipvs-drain-timeout=8760h", "--ipvs-drain-timeout=0"]
    {
        assert!(check(&rules(&["--proxy-mode=ipvs", flag])).is_ok(), "{flag}");
    }
}

/// An address that comes or goes is for IPVS mode alone; anything else matters in every mode.
#[test]
fn which_settings_matter() {
    let (old, mut new) = (Settings::default(), Settings::default());
    new.local_addresses.v4 = ["192.168.0.2".parse().unwrap()].into();
    let (iptables, ipvs) = (rules(&[]), rules(&["--proxy-mode=ipvs"]));
    assert!(!settle::matters(&iptables, &old, &new) && settle::matters(&ipvs, &old, &new));
    assert!(!settle::matters(&ipvs, &new, &new));
    new.masquerade_all = true;
    assert!(settle::matters(&iptables, &old, &new) && settle::matters(&ipvs, &old, &new));
}

/// Row E25: node ports are never on loopback in IPVS mode.
#[test]
fn e25_no_loopback_in_ipvs_mode() {
    let addresses = ["127.0.0.1/8", "192.168.0.2/24", "::1/128"].map(|net| net.parse().unwrap()).into();
    let host = HostFacts { addresses, ..HostFacts::default() };
    let of = |flags: &[&str]| -> Settings { settle::settings(&rules(flags), None, &host) };
    let all = "--nodeport-addresses=127.0.0.0/8,192.168.0.0/16,::1/128";
    let iptables = of(&[all]);
    assert!(iptables.localhost_node_ports(Family::V4));
    let ipvs = of(&["--proxy-mode=ipvs", all]);
    assert!(!ipvs.localhost_node_ports(Family::V4) && !ipvs.localhost_node_ports(Family::V6));
    let only = |text: &[&str]| NodePortAddresses::Only(text.iter().map(|ip| ip.parse().unwrap()).collect());
    assert_eq!(iptables.node_port_addresses.v4, only(&["127.0.0.1", "192.168.0.2"]));
    assert_eq!((ipvs.node_port_addresses.v4, ipvs.node_port_addresses.v6), (only(&["192.168.0.2"]), only(&[])));
    assert_eq!(*ipvs.local_addresses.v4, ["192.168.0.2".parse::<std::net::IpAddr>().unwrap()]);
}
