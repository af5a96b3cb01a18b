//! Whatever anybody could write.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::HEAD;
use crate::config::document::FlushFrequency;
use crate::config::{
    ClientConnection, Config, Conntrack, DetectLocal, FeatureGates, GoDuration, Iptables, Ipvs, LogOptions, Logging,
    Nftables, VmoduleItem, Winkernel, decode,
};

/// Texts, among them those that look like something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,12}",
        2 => "[-+0-9.:_xeETZo]{1,10}",
        2 => prop::sample::select(vec!["", "yes", "No", "null", "~", "true", "0x1f", "010", "1_000", ".inf", "<<", "- a", "#", "a: b"])
            .prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

/// Names of gates: any but the key that merges maps.
fn gate() -> impl Strategy<Value = String> {
    name().prop_filter("no merge", |text| text != "<<")
}

fn name() -> impl Strategy<Value = String> {
    text().prop_filter("not empty", |text| !text.is_empty())
}

/// What is not taken for an address without a port.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![Just("1.2.3.4:80".to_owned()), Just("[::1]:80".to_owned()), name().prop_map(|text| format!("{text}!"))]
}

fn duration() -> impl Strategy<Value = GoDuration> {
    any::<i64>().prop_map(GoDuration::from_nanos)
}

fn nonzero() -> impl Strategy<Value = GoDuration> {
    duration().prop_filter("not zero", |duration| !duration.is_zero())
}

fn list() -> impl Strategy<Value = Option<Vec<String>>> {
    proptest::option::of(vec(text(), 0..3))
}

fn log_options() -> impl Strategy<Value = LogOptions> {
    let size = prop::sample::select(vec!["0", "1500", "2Mi", "1k", "1e3", "5Gi"]);
    (any::<bool>(), size)
        .prop_map(|(split_stream, size)| LogOptions { split_stream, info_buffer_size: size.parse().unwrap() })
}

fn logging() -> impl Strategy<Value = Logging> {
    let flush = (nonzero(), any::<bool>()).prop_map(|(duration, is_text)| FlushFrequency { duration, is_text });
    let item = (text(), any::<u32>()).prop_map(|(file_pattern, verbosity)| VmoduleItem { file_pattern, verbosity });
    (name(), flush, any::<u32>(), vec(item, 0..3), log_options(), log_options()).prop_map(
        |(format, flush_frequency, verbosity, vmodule, text, json)| Logging {
            format,
            flush_frequency,
            verbosity,
            vmodule,
            text,
            json,
        },
    )
}

fn client_connection() -> impl Strategy<Value = ClientConnection> {
    let qps = any::<f32>().prop_filter("counts", |qps| qps.is_finite() && *qps != 0.0);
    (text(), text(), name(), qps, any::<i32>().prop_filter("counts", |burst| *burst != 0)).prop_map(
        |(kubeconfig, accept_content_types, content_type, qps, burst)| ClientConnection {
            kubeconfig,
            accept_content_types,
            content_type,
            qps,
            burst,
        },
    )
}

fn ipvs() -> impl Strategy<Value = Ipvs> {
    (text(), list(), any::<bool>(), duration(), duration(), duration()).prop_map(
        |(scheduler, exclude_cidrs, strict_arp, tcp_timeout, tcp_fin_timeout, udp_timeout)| Ipvs {
            scheduler,
            exclude_cidrs,
            strict_arp,
            tcp_timeout,
            tcp_fin_timeout,
            udp_timeout,
        },
    )
}

fn conntrack() -> impl Strategy<Value = Conntrack> {
    (any::<[i32; 2]>(), duration(), duration(), any::<bool>(), duration(), duration()).prop_map(
        |([max_per_core, min], tcp_established_timeout, tcp_close_wait_timeout, tcp_be_liberal, udp, stream)| {
            Conntrack {
                max_per_core,
                min,
                tcp_established_timeout,
                tcp_close_wait_timeout,
                tcp_be_liberal,
                udp_timeout: udp,
                udp_stream_timeout: stream,
            }
        },
    )
}

