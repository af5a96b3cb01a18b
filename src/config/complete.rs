//! Flags, file and defaults together (contract 1.2).

use super::settings::Config;
use super::{DecodeError, FeatureGates, Flags, GateErrors, GoDuration, List, decode, defaults};

/// A configuration file that was read.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// For messages.
    pub name: &'a str,
    pub text: &'a str,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub config: Config,
    /// What the flags alone say: their values are logged and shown, also where a file counts instead.
    pub flags: Config,
    pub gates: FeatureGates,
    /// A line each: fields of the file that are unknown or there twice, gates that will be gone.
    pub warnings: Vec<String>,
}

/// Why flags and file make no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompleteError {
    #[error("failed to decode {file}:{}{error}", if .error.place.is_some() { "" } else { " " })]
    Decode { file: String, error: DecodeError },
    #[error("empty hostname-override is invalid: --hostname-override {} is no name: give the node's", super::quote(.0))]
    EmptyHostname(String),
    #[error(transparent)]
    Gates(#[from] GateErrors),
}

/// Puts everything together. The result still has to be [validated](Config::validate).
///
/// # Errors
/// A file that is no configuration, a blank `--hostname-override`, gates that cannot be set.
pub fn complete(flags: &Flags, file: Option<File<'_>>) -> Result<Completion, CompleteError> {
    let mut typed = of_flags(flags);
    let writes = flags.config.write_config_to.as_ref().is_some_and(|path| !path.is_empty());
    if file.is_none() && !writes {
        merge_ports(flags, &mut typed);
    }
    let mut warnings = Vec::new();
    let mut config = match file {
        Some(file) => {
            let mut config = of_file(file, &mut warnings)?;
            // kube-proxy's flags overwrite these two, also where they were not typed: a file that sets them without the
            // gate that they need works.
            config.logging.text.split_stream = false;
            config.logging.json.split_stream = false;
            apply_logging(flags, &mut config);
            config
        }
        None => typed.clone(),
    };
    defaults::platform(&mut config);
    defaults::platform(&mut typed);
    if let Some(name) = hostname(flags)? {
        config.hostname_override.clone_from(&name);
        typed.hostname_override = name;
    }
    let gates = FeatureGates::new(&config.feature_gates)?;
    warnings.extend(gates.warnings());
    Ok(Completion { config, flags: typed, gates, warnings })
}

/// The file alone, with defaults.
fn of_file(file: File<'_>, warnings: &mut Vec<String>) -> Result<Config, CompleteError> {
    let (document, doubts) =
        decode(file.text).map_err(|error| CompleteError::Decode { file: file.name.to_owned(), error })?;
    warnings.extend(doubts.into_iter().map(|doubt| format!("{}:{doubt}", file.name)));
    Ok(document.into())
}

/// `--hostname-override`, if it says something.
fn hostname(flags: &Flags) -> Result<Option<String>, CompleteError> {
    let Some(typed) = flags.node.hostname_override.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    match typed.trim() {
        "" => Err(CompleteError::EmptyHostname(typed.to_owned())),
        name => Ok(Some(name.to_lowercase())),
    }
}

/// The flags over the defaults.
fn of_flags(flags: &Flags) -> Config {
    let mut config = Config::default();
    let c = &mut config;
    if let Some(maps) = &flags.gates.feature_gates {
        c.feature_gates = maps.iter().flatten().map(|(name, value)| (name.clone(), *value)).collect();
    }
    set(&mut c.client_connection.kubeconfig, &flags.client.kubeconfig);
    set(&mut c.client_connection.content_type, &flags.client.kube_api_content_type);
    set(&mut c.client_connection.burst, &flags.client.kube_api_burst);
    set(&mut c.client_connection.qps, &flags.client.kube_api_qps);
    set(&mut c.config_sync_period, &flags.client.config_sync_period);
    set(&mut c.bind_address, &given(&flags.node.bind_address));
    set(&mut c.healthz_bind_address, &given(&flags.endpoints.healthz_bind_address));
    set(&mut c.metrics_bind_address, &given(&flags.endpoints.metrics_bind_address));
    set(&mut c.bind_address_hard_fail, &flags.endpoints.bind_address_hard_fail);
    set(&mut c.enable_profiling, &flags.endpoints.profiling);
    set(&mut c.show_hidden_metrics_for_version, &flags.endpoints.show_hidden_metrics_for_version);
    set(&mut c.oom_score_adj, &flags.process.oom_score_adj);
    apply_rules(flags, c);
    apply_ipvs(flags, c);
    apply_conntrack(flags, c);
    apply_periods(flags, c);
    apply_logging(flags, c);
    config
}

