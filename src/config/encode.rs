//! A [`Config`] written back as v1alpha1 (contract 1.4).
//!
//! Only the mode's own section carries the periods; others show zero. `featureGates`, `windowsRunAsService` and
//! `logging.vmodule` are left out where they are empty.

use super::GoDuration;
use super::document::{API_VERSION, KIND};
use super::emit::Tree;
use super::settings::{Config, LogOptions, Logging};

impl Config {
    /// What `--write-config-to` writes: keys sorted, as kube-proxy does.
    pub fn to_yaml(&self) -> String {
        self.tree().to_yaml()
    }

    /// The same as JSON, on one line.
    pub fn to_json(&self) -> String {
        self.tree().to_json()
    }

    /// What kube-proxy serves at `/configz`: one key with the configuration.
    pub fn to_configz(&self) -> String {
        Tree::Map(vec![("kubeproxy.config.k8s.io".into(), self.tree())]).to_json()
    }

    fn tree(&self) -> Tree {
        let gates = self.feature_gates.iter().map(|(name, open)| (name.clone().into(), (*open).into()));
        let gates: Vec<_> = gates.collect();
        let mut fields = vec![("kind", KIND.into()), ("apiVersion", API_VERSION.into())];
        if !gates.is_empty() {
            fields.push(("featureGates", Tree::Map(gates)));
        }
        fields.extend([
            ("clientConnection", self.client_connection()),
            ("logging", logging(&self.logging)),
            ("hostnameOverride", text(&self.hostname_override)),
            ("bindAddress", text(&self.bind_address)),
            ("healthzBindAddress", text(&self.healthz_bind_address)),
            ("metricsBindAddress", text(&self.metrics_bind_address)),
            ("bindAddressHardFail", self.bind_address_hard_fail.into()),
            ("enableProfiling", self.enable_profiling.into()),
            ("showHiddenMetricsForVersion", text(&self.show_hidden_metrics_for_version)),
            ("mode", text(&self.mode)),
            ("iptables", self.iptables_section()),
            ("ipvs", self.ipvs_section()),
            ("nftables", self.nftables_section()),
            ("winkernel", self.winkernel()),
            ("detectLocalMode", text(&self.detect_local_mode)),
            ("detectLocal", self.detect_local_section()),
            ("clusterCIDR", Tree::Text(self.detect_local.cluster_cidrs.join(","))),
            ("nodePortAddresses", texts(&self.node_port_addresses)),
            ("oomScoreAdj", self.oom_score_adj.into()),
            ("conntrack", self.conntrack_section()),
            ("configSyncPeriod", duration(self.config_sync_period)),
            // Not kept by kube-proxy either.
            ("portRange", text("")),
        ]);
        if self.windows_run_as_service {
            fields.push(("windowsRunAsService", true.into()));
        }
        map(fields)
    }

    fn client_connection(&self) -> Tree {
        let client = &self.client_connection;
        map(vec![
            ("kubeconfig", text(&client.kubeconfig)),
            ("acceptContentTypes", text(&client.accept_content_types)),
            ("contentType", text(&client.content_type)),
            ("qps", Tree::Float(client.qps)),
            ("burst", client.burst.into()),
        ])
    }

