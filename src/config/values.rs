//! Every flag with its value, as kube-proxy logs them at start and shows them at `/flagz` (contract 1.1, step 6).

use super::{Completion, Config, Flags, GoDuration, defaults};

impl Completion {
    /// Names without dashes, sorted, each with its value in Go's form. Where nothing was typed it is the default. With a
    /// file the values are still those of the command line.
    pub fn flag_values(&self, flags: &Flags) -> Vec<(&'static str, String)> {
        let mut values = Vec::new();
        values.extend(general(flags, &self.flags));
        values.extend(rules(flags, &self.flags));
        values.extend(periods(flags));
        values.extend(kernel(&self.flags));
        values.extend(logs(flags, &self.flags));
        values.sort_unstable_by_key(|(name, _)| *name);
        values
    }
}

fn list(values: &Option<Vec<String>>) -> String {
    format!("[{}]", values.as_deref().unwrap_or_default().join(","))
}

fn or_default<T: ToString>(value: &Option<T>, default: &str) -> String {
    value.as_ref().map_or_else(|| default.to_owned(), ToString::to_string)
}

fn general(flags: &Flags, config: &Config) -> Vec<(&'static str, String)> {
    let gates: Vec<String> = config.feature_gates.iter().map(|(name, open)| format!("{name}={open}")).collect();
    let client = &config.client_connection;
    vec![
        ("config", or_default(&flags.config.file, "")),
        ("write-config-to", or_default(&flags.config.write_config_to, "")),
        ("cleanup", or_default(&flags.config.cleanup, "false")),
        ("init-only", or_default(&flags.config.init_only, "false")),
        ("feature-gates", gates.join(",")),
        ("kubeconfig", client.kubeconfig.clone()),
        ("master", or_default(&flags.client.master, "")),
        ("kube-api-content-type", client.content_type.clone()),
        ("kube-api-burst", client.burst.to_string()),
        ("kube-api-qps", client.qps.to_string()),
        ("config-sync-period", config.config_sync_period.to_string()),
        ("hostname-override", or_default(&flags.node.hostname_override, "")),
        ("bind-address", config.bind_address.clone()),
        ("healthz-bind-address", config.healthz_bind_address.clone()),
        ("metrics-bind-address", config.metrics_bind_address.clone()),
        ("bind-address-hard-fail", config.bind_address_hard_fail.to_string()),
        ("profiling", config.enable_profiling.to_string()),
        ("show-hidden-metrics-for-version", config.show_hidden_metrics_for_version.clone()),
        ("healthz-port", or_default(&flags.endpoints.healthz_port, &defaults::HEALTHZ_PORT.to_string())),
        ("metrics-port", or_default(&flags.endpoints.metrics_port, &defaults::METRICS_PORT.to_string())),
        ("oom-score-adj", config.oom_score_adj.to_string()),
        ("boot-id-file", or_default(&flags.process.boot_id_file, "/proc/sys/kernel/random/boot_id")),
        ("machine-id-file", or_default(&flags.process.machine_id_file, "/etc/machine-id,/var/lib/dbus/machine-id")),
    ]
}

fn rules(flags: &Flags, config: &Config) -> Vec<(&'static str, String)> {
    let ipvs = &config.ipvs;
    vec![
        ("proxy-mode", config.mode.clone()),
        ("cluster-cidr", or_default(&flags.rules.cluster_cidr, "")),
        ("detect-local-mode", config.detect_local_mode.clone()),
        ("pod-bridge-interface", config.detect_local.bridge_interface.clone()),
        ("pod-interface-name-prefix", config.detect_local.interface_name_prefix.clone()),
        ("nodeport-addresses", list(&config.node_port_addresses)),
        ("iptables-localhost-nodeports", config.iptables.localhost_node_ports.to_string()),
        ("iptables-masquerade-bit", config.iptables.masquerade_bit.to_string()),
        ("masquerade-all", config.masquerade_all.to_string()),
        ("ipvs-scheduler", ipvs.scheduler.clone()),
        ("ipvs-exclude-cidrs", list(&ipvs.exclude_cidrs)),
        ("ipvs-strict-arp", ipvs.strict_arp.to_string()),
        ("ipvs-tcp-timeout", ipvs.tcp_timeout.to_string()),
        ("ipvs-tcpfin-timeout", ipvs.tcp_fin_timeout.to_string()),
        ("ipvs-udp-timeout", ipvs.udp_timeout.to_string()),
    ]
}

fn periods(flags: &Flags) -> Vec<(&'static str, String)> {
    let pacing = &flags.pacing;
    let period = |value: Option<GoDuration>, default: GoDuration| value.unwrap_or(default).to_string();
    vec![
        ("iptables-sync-period", period(pacing.iptables_sync_period, defaults::SYNC_PERIOD)),
        ("iptables-min-sync-period", period(pacing.iptables_min_sync_period, defaults::MIN_SYNC_PERIOD)),
        ("ipvs-sync-period", period(pacing.ipvs_sync_period, defaults::SYNC_PERIOD)),
        ("ipvs-min-sync-period", period(pacing.ipvs_min_sync_period, defaults::MIN_SYNC_PERIOD)),
    ]
}

fn kernel(config: &Config) -> Vec<(&'static str, String)> {
    let conntrack = &config.conntrack;
    vec![
        ("conntrack-max-per-core", conntrack.max_per_core.to_string()),
        ("conntrack-min", conntrack.min.to_string()),
        ("conntrack-tcp-timeout-established", conntrack.tcp_established_timeout.to_string()),
        ("conntrack-tcp-timeout-close-wait", conntrack.tcp_close_wait_timeout.to_string()),
        ("conntrack-tcp-be-liberal", conntrack.tcp_be_liberal.to_string()),
        ("conntrack-udp-timeout", conntrack.udp_timeout.to_string()),
        ("conntrack-udp-timeout-stream", conntrack.udp_stream_timeout.to_string()),
    ]
}

fn logs(flags: &Flags, config: &Config) -> Vec<(&'static str, String)> {
    let logging = &config.logging;
    let typed = flags.log.vmodule.iter().flatten().flat_map(|list| &list.0);
    let vmodule: Vec<String> = typed.map(|item| format!("{}={}", item.file_pattern, item.verbosity)).collect();
    vec![
        ("v", logging.verbosity.to_string()),
        ("vmodule", vmodule.join(",")),
        ("logging-format", logging.format.clone()),
        ("log-flush-frequency", logging.flush_frequency.duration.to_string()),
        ("log-text-split-stream", logging.text.split_stream.to_string()),
        ("log-text-info-buffer-size", logging.text.info_buffer_size.to_string()),
        ("log-json-split-stream", logging.json.split_stream.to_string()),
        ("log-json-info-buffer-size", logging.json.info_buffer_size.to_string()),
    ]
}
