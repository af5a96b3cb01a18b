//! Flags, file and defaults together.

use super::{both, of_file, of_flags};
use crate::config::{Config, GoDuration};

fn periods(config: &Config) -> [String; 2] {
    [config.sync_period.to_string(), config.min_sync_period.to_string()]
}

#[test]
fn q1_to_q6_addresses_of_a_file() {
    let rest = "clusterCIDR: 1.2.3.0/24\nconfigSyncPeriod: 15s\n";
    for (row, bind, healthz, metrics) in [
        ("Q1", "0.0.0.0", "1.2.3.4:12345", "2.3.4.5:23456"),
        ("Q2", "9.8.7.6", "1.2.3.4:12345", "2.3.4.5:23456"),
        ("Q3", "\"::\"", "\"[fd00:1::5]:12345\"", "\"[fd00:2::5]:23456\""),
        ("Q4", "\"[::]\"", "\"[fd00:1::5]:12345\"", "\"[fd00:2::5]:23456\""),
        ("Q5", "::0", "\"[fd00:1::5]:12345\"", "\"[fd00:2::5]:23456\""),
    ] {
        let body = format!(
            "mode: iptables\nbindAddress: {bind}\nhealthzBindAddress: {healthz}\nmetricsBindAddress: {metrics}\n{rest}"
        );
        let config = of_file(&body);
        let unquoted = [bind, healthz, metrics].map(|text| text.trim_matches('"'));
        let found = [&config.bind_address, &config.healthz_bind_address, &config.metrics_bind_address];
        assert_eq!(found, unquoted, "{row}");
        assert_eq!(config.detect_local.cluster_cidrs, ["1.2.3.0/24"], "{row}");
        assert_eq!(config.config_sync_period, GoDuration::from_secs(15), "{row}");
        let rest = Config {
            bind_address: config.bind_address.clone(),
            healthz_bind_address: config.healthz_bind_address.clone(),
            metrics_bind_address: config.metrics_bind_address.clone(),
            detect_local: config.detect_local.clone(),
            config_sync_period: config.config_sync_period,
            ..of_file("mode: iptables\n")
        };
        assert_eq!(config, rest, "{row}: everything else is the default");
    }
    let six = of_file(
        "mode: ipvs\nbindAddress: 2001:db8::1\nipvs: {syncPeriod: 60s, minSyncPeriod: 5s}\niptables: {syncPeriod: 7s}\n",
    );
    assert_eq!((six.bind_address.as_str(), periods(&six)), ("2001:db8::1", ["1m0s".into(), "5s".into()]), "Q6");
}

#[test]
fn q12_to_q14_hostname() {
    assert_eq!(of_file("hostnameOverride: foo\n").hostname_override, "foo", "Q12");
    let config = both(&["--hostname-override=  Bar "], Some("hostnameOverride: foo\n")).unwrap().config;
    assert_eq!(config.hostname_override, "bar", "Q13");
    for body in [None, Some("hostnameOverride: foo\n")] {
        let error = both(&["--hostname-override=  "], body).unwrap_err();
        assert!(error.starts_with("empty hostname-override is invalid"), "Q14: {error}");
    }
    assert_eq!(
        both(&["--hostname-override="], Some("hostnameOverride: foo\n")).unwrap().config.hostname_override,
        "foo"
    );
}