    /// The periods as a section shows them.
    fn periods(&self, is_active: bool) -> [(&'static str, Tree); 2] {
        let shown = |period| duration(if is_active { period } else { GoDuration::ZERO });
        [("syncPeriod", shown(self.sync_period)), ("minSyncPeriod", shown(self.shown_min_sync_period()))]
    }

    /// kube-proxy's default, but never more than the sync period, with which it would not be valid.
    fn shown_min_sync_period(&self) -> GoDuration {
        if self.min_sync_period_is_set { self.min_sync_period } else { self.min_sync_period.min(self.sync_period) }
    }

    fn iptables_section(&self) -> Tree {
        let is_nftables = self.mode == "nftables";
        let fields = vec![
            ("masqueradeBit", self.iptables.masquerade_bit.into()),
            ("masqueradeAll", (self.masquerade_all && !is_nftables).into()),
            ("localhostNodePorts", self.iptables.localhost_node_ports.into()),
        ];
        map(fields.into_iter().chain(self.periods(!is_nftables && self.mode != "ipvs")).collect())
    }

    fn ipvs_section(&self) -> Tree {
        let fields = self.periods(self.mode == "ipvs").into_iter().chain([
            ("scheduler", text(&self.ipvs.scheduler)),
            ("excludeCIDRs", texts(&self.ipvs.exclude_cidrs)),
            ("strictARP", self.ipvs.strict_arp.into()),
            ("tcpTimeout", duration(self.ipvs.tcp_timeout)),
            ("tcpFinTimeout", duration(self.ipvs.tcp_fin_timeout)),
            ("udpTimeout", duration(self.ipvs.udp_timeout)),
        ]);
        map(fields.collect())
    }

    fn nftables_section(&self) -> Tree {
        let is_nftables = self.mode == "nftables";
        let fields = vec![
            ("masqueradeBit", self.nftables.masquerade_bit.into()),
            ("masqueradeAll", (self.masquerade_all && is_nftables).into()),
        ];
        map(fields.into_iter().chain(self.periods(is_nftables)).collect())
    }

    fn winkernel(&self) -> Tree {
        let winkernel = &self.winkernel;
        map(vec![
            ("networkName", text(&winkernel.network_name)),
            ("sourceVip", text(&winkernel.source_vip)),
            ("enableDSR", winkernel.enable_dsr.into()),
            ("rootHnsEndpointName", text(&winkernel.root_hns_endpoint_name)),
            ("forwardHealthCheckVip", winkernel.forward_health_check_vip.into()),
        ])
    }

    fn detect_local_section(&self) -> Tree {
        map(vec![
            ("bridgeInterface", text(&self.detect_local.bridge_interface)),
            ("interfaceNamePrefix", text(&self.detect_local.interface_name_prefix)),
        ])
    }

    fn conntrack_section(&self) -> Tree {
        let conntrack = &self.conntrack;
        map(vec![
            ("maxPerCore", conntrack.max_per_core.into()),
            ("min", conntrack.min.into()),
            ("tcpEstablishedTimeout", duration(conntrack.tcp_established_timeout)),
            ("tcpCloseWaitTimeout", duration(conntrack.tcp_close_wait_timeout)),
            ("tcpBeLiberal", conntrack.tcp_be_liberal.into()),
            ("udpTimeout", duration(conntrack.udp_timeout)),
            ("udpStreamTimeout", duration(conntrack.udp_stream_timeout)),
        ])
    }
}

fn logging(logging: &Logging) -> Tree {
    let flush = logging.flush_frequency;
    let flush = if flush.is_text { duration(flush.duration) } else { Tree::Integer(flush.duration.nanos()) };
    let options = |options: &LogOptions| {
        let split = options.split_stream.then(|| ("splitStream", true.into()));
        let size = ("infoBufferSize", Tree::Text(options.info_buffer_size.to_string()));
        map(split.into_iter().chain([size]).collect())
    };
    let items = logging.vmodule.iter().map(|item| {
        map(vec![("filePattern", text(&item.file_pattern)), ("verbosity", Tree::Integer(item.verbosity.into()))])
    });
    let mut fields = vec![
        ("format", text(&logging.format)),
        ("flushFrequency", flush),
        ("verbosity", Tree::Integer(logging.verbosity.into())),
    ];
    if !logging.vmodule.is_empty() {
        fields.push(("vmodule", Tree::List(items.collect())));
    }
    fields.push(("options", map(vec![("text", options(&logging.text)), ("json", options(&logging.json))])));
    map(fields)
}

fn map(fields: Vec<(&'static str, Tree)>) -> Tree {
    Tree::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

fn texts(list: &Option<Vec<String>>) -> Tree {
    list.as_ref().map_or(Tree::Null, |list| Tree::List(list.iter().map(|item| text(item)).collect()))
}

fn duration(duration: GoDuration) -> Tree {
    Tree::Text(duration.to_string())
}
