//! Every rule but those about logs, in kube-proxy's order.

use ipnet::IpNet;

use super::ROOT;
use super::error::{FieldError, Subject};
use crate::config::{Config, GoDuration};
use crate::net::{Family, parse_cidr, parse_ip};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

pub(super) fn all(config: &Config) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(masquerade_bit(
        &format!("{ROOT}.KubeProxyIPTablesConfiguration.MasqueradeBit"),
        config.iptables.masquerade_bit,
        Subject::new("--iptables-masquerade-bit", "iptables.masqueradeBit"),
    ));
    match config.mode.as_str() {
        "ipvs" => errors.extend(ipvs(config)),
        "nftables" => errors.extend(masquerade_bit(
            &format!("{ROOT}.KubeProxyNFTablesConfiguration.MasqueradeBit"),
            config.nftables.masquerade_bit,
            Subject::of_field("nftables.masqueradeBit"),
        )),
        _ => {}
    }
    errors.extend(linux(config));
    errors.extend(mode(config));
    if config.client_connection.burst < 0 {
        let subject = Subject::new("--kube-api-burst", "clientConnection.burst");
        let path = format!("{ROOT}.ClientConnection.Burst");
        errors.push(FieldError::invalid(&path, config.client_connection.burst, NOT_NEGATIVE, subject));
    }
    errors.extend(periods(config));
    errors.extend(addresses(config));
    errors.extend(node_port_addresses(config));
    errors.extend(hidden_metrics(config));
    errors.extend(detect_local_mode(config));
    errors.extend(detect_local(config));
    errors
}

fn masquerade_bit(path: &str, bit: i32, subject: Subject) -> Option<FieldError> {
    (!(0..=31).contains(&bit)).then(|| FieldError::invalid(path, bit, "must be within the range [0, 31]", subject))
}

/// Paths below a common one.
fn negatives<'a>(
    base: &'a str,
    timeouts: impl IntoIterator<Item = (&'a str, GoDuration, Subject)>,
) -> impl Iterator<Item = FieldError> {
    timeouts.into_iter().filter(|(_, timeout, _)| timeout.is_negative()).map(move |(name, timeout, subject)| {
        FieldError::invalid(&format!("{ROOT}.{base}.{name}"), timeout, NOT_NEGATIVE, subject)
    })
}

fn ipvs(config: &Config) -> Vec<FieldError> {
    let ipvs = &config.ipvs;
    let base = "KubeProxyIPVSConfiguration";
    let timeouts = [
        ("TCPTimeout", ipvs.tcp_timeout, Subject::new("--ipvs-tcp-timeout", "ipvs.tcpTimeout")),
        ("TCPFinTimeout", ipvs.tcp_fin_timeout, Subject::new("--ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout")),
        ("UDPTimeout", ipvs.udp_timeout, Subject::new("--ipvs-udp-timeout", "ipvs.udpTimeout")),
    ];
    let cidrs = ipvs.exclude_cidrs.iter().flatten().enumerate();
    let bad = cidrs.filter(|(_, cidr)| parse_cidr(cidr).is_none()).map(|(index, cidr)| {
        let path = format!("{ROOT}.{base}.ExcludeCidrs[{index}]");
        let subject = Subject::new("--ipvs-exclude-cidrs", "ipvs.excludeCIDRs");
        FieldError::invalid(&path, cidr.as_str(), "must be a valid CIDR", subject)
    });
    negatives(base, timeouts).chain(bad).collect()
}

fn linux(config: &Config) -> Vec<FieldError> {
    let conntrack = &config.conntrack;
    let base = "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration";
    let limits = [
        ("MaxPerCore", conntrack.max_per_core, Subject::new("--conntrack-max-per-core", "conntrack.maxPerCore")),
        ("Min", conntrack.min, Subject::new("--conntrack-min", "conntrack.min")),
    ];
    let limits = limits.into_iter().filter(|(_, limit, _)| *limit < 0).map(|(name, limit, subject)| {
        FieldError::invalid(&format!("{ROOT}.{base}.{name}"), limit, NOT_NEGATIVE, subject)
    });
    let timeouts = [
        (
            "TCPEstablishedTimeout",
            conntrack.tcp_established_timeout,
            Subject::new("--conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout"),
        ),
        (
            "TCPCloseWaitTimeout",
            conntrack.tcp_close_wait_timeout,
            Subject::new("--conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout"),
        ),
        ("UDPTimeout", conntrack.udp_timeout, Subject::new("--conntrack-udp-timeout", "conntrack.udpTimeout")),
        (
            "UDPStreamTimeout",
            conntrack.udp_stream_timeout,
            Subject::new("--conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout"),
        ),
    ];
    let oom = (!(-1000..=1000).contains(&config.oom_score_adj)).then(|| {
        FieldError::invalid(
            &format!("{ROOT}.KubeProxyLinuxConfiguration.OOMScoreAdj"),
            config.oom_score_adj,
            "must be within the range [-1000, 1000]",
            Subject::new("--oom-score-adj", "oomScoreAdj"),
        )
    });
    limits.chain(negatives(base, timeouts)).chain(oom).collect()
}