#[test]
fn q15_to_q19_periods_belong_to_the_mode() {
    let iptables = ["--iptables-sync-period=36s", "--iptables-min-sync-period=3s"];
    let ipvs = ["--ipvs-sync-period=16s", "--ipvs-min-sync-period=7s"];
    let with = |mode: &'static str, more: &[&'static str]| of_flags(&[&[mode], more].concat());
    let both = [&iptables[..], &ipvs].concat();
    for (row, mode, flags, expected) in [
        ("Q15", "--proxy-mode=iptables", &iptables[..], ["36s", "3s"]),
        ("Q16", "--proxy-mode=iptables", &both, ["36s", "3s"]),
        ("Q17", "--proxy-mode=kernelspace", &iptables, ["36s", "3s"]),
        ("Q17", "--proxy-mode=nftables", &both, ["36s", "3s"]),
        ("Q18", "--proxy-mode=ipvs", &both, ["16s", "7s"]),
        ("Q19", "--proxy-mode=ipvs", &ipvs, ["16s", "7s"]),
        ("", "--proxy-mode=ipvs", &iptables, ["30s", "1s"]),
    ] {
        assert_eq!(periods(&with(mode, flags)), expected, "{row}");
    }
}

/// What weir makes of a minimum that is only kube-proxy's default.
#[test]
fn the_minimum_counts_where_somebody_set_it() {
    let of = |config: Config| config.effective_min_sync_period().to_string();
    assert_eq!(of(of_flags(&[])), "0s");
    assert_eq!(of(of_flags(&["--proxy-mode=ipvs", "--iptables-min-sync-period=1s"])), "0s");
    assert_eq!(of(of_flags(&["--iptables-min-sync-period=1s"])), "1s");
    assert_eq!(of(of_flags(&["--iptables-min-sync-period=0"])), "0s");
    assert_eq!(of(of_file("iptables: {minSyncPeriod: 0s}\n")), "0s");
    assert_eq!(of(of_file("iptables: {minSyncPeriod: 2s}\n")), "2s");
    assert_eq!(of(of_file("mode: ipvs\niptables: {minSyncPeriod: 2s}\n")), "0s");
    // What is shown is kube-proxy's, as long as it is valid.
    let shown =
        |config: &Config| config.to_yaml().lines().find(|line| line.contains("minSync")).unwrap().trim().to_owned();
    assert_eq!(shown(&of_flags(&[])), "minSyncPeriod: 1s");
    assert_eq!(shown(&of_flags(&["--iptables-sync-period=500ms"])), "minSyncPeriod: 500ms");
    assert_eq!(shown(&of_flags(&["--iptables-min-sync-period=0"])), "minSyncPeriod: 0s");
}

#[test]
fn q20_to_q23_flags_and_defaults() {
    assert_eq!(of_flags(&["--cluster-cidr=a,b"]).detect_local.cluster_cidrs, ["a", "b"], "Q20");
    let defaults = of_flags(&[]);
    let platform = Config { mode: "iptables".into(), detect_local_mode: "ClusterCIDR".into(), ..Config::default() };
    assert_eq!(defaults, platform, "Q21");
    let zeros = of_flags(&[
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0s",
    ]);
    let conntrack = zeros.conntrack;
    assert_eq!((conntrack.max_per_core, conntrack.min), (0, 0), "Q22");
    assert!(conntrack.tcp_established_timeout.is_zero() && conntrack.tcp_close_wait_timeout.is_zero(), "Q22");
    assert_eq!(of_file(""), defaults, "Q23");
}

const LOGGING: &str = "ipvs: {scheduler: lc}\nlogging:\n  format: json\n  flushFrequency: 1s\n  verbosity: 10\n  vmodule:\n  \
                       - {filePattern: foo.go, verbosity: 6}\n  - {filePattern: bar.go, verbosity: 8}\n";

fn vmodule(config: &Config) -> Vec<String> {
    config.logging.vmodule.iter().map(|item| format!("{}={}", item.file_pattern, item.verbosity)).collect()
}