fn apply_rules(flags: &Flags, config: &mut Config) {
    let rules = &flags.rules;
    set(&mut config.mode, &rules.proxy_mode);
    set(&mut config.masquerade_all, &rules.masquerade_all);
    set(&mut config.iptables.masquerade_bit, &rules.iptables_masquerade_bit);
    set(&mut config.iptables.localhost_node_ports, &rules.iptables_localhost_nodeports);
    set(&mut config.detect_local_mode, &rules.detect_local_mode);
    set(&mut config.detect_local.bridge_interface, &rules.pod_bridge_interface);
    set(&mut config.detect_local.interface_name_prefix, &rules.pod_interface_name_prefix);
    set(&mut config.node_port_addresses, &joined(&rules.nodeport_addresses).map(Some));
    // kube-proxy makes one empty network of an empty text, and refuses it.
    if let Some(cidrs) = given(&rules.cluster_cidr) {
        config.detect_local.cluster_cidrs = cidrs.split(',').map(|cidr| cidr.trim().to_owned()).collect();
    }
}

fn apply_ipvs(flags: &Flags, config: &mut Config) {
    let (flags, ipvs) = (&flags.ipvs, &mut config.ipvs);
    set(&mut ipvs.scheduler, &flags.scheduler);
    set(&mut ipvs.exclude_cidrs, &joined(&flags.exclude_cidrs).map(Some));
    set(&mut ipvs.strict_arp, &flags.strict_arp);
    set(&mut ipvs.tcp_timeout, &flags.tcp_timeout);
    set(&mut ipvs.tcp_fin_timeout, &flags.tcpfin_timeout);
    set(&mut ipvs.udp_timeout, &flags.udp_timeout);
}

fn apply_conntrack(flags: &Flags, config: &mut Config) {
    let (flags, conntrack) = (&flags.conntrack, &mut config.conntrack);
    set(&mut conntrack.max_per_core, &flags.max_per_core);
    set(&mut conntrack.min, &flags.min);
    set(&mut conntrack.tcp_established_timeout, &flags.tcp_timeout_established);
    set(&mut conntrack.tcp_close_wait_timeout, &flags.tcp_timeout_close_wait);
    set(&mut conntrack.tcp_be_liberal, &flags.tcp_be_liberal);
    set(&mut conntrack.udp_timeout, &flags.udp_timeout);
    set(&mut conntrack.udp_stream_timeout, &flags.udp_timeout_stream);
}

/// The periods that belong to the mode.
fn apply_periods(flags: &Flags, config: &mut Config) {
    let pacing = &flags.pacing;
    let (sync, min) = match config.mode.as_str() {
        "ipvs" => (pacing.ipvs_sync_period, pacing.ipvs_min_sync_period),
        _ => (pacing.iptables_sync_period, pacing.iptables_min_sync_period),
    };
    set(&mut config.sync_period, &sync);
    set(&mut config.min_sync_period, &min);
    config.min_sync_period_is_set = min.is_some();
}

/// The flags of logs, over defaults or over a file. Entries of `--vmodule` come first: the first that fits counts.
fn apply_logging(flags: &Flags, config: &mut Config) {
    let (flags, logging) = (&flags.log, &mut config.logging);
    set(&mut logging.verbosity, &flags.verbosity);
    set(&mut logging.format, &flags.logging_format);
    set(&mut logging.flush_frequency.duration, &flags.log_flush_frequency);
    set(&mut logging.text.split_stream, &flags.log_text_split_stream);
    set(&mut logging.text.info_buffer_size, &flags.log_text_info_buffer_size);
    set(&mut logging.json.split_stream, &flags.log_json_split_stream);
    set(&mut logging.json.info_buffer_size, &flags.log_json_info_buffer_size);
    let typed = flags.vmodule.iter().flatten().flat_map(|list| list.0.iter().cloned());
    logging.vmodule = typed.chain(std::mem::take(&mut logging.vmodule)).collect();
}

/// The deprecated port flags: 0 is no address at all, another one is the port of an address without one.
fn merge_ports(flags: &Flags, config: &mut Config) {
    let merge = |address: &mut String, port: Option<i32>, default: i32| {
        *address = match port.unwrap_or(default) {
            0 => String::new(),
            port => defaults::with_port(address, port),
        };
    };
    merge(&mut config.healthz_bind_address, flags.endpoints.healthz_port, defaults::HEALTHZ_PORT);
    merge(&mut config.metrics_bind_address, flags.endpoints.metrics_port, defaults::METRICS_PORT);
}

fn set<T: Clone>(target: &mut T, typed: &Option<T>) {
    if let Some(value) = typed {
        target.clone_from(value);
    }
}

/// A text that is not empty.
fn given(typed: &Option<String>) -> Option<String> {
    typed.clone().filter(|text| !text.is_empty())
}

/// The elements of all lists.
fn joined(lists: &Option<Vec<List>>) -> Option<Vec<String>> {
    lists.as_ref().map(|lists| lists.iter().flat_map(|list| list.0.iter().cloned()).collect())
}

impl Config {
    /// What the minimum means here: what somebody said, and nothing otherwise.
    pub fn effective_min_sync_period(&self) -> GoDuration {
        if self.min_sync_period_is_set { self.min_sync_period } else { GoDuration::ZERO }
    }
}