fn mode(config: &Config) -> Option<FieldError> {
    (!["", "iptables", "ipvs", "nftables"].contains(&config.mode.as_str())).then(|| {
        FieldError::invalid(
            &format!("{ROOT}.Mode.ProxyMode"),
            config.mode.as_str(),
            "must be iptables, ipvs, nftables or blank (blank means the best-available proxy [currently iptables])",
            Subject::new("--proxy-mode", "mode"),
        )
    })
}

/// The minimum that only kube-proxy has is not held against a sync period.
fn periods(config: &Config) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let [sync, min] = match config.mode.as_str() {
        "ipvs" => [
            Subject::new("--ipvs-sync-period", "ipvs.syncPeriod"),
            Subject::new("--ipvs-min-sync-period", "ipvs.minSyncPeriod"),
        ],
        "nftables" => [
            Subject::new("--iptables-sync-period", "nftables.syncPeriod"),
            Subject::new("--iptables-min-sync-period", "nftables.minSyncPeriod"),
        ],
        _ => [
            Subject::new("--iptables-sync-period", "iptables.syncPeriod"),
            Subject::new("--iptables-min-sync-period", "iptables.minSyncPeriod"),
        ],
    };
    let positive = "must be greater than 0";
    let mut wrong = |name: &str, value: GoDuration, detail: &str, subject| {
        errors.push(FieldError::invalid(&format!("{ROOT}.{name}"), value, detail, subject));
    };
    if config.config_sync_period.nanos() <= 0 {
        let subject = Subject::new("--config-sync-period", "configSyncPeriod");
        wrong("ConfigSyncPeriod", config.config_sync_period, positive, subject);
    }
    if config.sync_period.nanos() <= 0 {
        wrong("SyncPeriod", config.sync_period, positive, sync);
    }
    if config.min_sync_period.is_negative() {
        wrong("MinSyncPeriod", config.min_sync_period, NOT_NEGATIVE, min);
    }
    let is_short = config.min_sync_period > config.sync_period;
    if is_short && (config.min_sync_period_is_set || config.sync_period.nanos() <= 0) {
        let detail = format!("must be greater than or equal to {ROOT}.MinSyncPeriod");
        wrong("SyncPeriod", config.min_sync_period, &detail, sync);
    }
    errors
}

fn addresses(config: &Config) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if parse_ip(&config.bind_address).is_none() {
        errors.push(FieldError::invalid(
            &format!("{ROOT}.BindAddress"),
            config.bind_address.as_str(),
            "not a valid textual representation of an IP address",
            Subject::new("--bind-address", "bindAddress"),
        ));
    }
    if !config.healthz_bind_address.is_empty() {
        let subject = Subject::new("--healthz-bind-address", "healthzBindAddress");
        errors.extend(host_port("HealthzBindAddress", &config.healthz_bind_address, subject));
    }
    let subject = Subject::new("--metrics-bind-address", "metricsBindAddress");
    errors.extend(host_port("MetricsBindAddress", &config.metrics_bind_address, subject));
    errors
}

pub(super) fn host_port(name: &str, address: &str, subject: Subject) -> Vec<FieldError> {
    let path = format!("{ROOT}.{name}");
    let Some((host, port)) = split_host_port(address) else {
        return vec![FieldError::invalid(&path, address, "must be IP:port", subject)];
    };
    let bad_host = parse_ip(host).is_none().then(|| FieldError::invalid(&path, host, "must be a valid IP", subject));
    let is_port = port.parse::<i64>().is_ok_and(|port| (1..=65535).contains(&port));
    let bad_port = (!is_port).then(|| FieldError::invalid(&path, port, "must be a valid port", subject));
    bad_host.into_iter().chain(bad_port).collect()
}

