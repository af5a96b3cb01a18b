//! weir's own flags with their values, beside those of kube-proxy.

use clap::ValueEnum;

use super::{ProxyOptions, VersionFlag};
use crate::config::GoDuration;

impl ProxyOptions {
    /// Names without dashes, each with its value in Go's form.
    pub fn own_values(&self) -> Vec<(&'static str, String)> {
        let own = &self.own;
        let manifests = own.manifests.as_ref().map(|dir| dir.display().to_string());
        let kept: Vec<&str> = own.ipvs.keep_sysctls.iter().flat_map(|list| list.0.iter().copied()).collect();
        let egress: Vec<String> = own.egress.non_masquerade_cidrs().map(|net| net.to_string()).collect();
        vec![
            ("manifests", manifests.unwrap_or_default()),
            ("iptables-variant", name(&own.iptables_variant)),
            ("iptables-driver", name(&own.iptables_driver)),
            ("drift-report-only", own.drift_report_only.to_string()),
            ("ipvs-drain-timeout", duration(own.ipvs.drain_timeout)),
            ("ipvs-keep-sysctls", format!("[{}]", kept.join(","))),
            ("masquerade-egress", own.egress.masquerade.to_string()),
            ("non-masquerade-cidrs", format!("[{}]", egress.join(","))),
            ("shutdown-grace-period", duration(own.shutdown_grace_period)),
            ("version", version(self.version.as_ref()).to_owned()),
        ]
    }
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn duration(duration: std::time::Duration) -> String {
    GoDuration::from_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)).to_string()
}

fn version(flag: Option<&VersionFlag>) -> &str {
    match flag {
        None | Some(VersionFlag::Ignore) => "false",
        Some(VersionFlag::Print) => "true",
        Some(VersionFlag::Raw) => "raw",
        Some(VersionFlag::Report(version)) => version,
    }
}
