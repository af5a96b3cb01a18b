//! IPVS mode: its flags checked, and the settings that its plan reads.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cmd::Failure;
use crate::cmd::options::{IpvsOptions, ProxyMode, RuleOptions};
use crate::model::IpvsSettings;
use crate::state::Tuning;

/// The kernel counts timeouts in ticks, of which a second has up to a thousand, in 31 bits (`ip_vs_set_timeout` of Linux).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(i32::MAX as u64 / 1000);

/// Flags of the mode, where it is the one (contract 1.6).
///
/// # Errors
/// One line that names the flag and the value.
pub(super) fn check(rules: &RuleOptions) -> Result<(), Failure> {
    if rules.proxy_mode != ProxyMode::Ipvs {
        return Ok(());
    }
    let options = &rules.ipvs;
    for (flag, timeout) in [
        ("--ipvs-tcp-timeout", options.tcp_timeout),
        ("--ipvs-tcpfin-timeout", options.tcpfin_timeout),
        ("--ipvs-udp-timeout", options.udp_timeout),
    ] {
        let fits = timeout.is_zero() || (Duration::from_secs(1)..=LONGEST_TIMEOUT).contains(&timeout);
        if !fits {
            return Err(Failure::new(format!(
                "{flag} {timeout:?}: the kernel keeps 1s to {LONGEST_TIMEOUT:?}: give as much, or 0 to leave what it has"
            )));
        }
    }
    let longest = Duration::from_secs(Tuning::MAX_DRAIN_SECONDS.into());
    if options.drain_timeout > longest {
        let hours = longest.as_secs() / 3600;
        return Err(Failure::new(format!(
            "--ipvs-drain-timeout {:?}: must be at most {hours}h, which is a year",
            options.drain_timeout
        )));
    }
    Ok(())
}

/// What the plan reads.
pub(super) fn settings(options: &IpvsOptions) -> IpvsSettings {
    let mut exclude_cidrs: Vec<_> = options.exclude_cidrs().collect();
    exclude_cidrs.sort();
    exclude_cidrs.dedup();
    IpvsSettings {
        scheduler: options.scheduler.as_str().into(),
        drain_seconds: drain_seconds(options.drain_timeout),
        exclude_cidrs: exclude_cidrs.into(),
        // The backend finds out.
        missing_schedulers: BTreeSet::new(),
    }
}

/// Whole seconds, up: half a second is not the 0 that cuts connections at once.
fn drain_seconds(timeout: Duration) -> u32 {
    let up = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
    u32::try_from(up).unwrap_or(u32::MAX).min(Tuning::MAX_DRAIN_SECONDS)
}

#[cfg(test)]
#[path = "ipvs_tests.rs"]
mod tests;