#[test]
fn q24_to_q26_logging_of_flags_and_file() {
    let file = of_file(LOGGING);
    assert_eq!((file.logging.format.as_str(), file.logging.verbosity), ("json", 10), "Q24");
    assert_eq!(file.logging.flush_frequency.duration.to_string(), "1s", "Q24");
    assert_eq!(vmodule(&file), ["foo.go=6", "bar.go=8"], "Q24");
    let flags = ["-v=7", "--vmodule", "goo.go=8"];
    let typed = of_flags(&flags);
    assert_eq!((typed.logging.verbosity, vmodule(&typed)), (7, vec!["goo.go=8".to_owned()]), "Q25");
    let flags = [&flags[..], &["--ipvs-scheduler", "x", "--feature-gates=AllAlpha=true", "--masquerade-all"]].concat();
    let both = both(&flags, Some(LOGGING)).unwrap();
    let config = both.config;
    assert_eq!((config.logging.verbosity, config.logging.format.as_str()), (7, "json"), "Q26");
    assert_eq!(vmodule(&config), ["goo.go=8", "foo.go=6", "bar.go=8"], "Q26");
    assert_eq!((config.ipvs.scheduler.as_str(), config.masquerade_all), ("lc", false), "Q26");
    assert!(config.feature_gates.is_empty() && both.flags.masquerade_all);
}

/// A file that names the option without its gate runs with kube-proxy, whose flags overwrite it.
#[test]
fn a_split_stream_in_a_file_does_not_count() {
    let body = "logging: {options: {text: {splitStream: true}, json: {splitStream: true}}}\n";
    let config = of_file(body);
    assert!(!config.logging.text.split_stream && !config.logging.json.split_stream);
    assert!(both(&["--log-text-split-stream"], Some(body)).unwrap().config.logging.text.split_stream);
}

#[test]
fn q27_to_q32_deprecated_ports() {
    for (row, address, port, expected) in [
        ("Q27", "1.2.3.4", "12345", "1.2.3.4:12345"),
        ("Q28", "1.2.3.4:12345", "23456", "1.2.3.4:12345"),
        ("Q29", "fd00:1::5", "12345", "[fd00:1::5]:12345"),
        ("Q30", "[fd00:1::5]:12345", "56789", "[fd00:1::5]:12345"),
        ("Q32", "1.2.3.4", "0", ""),
        ("Q32", "1.2.3.4:12345", "0", ""),
    ] {
        for what in ["healthz", "metrics"] {
            let flags = [format!("--{what}-bind-address={address}"), format!("--{what}-port={port}")];
            let config = of_flags(&flags.each_ref().map(String::as_str));
            let found = if what == "healthz" { config.healthz_bind_address } else { config.metrics_bind_address };
            assert_eq!(found, expected, "{row} {what}");
        }
    }
    // Q31 can only come from a file: the flag takes no brackets without a port.
    assert_eq!(of_file("healthzBindAddress: \"[fd00:1::5]\"\n").healthz_bind_address, "[fd00:1::5]", "Q31");
    assert_eq!(of_flags(&["--metrics-port=9"]).metrics_bind_address, "127.0.0.1:10249", "the default has a port");
    // They are no part of what is written, and beside a file they do not count.
    let written = of_flags(&["--healthz-port=0", "--write-config-to=x"]);
    assert_eq!(written.healthz_bind_address, "0.0.0.0:10256");
    assert_eq!(both(&["--healthz-port=0"], Some("")).unwrap().config.healthz_bind_address, "0.0.0.0:10256");
}

#[test]
fn q33_to_q37_platform_defaults() {
    let modes = |config: Config| [config.mode, config.detect_local_mode];
    for (row, body, expected) in [
        ("Q33", "", ["iptables", "ClusterCIDR"]),
        ("Q34", "mode: ipvs\ndetectLocalMode: NodeCIDR\n", ["ipvs", "NodeCIDR"]),
        ("Q35", "mode: nftables\n", ["nftables", "ClusterCIDR"]),
        ("Q36", "detectLocalMode: BridgeInterface\n", ["iptables", "BridgeInterface"]),
    ] {
        assert_eq!(modes(of_file(body)), expected, "{row}");
    }
    let addresses = |body: &str| of_file(body).node_port_addresses;
    let some = |text: &str| Some(vec![text.to_owned()]);
    assert_eq!(addresses("mode: nftables\n"), some("primary"), "Q37");
    assert_eq!(addresses("mode: nftables\nnodePortAddresses: []\n"), some("primary"), "Q37");
    assert_eq!(addresses("mode: nftables\nnodePortAddresses: [10.0.0.0/8]\n"), some("10.0.0.0/8"), "Q37");
    assert_eq!(addresses("mode: iptables\n"), None, "Q37");
}

