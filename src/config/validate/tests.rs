//! Rows R1 to R102. The texts are those that kube-proxy 1.36 prints.

use super::rules::{cidr_pair, host_port};
use super::*;
use crate::config::{Config, GoDuration, defaults};

const ANYTHING: Subject = Subject::of_field("x");
const PAIR: &str =
    "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]";
const BLOCK: &str = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
const CONNTRACK: &str = "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration";

/// The defaults of the platform, changed; and what is wrong with it.
fn errors(change: impl FnOnce(&mut Config)) -> Vec<String> {
    let mut config = Config::default();
    defaults::platform(&mut config);
    change(&mut config);
    let gates = FeatureGates::new(&config.feature_gates).unwrap();
    let invalid = config.validate(&gates).err();
    invalid.map(|invalid| invalid.errors.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn fine(row: &str, change: impl FnOnce(&mut Config)) {
    assert_eq!(errors(change), Vec::<String>::new(), "{row}");
}

/// Errors below `KubeProxyConfiguration`.
fn bad(row: &str, expected: &[String], change: impl FnOnce(&mut Config)) {
    let expected: Vec<String> = expected.iter().map(|line| format!("KubeProxyConfiguration.{line}")).collect();
    assert_eq!(errors(change), expected, "{row}");
}

fn bad_one(row: &str, expected: &str, change: impl FnOnce(&mut Config)) {
    bad(row, &[expected.to_owned()], change);
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn seconds(seconds: i64) -> GoDuration {
    GoDuration::from_secs(seconds)
}

#[test]
fn r1_to_r9_what_is_right() {
    fine("R1", |c| c.mode = String::new());
    fine("R2", |c| {
        c.mode = "iptables".into();
        c.winkernel.enable_dsr = true;
        c.nftables.masquerade_bit = 99;
        c.ipvs.tcp_timeout = seconds(-1);
        c.ipvs.exclude_cidrs = Some(texts(&["x"]));
    });
    fine("R3", |c| c.healthz_bind_address = String::new());
    fine("R4", |c| {
        c.bind_address = "fd00:192:168:59::2".into();
        c.healthz_bind_address = String::new();
        c.metrics_bind_address = "[::1]:10249".into();
        c.detect_local.cluster_cidrs = texts(&["fd00:192:168:59::/64"]);
    });
    fine("R5", |c| c.healthz_bind_address = "0.0.0.0:12345".into());
    fine("R6", |c| {
        c.bind_address = "10.10.12.11".into();
        c.detect_local.cluster_cidrs = texts(&["fd00:192:168::/64"]);
    });
    fine("R7", |c| c.detect_local.cluster_cidrs = texts(&["192.168.59.0/24", "fd00:192:168::/64"]));
    fine("R8", |c| {
        c.detect_local_mode = "InterfaceNamePrefix".into();
        c.detect_local.interface_name_prefix = "vethabcde".into();
    });
    fine("R9", |c| {
        c.detect_local_mode = "BridgeInterface".into();
        c.detect_local.bridge_interface = "avz".into();
    });
}

#[test]
fn r10_to_r18_general_mistakes() {
    let no_address =
        "BindAddress: Invalid value: \"10.10.12.11:2000\": not a valid textual representation of an IP address";
    bad_one("R10", no_address, |c| c.bind_address = "10.10.12.11:2000".into());
    bad_one("R11", "HealthzBindAddress: Invalid value: \"0.0.0.0\": must be IP:port", |c| {
        c.healthz_bind_address = "0.0.0.0".into();
    });
    bad_one("R12", "MetricsBindAddress: Invalid value: \"127.0.0.1\": must be IP:port", |c| {
        c.metrics_bind_address = "127.0.0.1".into();
    });
    bad_one("R12", "MetricsBindAddress: Invalid value: \"\": must be IP:port", |c| c.metrics_bind_address.clear());
    bad_one("R13", "ConfigSyncPeriod: Invalid value: \"-1s\": must be greater than 0", |c| {
        c.config_sync_period = seconds(-1);
    });
    let not_positive = "SyncPeriod: Invalid value: \"-5s\": must be greater than 0".to_owned();
    let below = |min: &str| {
        format!(
            "SyncPeriod: Invalid value: \"{min}\": must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod"
        )
    };
    bad("R14", &[not_positive, below("1s")], |c| c.sync_period = seconds(-5));
    bad_one("R15", "MinSyncPeriod: Invalid value: \"-2s\": must be greater than or equal to 0", |c| {
        (c.min_sync_period, c.min_sync_period_is_set) = (seconds(-2), true);
    });
    bad_one("R16", &below("5s"), |c| {
        c.sync_period = seconds(1);
        (c.min_sync_period, c.min_sync_period_is_set) = (seconds(5), true);
    });
    bad_one(
        "R17",
        "DetectLocalMode: Unsupported value: \"Guess\": supported values: \"ClusterCIDR\", \"NodeCIDR\", \
         \"BridgeInterface\", \"InterfaceNamePrefix\", \"\"",
        |c| c.detect_local_mode = "Guess".into(),
    );
    assert_eq!(
        errors(|c| c.logging.format = "unsupported format".into()),
        ["logging.format: Invalid value: \"unsupported format\": Unsupported log format"],
        "R18"
    );
}

/// A minimum that nobody set is nobody's mistake: weir has none then.
#[test]
fn a_short_sync_period_alone_is_fine() {
    fine("", |c| c.sync_period = GoDuration::from_nanos(500_000_000));
}

#[test]
fn r19_to_r24_masquerade_bit_and_ipvs_timeouts() {
    fine("R19", |c| c.iptables.masquerade_bit = 5);
    for (row, bit) in [("R20", -10), ("R21", 32)] {
        let range = format!("MasqueradeBit: Invalid value: {bit}: must be within the range [0, 31]");
        bad_one(row, &format!("KubeProxyIPTablesConfiguration.{range}"), |c| c.iptables.masquerade_bit = bit);
        bad_one(row, &format!("KubeProxyNFTablesConfiguration.{range}"), |c| {
            c.mode = "nftables".into();
            c.nftables.masquerade_bit = bit;
        });
    }
    let timeouts = |c: &mut Config, all: [i64; 3]| {
        c.mode = "ipvs".into();
        let [tcp, tcp_fin, udp] = all.map(seconds);
        (c.ipvs.tcp_timeout, c.ipvs.tcp_fin_timeout, c.ipvs.udp_timeout) = (tcp, tcp_fin, udp);
    };
    fine("R22", |c| timeouts(c, [0, 0, 0]));
    fine("R23", |c| timeouts(c, [1, 2, 3]));
    let expected = ["TCPTimeout", "TCPFinTimeout", "UDPTimeout"].map(|name| {
        format!("KubeProxyIPVSConfiguration.{name}: Invalid value: \"-1s\": must be greater than or equal to 0")
    });
    bad("R24", &expected, |c| timeouts(c, [-1, -1, -1]));
}

#[test]
fn r25_to_r34_conntrack_and_oom_score() {
    for (row, timeout) in [("R25", seconds(5)), ("R26", seconds(0))] {
        fine(row, |c| {
            c.conntrack.tcp_established_timeout = timeout;
            c.conntrack.tcp_close_wait_timeout = timeout;
            c.conntrack.udp_timeout = timeout;
            c.conntrack.udp_stream_timeout = timeout;
        });
    }
    fine("R26", |c| (c.conntrack.max_per_core, c.conntrack.min) = (0, 0));
    let negative = |name: &str, value: &str| {
        format!("{CONNTRACK}.{name}: Invalid value: {value}: must be greater than or equal to 0")
    };
    bad_one("R27", &negative("MaxPerCore", "-1"), |c| c.conntrack.max_per_core = -1);
    bad_one("R28", &negative("Min", "-1"), |c| c.conntrack.min = -1);
    let minus = seconds(-5);
    bad_one("R29", &negative("TCPEstablishedTimeout", "\"-5s\""), |c| c.conntrack.tcp_established_timeout = minus);
    bad_one("R30", &negative("TCPCloseWaitTimeout", "\"-5s\""), |c| c.conntrack.tcp_close_wait_timeout = minus);
    bad_one("R31", &negative("UDPTimeout", "\"-5s\""), |c| c.conntrack.udp_timeout = minus);
    bad_one("R32", &negative("UDPStreamTimeout", "\"-5s\""), |c| c.conntrack.udp_stream_timeout = minus);
    for (row, score) in [("R33", -1001), ("R34", 1001)] {
        let expected = format!(
            "KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: {score}: must be within the range [-1000, 1000]"
        );
        bad_one(row, &expected, |c| c.oom_score_adj = score);
    }
}

#[test]
fn r35_to_r43_mode_and_burst() {
    for (row, mode) in [("R35", ""), ("R36", "iptables"), ("R37", "ipvs"), ("R38", "nftables")] {
        fine(row, |c| c.mode = mode.into());
    }
    for (row, mode) in [("R39", "kernelspace"), ("R40", "non-existing")] {
        let expected = format!(
            "Mode.ProxyMode: Invalid value: \"{mode}\": must be iptables, ipvs, nftables or blank (blank means the \
             best-available proxy [currently iptables])"
        );
        bad_one(row, &expected, |c| c.mode = mode.into());
    }
    fine("R41", |c| c.client_connection.burst = 0);
    fine("R42", |c| c.client_connection.burst = 5);
    bad_one("R43", "ClientConnection.Burst: Invalid value: -5: must be greater than or equal to 0", |c| {
        c.client_connection.burst = -5;
    });
}

#[test]
fn r44_to_r51_host_and_port() {
    let found =
        |address: &str| -> Vec<String> { host_port("x", address, ANYTHING).iter().map(ToString::to_string).collect() };
    for (row, address) in [("R44", "0.0.0.0:10256"), ("R45", "127.0.0.1:10256"), ("R46", "10.10.10.10:10256")] {
        assert!(found(address).is_empty(), "{row}");
    }
    assert!(found("[fd00::1]:80").is_empty() && found("010.0.0.1:80").is_empty());
    for (row, address, shown, why) in [
        ("R47", "10.10.10.10", "10.10.10.10", "must be IP:port"),
        ("R48", "123.456.789.10:12345", "123.456.789.10", "must be a valid IP"),
        ("R49", "10.10.10.10:foo", "foo", "must be a valid port"),
        ("R50", "10.10.10.10:0", "0", "must be a valid port"),
        ("R51", "10.10.10.10:65536", "65536", "must be a valid port"),
        ("", "::1", "::1", "must be IP:port"),
        ("", "[::1]", "[::1]", "must be IP:port"),
        ("", "[::1", "[::1", "must be IP:port"),
        ("", ":80", "", "must be a valid IP"),
    ] {
        assert_eq!(found(address), [format!("KubeProxyConfiguration.x: Invalid value: \"{shown}\": {why}")], "{row}");
    }
    assert_eq!(found("a:b").len(), 2);
}

/// Lists of networks: the row, the list, and the indices that are bad.
const LISTS: [(u32, &[&str], &[usize]); 18] = [
    (52, &[], &[]),
    (53, &["127.0.0.0/8"], &[]),
    (54, &["0.0.0.0/0"], &[]),
    (55, &["::/0"], &[]),
    (56, &["127.0.0.1/32", "1.2.3.0/24"], &[]),
    (57, &["127.0.0.1/32"], &[]),
    (58, &["::1/128"], &[]),
    (59, &["1.2.3.4/32"], &[]),
    (60, &["10.20.30.0/24"], &[]),
    (61, &["10.20.0.0/16", "100.200.0.0/16"], &[]),
    (62, &["10.0.0.0/8"], &[]),
    (63, &["2001:db8::/32"], &[]),
    (65, &["foo"], &[0]),
    (66, &["10.0.0.0/0", "1.2.3"], &[1]),
    (67, &["127.0.0.1/32", "0", "1.2.3.0/24"], &[1]),
    (68, &["127.0.0.1/32", "10.20.30.40", "1.2.3.0/24"], &[1]),
    (69, &["::0", "::1", "2001:db8::/32"], &[0, 1]),
    (70, &["::1/128", "2001:db8::/32", "2001:db8:xyz/64"], &[2]),
];

fn bad_at(path: &str, list: &[&str], indices: &[usize]) -> Vec<String> {
    let line = |index: &usize| format!("{path}[{index}]: Invalid value: \"{}\": must be a valid CIDR", list[*index]);
    indices.iter().map(line).collect()
}

#[test]
fn r52_to_r72_node_port_addresses() {
    for (row, list, indices) in LISTS {
        let expected = bad_at("NodePortAddresses", list, indices);
        bad(&format!("R{row}"), &expected, |c| c.node_port_addresses = Some(texts(list)));
    }
    fine("R64", |c| c.node_port_addresses = Some(texts(&["primary"])));
    for (row, list, index) in [("R71", ["primary", "127.0.0.1/32"], 0), ("R72", ["127.0.0.1/32", "primary"], 1)] {
        let expected =
            format!("NodePortAddresses[{index}]: Invalid value: \"primary\": can't use both 'primary' and CIDRs");
        bad_one(row, &expected, |c| c.node_port_addresses = Some(texts(&list)));
    }
}

#[test]
fn r73_to_r90_exclude_cidrs() {
    for (at, (_, list, indices)) in LISTS.into_iter().enumerate() {
        let expected = bad_at("KubeProxyIPVSConfiguration.ExcludeCidrs", list, indices);
        bad(&format!("R{}", 73 + at), &expected, |c| {
            c.mode = "ipvs".into();
            c.ipvs.exclude_cidrs = Some(texts(list));
        });
    }
}

#[test]
fn r91_to_r96_detect_local() {
    let base = "DetectLocalConfiguration";
    for (row, mode, name) in
        [("R91", "InterfaceNamePrefix", "InterfacePrefix"), ("R92", "BridgeInterface", "InterfaceName")]
    {
        let expected = format!("{base}.{name}: Invalid value: \"\": must not be empty");
        bad_one(row, &expected, |c| c.detect_local_mode = mode.into());
    }
    for cidrs in [&["10.0.0.0/14"][..], &["2002:0:0:1234::/64"], &["10.0.0.0/14", "2002:0:0:1234::/64"]] {
        fine("R93", |c| c.detect_local.cluster_cidrs = texts(cidrs));
    }
    let three = ["10.0.0.0/14", "10.1.0.0/14", "2002::/64"];
    bad_one(
        "R94",
        &format!("{base}.ClusterCIDRs: Invalid value: [\"10.0.0.0/14\",\"10.1.0.0/14\",\"2002::/64\"]: {PAIR}"),
        |c| c.detect_local.cluster_cidrs = texts(&three),
    );
    bad_one("R95", &format!("{base}.ClusterCIDRs[0]: Invalid value: \"192.168.59.0\": {BLOCK}"), |c| {
        c.detect_local.cluster_cidrs = texts(&["192.168.59.0"]);
    });
    fine("R96", |c| c.detect_local.cluster_cidrs.clear());
    fine("another mode", |c| {
        c.detect_local_mode = "NodeCIDR".into();
        c.detect_local.cluster_cidrs = texts(&["x"]);
    });
}

#[test]
fn r97_to_r102_pairs() {
    let found = |cidrs: &[&str]| -> Vec<String> {
        cidr_pair("x", &texts(cidrs), ANYTHING).iter().map(ToString::to_string).collect()
    };
    assert_eq!(found(&[]), ["x: Invalid value: []: must contain at least one CIDR"], "R97");
    for cidrs in [&["192.168.59.0/24"][..], &["fd00:10:96::/64"], &["fd00:10:96::/64", "172.16.200.0/24"]] {
        assert!(found(cidrs).is_empty(), "R98");
    }
    let three = ["172.16.200.0/24", "172.16.201.0/24", "fd00::/64"];
    let shown = "[\"172.16.200.0/24\",\"172.16.201.0/24\",\"fd00::/64\"]";
    assert_eq!(found(&three), [format!("x: Invalid value: {shown}: {PAIR}")], "R99");
    let shown = "[\"fd00::/64\",\"fd01::/64\"]";
    assert_eq!(found(&["fd00::/64", "fd01::/64"]), [format!("x: Invalid value: {shown}: {PAIR}")], "R100");
    let shown = "x[1]: Invalid value: \"172.16.200.0:24\"";
    assert_eq!(found(&["fd00::/64", "172.16.200.0:24"]), [format!("{shown}: {BLOCK}")], "R101");
    let shown = "x[0]: Invalid value: \"fd00:10:96::\"";
    assert_eq!(found(&["fd00:10:96::", "192.168.59.0/24"]), [format!("{shown}: {BLOCK}")], "R102");
}

#[test]
fn hidden_metrics_are_those_of_the_previous_version() {
    fine("", |c| c.show_hidden_metrics_for_version = "1.35".into());
    bad_one(
        "",
        "ShowHiddenMetricsForVersion: Invalid value: \"1.20\": invalid showHiddenMetricsForVersion: \
         showHiddenMetricsForVersion: Invalid value: \"1.20\": must be omitted or have the value '1.35'; only the previous \
         minor version is allowed",
        |c| c.show_hidden_metrics_for_version = "1.20".into(),
    );
}

#[test]
fn logs_are_looked_at_first_and_alone() {
    let logging = |change: fn(&mut Config)| {
        errors(|c| {
            c.oom_score_adj = 5000;
            change(c);
        })
    };
    let item = |pattern: &str, verbosity| crate::config::VmoduleItem { file_pattern: pattern.into(), verbosity };
    assert_eq!(
        logging(|c| c.logging.flush_frequency.duration = GoDuration::ZERO),
        ["logging.flushFrequency: Invalid value: \"0s\": Must be greater than zero"]
    );
    assert_eq!(
        logging(|c| c.logging.verbosity = 4_000_000_000),
        ["logging.verbosity: Invalid value: 4000000000: Must be <= 2147483647"]
    );
    let vmodule = errors(|c| {
        c.logging.format = "json".into();
        c.logging.vmodule = vec![item("", 3), item("a=", 4_000_000_000)];
    });
    assert_eq!(
        vmodule,
        [
            "logging.vmodule: Forbidden: Only supported for text log format",
            "logging.vmodule[0]: Required value: File pattern must not be empty",
            "logging.vmodule[1]: Invalid value: \"a=\": File pattern must not contain equal sign or comma",
            "logging.vmodule[1]: Invalid value: 4000000000: Must be <= 2147483647",
        ]
    );
    assert_eq!(
        logging(|c| {
            c.logging.text.split_stream = true;
            c.logging.json.info_buffer_size = "5Ki".parse().unwrap();
        }),
        [
            "logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled",
            "logging.options.json.infoBufferSize: Forbidden: Feature LoggingAlphaOptions is disabled",
        ]
    );
    fine("", |c| {
        c.feature_gates.insert("LoggingAlphaOptions".into(), true);
        c.logging.text.split_stream = true;
    });
    let disabled = errors(|c| {
        c.feature_gates.insert("LoggingBetaOptions".into(), false);
        c.logging.format = "json".into();
    });
    assert_eq!(disabled, ["logging.format: Forbidden: Log format json is disabled, see LoggingBetaOptions feature"]);
}

#[test]
fn several_errors_are_one_in_brackets_and_each_names_what_to_look_at() {
    let mut config = Config { oom_score_adj: 5000, mode: "x".into(), ..Config::default() };
    config.nftables.masquerade_bit = 77;
    let invalid = config.validate(&FeatureGates::default()).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "failed validate: [KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 5000: must be \
         within the range [-1000, 1000], KubeProxyConfiguration.Mode.ProxyMode: Invalid value: \"x\": must be iptables, \
         ipvs, nftables or blank (blank means the best-available proxy [currently iptables])]"
    );
    assert_eq!(
        (invalid.flags(), invalid.fields()),
        (vec!["--oom-score-adj", "--proxy-mode"], vec!["mode", "oomScoreAdj"])
    );
    config.mode = "nftables".into();
    config.oom_score_adj = 0;
    let invalid = config.validate(&FeatureGates::default()).unwrap_err();
    assert!(invalid.flags().is_empty() && invalid.fields() == ["nftables.masqueradeBit"]);
    assert_eq!(aggregate(["a", "a"].into_iter().map(str::to_owned)), "a");
}