fn winkernel() -> impl Strategy<Value = Winkernel> {
    (text(), text(), text(), any::<[bool; 2]>()).prop_map(
        |(network_name, source_vip, root_hns_endpoint_name, [enable_dsr, forward_health_check_vip])| Winkernel {
            network_name,
            source_vip,
            enable_dsr,
            root_hns_endpoint_name,
            forward_health_check_vip,
        },
    )
}

fn detect_local() -> impl Strategy<Value = DetectLocal> {
    let cidr = name().prop_map(|text| text.replace(',', ";"));
    (text(), text(), vec(cidr, 0..3)).prop_map(|(bridge_interface, interface_name_prefix, cluster_cidrs)| DetectLocal {
        bridge_interface,
        interface_name_prefix,
        cluster_cidrs,
    })
}

fn mode() -> impl Strategy<Value = String> {
    prop_oneof![Just("iptables".to_owned()), Just("ipvs".to_owned()), Just("nftables".to_owned()), text()]
}

prop_compose! {
    /// Any configuration that a file can say: what would be replaced by a default is not in it.
    fn any_config()(
        (feature_gates, client_connection, logging, ipvs) in (btree_map(gate(), any::<bool>(), 0..3), client_connection(), logging(), ipvs()),
        (hostname_override, bind_address, mode, detect_local_mode, shown) in (text(), name(), mode(), text(), text()),
        (healthz_bind_address, metrics_bind_address, node_port_addresses) in (address(), address(), list()),
        (sync_period, min_sync_period, config_sync_period) in (nonzero(), nonzero(), nonzero()),
        (winkernel, detect_local, conntrack) in (winkernel(), detect_local(), conntrack()),
        [hard_fail, profiling, masquerade_all, localhost_node_ports, windows_run_as_service] in any::<[bool; 5]>(),
        [bit, nft_bit, oom_score_adj] in any::<[i32; 3]>(),
    ) -> Config {
        Config {
            feature_gates,
            client_connection,
            logging,
            hostname_override,
            bind_address,
            healthz_bind_address,
            metrics_bind_address,
            bind_address_hard_fail: hard_fail,
            enable_profiling: profiling,
            show_hidden_metrics_for_version: shown,
            mode,
            sync_period,
            min_sync_period,
            min_sync_period_is_set: true,
            masquerade_all,
            iptables: Iptables { masquerade_bit: bit, localhost_node_ports },
            ipvs,
            nftables: Nftables { masquerade_bit: nft_bit },
            winkernel,
            detect_local_mode,
            detect_local,
            node_port_addresses,
            oom_score_adj,
            conntrack,
            config_sync_period,
            windows_run_as_service,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(config in any_config()) {
        for text in [config.to_yaml(), config.to_json()] {
            let (document, warnings) = decode(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(warnings, Vec::<String>::new(), "{}", text);
            prop_assert_eq!(Config::from(document), config.clone(), "{}", text);
        }
    }

    #[test]
    fn anything_is_valid_or_not(config in any_config()) {
        if let Err(invalid) = config.validate(&FeatureGates::default()) {
            prop_assert!(!invalid.errors.is_empty() && !invalid.to_string().contains('\n'));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}(\n\\PC{0,40}){0,4}", json: bool) {
        let _ = decode(&text);
        let _ = decode(&if json { format!("{{\"kind\": {text}") } else { format!("{HEAD}{text}") });
    }

    /// A good file with something else in the middle.
    #[test]
    fn a_file_with_a_hole_is_read_or_refused(at in 0usize..2000, length in 0usize..40, other in "[-{}\\[\\]:,&*!a-z0-9 \n\"']{0,12}") {
        let text = include_str!("golden/ipvs-flags.yaml");
        let mut bytes = text.as_bytes().to_vec();
        let start = at.min(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, other.bytes());
        if let Ok((document, _)) = decode(&String::from_utf8_lossy(&bytes)) {
            let _ = Config::from(document).validate(&FeatureGates::default());
        }
    }

    #[test]
    fn any_flag_is_taken_or_refused(flag in 0usize..64, value in text()) {
        let command = super::catalogue();
        let names: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect();
        let name = &names[flag % names.len()];
        let _ = command.try_get_matches_from([format!("--{name}={value}")]);
    }
}