#[test]
fn q38_and_q39_address_defaults() {
    for (row, bind, healthz, metrics, expected) in [
        ("Q38", "", "", "", ["0.0.0.0", "0.0.0.0:10256", "127.0.0.1:10249"]),
        ("Q38", "10.0.0.1", "", "", ["10.0.0.1", "0.0.0.0:10256", "127.0.0.1:10249"]),
        ("Q38", "fd00::1", "", "", ["fd00::1", "[::]:10256", "[::1]:10249"]),
        ("Q38", "[::]", "", "", ["[::]", "[::]:10256", "[::1]:10249"]),
        ("Q39", "", "1.2.3.4", "2.3.4.5", ["0.0.0.0", "1.2.3.4:10256", "2.3.4.5:10249"]),
        ("Q39", "", "fd00::1", "fd00::2", ["0.0.0.0", "[fd00::1]:10256", "[fd00::2]:10249"]),
        ("Q39", "", "nonsense", "[::1]", ["0.0.0.0", "nonsense", "[::1]"]),
    ] {
        let body =
            format!("bindAddress: \"{bind}\"\nhealthzBindAddress: \"{healthz}\"\nmetricsBindAddress: \"{metrics}\"\n");
        let config = of_file(&body);
        let found = [config.bind_address, config.healthz_bind_address, config.metrics_bind_address];
        assert_eq!(found, expected, "{row}");
    }
}

#[test]
fn only_zeros_of_pointers_count() {
    let config = of_file(
        "iptables: {syncPeriod: 0s, minSyncPeriod: 0s, masqueradeBit: 0, localhostNodePorts: false}\nconfigSyncPeriod: 0s\n\
         conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}\noomScoreAdj: 0\n\
         clientConnection: {qps: 0, burst: 0}\nlogging: {flushFrequency: 0}\n",
    );
    assert_eq!(periods(&config), ["30s", "1s"]);
    assert_eq!((config.iptables.masquerade_bit, config.iptables.localhost_node_ports), (0, false));
    assert_eq!(config.config_sync_period.to_string(), "15m0s");
    assert_eq!((config.conntrack.max_per_core, config.conntrack.min, config.oom_score_adj), (0, 0, 0));
    assert!(config.conntrack.tcp_established_timeout.is_zero() && config.conntrack.tcp_close_wait_timeout.is_zero());
    assert_eq!((config.client_connection.qps, config.client_connection.burst), (5.0, 10));
    assert_eq!(config.logging.flush_frequency.duration.to_string(), "5s");
}

#[test]
fn lists_grow_and_an_empty_one_is_one() {
    let config = of_flags(&["--nodeport-addresses=1.2.3.0/24,", "--nodeport-addresses", "primary, 4.0.0.0/8"]);
    let expected = ["1.2.3.0/24", "", "primary", "4.0.0.0/8"].map(str::to_owned);
    assert_eq!(config.node_port_addresses, Some(expected.to_vec()));
    assert_eq!(of_flags(&["--nodeport-addresses="]).node_port_addresses, Some(Vec::new()));
    assert_eq!(of_flags(&["--cluster-cidr="]).detect_local.cluster_cidrs, Vec::<String>::new());
    let gates =
        of_flags(&["--feature-gates=AllAlpha=true,AllBeta=f", "--feature-gates", "AllAlpha=false,"]).feature_gates;
    assert_eq!(gates.into_iter().collect::<Vec<_>>(), [("AllAlpha".to_owned(), false), ("AllBeta".to_owned(), false)]);
}