/// `host:port` or `[host]:port`, as Go's `net.SplitHostPort` has it.
pub(crate) fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => address.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
    };
    let is_plain = |text: &str| !text.contains(['[', ']']);
    (is_plain(host) && is_plain(port) && !port.contains(':')).then_some((host, port))
}

fn node_port_addresses(config: &Config) -> Vec<FieldError> {
    let addresses = config.node_port_addresses.as_deref().unwrap_or_default();
    let subject = Subject::new("--nodeport-addresses", "nodePortAddresses");
    let mut errors = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let wrong = |detail| {
            FieldError::invalid(&format!("{ROOT}.NodePortAddresses[{index}]"), address.as_str(), detail, subject)
        };
        if address == "primary" {
            if addresses.len() != 1 {
                errors.push(wrong("can't use both 'primary' and CIDRs"));
            }
            break;
        }
        if parse_cidr(address).is_none() {
            errors.push(wrong("must be a valid CIDR"));
        }
    }
    errors
}

fn hidden_metrics(config: &Config) -> Option<FieldError> {
    let version = config.show_hidden_metrics_for_version.as_str();
    let previous = format!("1.{}", crate::config::KUBE_PROXY_MINOR - 1);
    (!version.is_empty() && version != previous).then(|| {
        let name = "showHiddenMetricsForVersion";
        let detail = format!(
            "invalid {name}: {name}: Invalid value: {}: must be omitted or have the value '{previous}'; only the previous \
             minor version is allowed",
            crate::config::quote(version)
        );
        let subject = Subject::new("--show-hidden-metrics-for-version", name);
        FieldError::invalid(&format!("{ROOT}.ShowHiddenMetricsForVersion"), version, &detail, subject)
    })
}

fn detect_local_mode(config: &Config) -> Option<FieldError> {
    const MODES: [&str; 5] = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", ""];
    let mode = config.detect_local_mode.as_str();
    (!MODES.contains(&mode)).then(|| {
        let subject = Subject::new("--detect-local-mode", "detectLocalMode");
        FieldError::not_supported(&format!("{ROOT}.DetectLocalMode"), mode, &MODES, subject)
    })
}

fn detect_local(config: &Config) -> Vec<FieldError> {
    let detect = &config.detect_local;
    let base = format!("{ROOT}.DetectLocalConfiguration");
    let empty = |name: &str, value: &str, subject| {
        let error = || FieldError::invalid(&format!("{base}.{name}"), value, "must not be empty", subject);
        value.is_empty().then(error).into_iter().collect()
    };
    match config.detect_local_mode.as_str() {
        "BridgeInterface" => empty(
            "InterfaceName",
            &detect.bridge_interface,
            Subject::new("--pod-bridge-interface", "detectLocal.bridgeInterface"),
        ),
        "InterfaceNamePrefix" => empty(
            "InterfacePrefix",
            &detect.interface_name_prefix,
            Subject::new("--pod-interface-name-prefix", "detectLocal.interfaceNamePrefix"),
        ),
        "ClusterCIDR" if !detect.cluster_cidrs.is_empty() => cidr_pair(
            &format!("{base}.ClusterCIDRs"),
            &detect.cluster_cidrs,
            Subject::new("--cluster-cidr", "clusterCIDR"),
        ),
        _ => Vec::new(),
    }
}

/// One network, or one of each family.
pub(super) fn cidr_pair(path: &str, cidrs: &[String], subject: Subject) -> Vec<FieldError> {
    // The bracket is not closed in kube-proxy's text either.
    const PAIR: &str = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, \
                        fde4:8dba:82e1::/48]";
    const ONE: &str = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
    match cidrs.len() {
        0 => return vec![FieldError::invalid(path, cidrs, "must contain at least one CIDR", subject)],
        1 | 2 => {}
        _ => return vec![FieldError::invalid(path, cidrs, PAIR, subject)],
    }
    let nets: Vec<Option<IpNet>> = cidrs.iter().map(|cidr| parse_cidr(cidr)).collect();
    let bad = cidrs.iter().zip(&nets).enumerate().filter(|(_, (_, net))| net.is_none());
    let mut errors: Vec<FieldError> = bad
        .map(|(index, (cidr, _))| FieldError::invalid(&format!("{path}[{index}]"), cidr.as_str(), ONE, subject))
        .collect();
    if let [Some(a), Some(b)] = nets.as_slice()
        && Family::of_net(a) == Family::of_net(b)
    {
        errors.push(FieldError::invalid(path, cidrs, PAIR, subject));
    }
    errors
}
