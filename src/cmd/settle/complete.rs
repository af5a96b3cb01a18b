//! From what was typed to what is done: the file read, everything completed and validated, then brought into the types
//! that the rest of the program uses.
//!
//! [`complete`] does it all; a command that logs on the way takes the steps of [`Completed`]. Both can be done again at any
//! time, and read the file again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::typed;
use crate::cmd::options::{ProxyOptions, RuleOptions, SourceOptions, VersionFlag};
use crate::cmd::{Failure, logging};
use crate::config::{self, Completion, Config, FeatureGates, Invalid};
use crate::engine::{Pacing, RepairMode};

/// What this process is to do, all of it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Everything that kube-proxy's configuration has, as texts; for `/configz` and `--write-config-to`.
    pub config: Config,
    pub gates: FeatureGates,
    pub rules: RuleOptions,
    pub pacing: Pacing,
    pub source: SourceOptions,
    pub node_name: Arc<str>,
    pub endpoints: Endpoints,
    pub conntrack: ConntrackOptions,
    /// -1000 to 1000.
    pub oom_score_adj: i16,
    pub action: Action,
    /// How long health fails before the process ends.
    pub shutdown_grace_period: Duration,
    /// The configuration file, to be followed.
    pub file: Option<PathBuf>,
    /// What to report as the version, if `--version=vX.Y.Z` says so.
    pub version: Option<String>,
    /// Every flag with its value in Go's form, by name; for `/flagz`.
    pub flag_values: Vec<(&'static str, String)>,
    /// A line each.
    pub warnings: Vec<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Serve,
    /// `--cleanup`.
    Cleanup,
    /// `--init-only`.
    InitOnly,
}

/// What is served to who watches this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `None`: no health is served.
    pub healthz: Option<SocketAddr>,
    pub metrics: SocketAddr,
    /// The process ends if an address cannot be had.
    pub hard_fail: bool,
    pub profiling: bool,
    /// Metrics that were hidden one minor version ago are shown.
    pub hidden_metrics: bool,
}

/// Settings of connection tracking (contract 1.4). A timeout of zero leaves the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackOptions {
    /// 0 leaves the limit as it is.
    pub max_per_core: u32,
    pub min: u32,
    pub tcp_established_timeout: Duration,
    pub tcp_close_wait_timeout: Duration,
    pub tcp_be_liberal: bool,
    pub udp_timeout: Duration,
    pub udp_stream_timeout: Duration,
}

/// All steps at once.
///
/// # Errors
/// One line: the file cannot be read or is no configuration, something is not valid, or is something that weir does not
/// have. The name of the host cannot be read.
pub fn complete(options: &ProxyOptions) -> Result<Settled, Failure> {
    Completed::read(options)?.settle()
}

/// What was typed, with file and defaults; not yet validated.
#[derive(Clone, Debug)]
pub struct Completed {
    options: ProxyOptions,
    completion: Completion,
    file: Option<String>,
}

impl Completed {
    /// Reads the file, if there is one, and completes.
    ///
    /// # Errors
    /// One line that begins with `failed complete`.
    pub fn read(options: &ProxyOptions) -> Result<Self, Failure> {
        let file = options.kube_proxy.config.file.clone().filter(|path| !path.is_empty());
        let text = file.as_deref().map(read).transpose()?;
        let given = file.as_deref().zip(text.as_deref()).map(|(name, text)| config::File { name, text });
        let completion = config::complete(&options.kube_proxy, given)
            .map_err(|error| Failure::new(format!("failed complete: {error}")))?;
        Ok(Completed { options: options.clone(), completion, file })
    }

    /// Starts logging, and logs what there is to tell by now: warnings, and with a verbosity of 1 every flag.
    ///
    /// # Errors
    /// Logs cannot be written as asked for.
    pub fn start_logging(&self, loudness: logging::Loudness) -> Result<(), Failure> {
        let Completion { config, gates, warnings, .. } = &self.completion;
        config.validate_logging(gates).map_err(|invalid| self.invalid(&invalid))?;
        logging::start(&config.logging, loudness);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if config.logging.verbosity >= 1 {
            for (name, value) in self.flag_values() {
                tracing::info!("FLAG: --{name}={}", config::quote(&value));
            }
        }
        Ok(())
    }

    /// Everything that is wrong.
    ///
    /// # Errors
    /// One line in kube-proxy's words, with the flags or fields to look at.
    pub fn validate(&self) -> Result<(), Failure> {
        self.completion.config.validate(&self.completion.gates).map_err(|invalid| self.invalid(&invalid))
    }

    /// What was found out so far.
    pub fn config(&self) -> &Config {
        &self.completion.config
    }

    /// Validates, and finds out what it means here.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate); a mode that weir does not have; what weir is stricter about than kube-proxy;
    /// the host has no name.
    pub fn settle(self) -> Result<Settled, Failure> {
        self.validate()?;
        let config = &self.completion.config;
        let rules = typed::rules(config, &self.options.own)?;
        super::check(&rules)?;
        Ok(Settled {
            pacing: self.pacing(),
            source: self.source()?,
            node_name: super::node_name(&config.hostname_override)?,
            endpoints: typed::endpoints(config)?,
            conntrack: typed::conntrack(config),
            oom_score_adj: i16::try_from(config.oom_score_adj).unwrap_or_default(),
            action: self.action(),
            shutdown_grace_period: self.options.own.shutdown_grace_period,
            file: self.file.as_ref().map(PathBuf::from),
            version: match &self.options.version {
                Some(VersionFlag::Report(version)) => Some(version.clone()),
                _ => None,
            },
            flag_values: self.flag_values(),
            warnings: self.completion.warnings,
            gates: self.completion.gates,
            config: self.completion.config,
            rules,
        })
    }

    fn pacing(&self) -> Pacing {
        let config = &self.completion.config;
        let std = |period: config::GoDuration| period.to_std().unwrap_or_default();
        let mut pacing = Pacing::new(std(config.effective_min_sync_period()), std(config.sync_period));
        if self.options.own.drift_report_only {
            pacing.drift = RepairMode::ReportOnly;
        }
        pacing
    }

    /// A folder that was typed counts instead of a kubeconfig that the file names, but not beside one that was typed.
    fn source(&self) -> Result<SourceOptions, Failure> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let manifests = self.options.own.manifests.clone().filter(|dir| !dir.as_os_str().is_empty());
        let written = self.file.is_some() && manifests.is_some();
        let kubeconfig = given(&self.completion.config.client_connection.kubeconfig).filter(|_| !written);
        let master = self.options.kube_proxy.client.master.as_deref().and_then(given);
        let source = SourceOptions { manifests, kubeconfig: kubeconfig.map(PathBuf::from), master };
        source.choice()?;
        Ok(source)
    }

    fn action(&self) -> Action {
        let flags = &self.options.kube_proxy.config;
        match (flags.cleanup, flags.init_only) {
            (Some(true), _) => Action::Cleanup,
            (_, Some(true)) => Action::InitOnly,
            _ => Action::Serve,
        }
    }

    fn flag_values(&self) -> Vec<(&'static str, String)> {
        let mut values = self.completion.flag_values(&self.options.kube_proxy);
        values.extend(self.options.own_values());
        values.sort_unstable_by_key(|(name, _)| *name);
        values
    }

    /// kube-proxy's text, and what to look at.
    fn invalid(&self, invalid: &Invalid) -> Failure {
        let flags: Vec<&str> = invalid
            .errors
            .iter()
            .map(|error| error.subject.flag.unwrap_or(error.subject.field))
            .fold(Vec::new(), |mut seen, flag| {
                if !seen.contains(&flag) {
                    seen.push(flag);
                }
                seen
            });
        let flags = flags.join(", ");
        let look = match &self.file {
            None => flags,
            Some(file) if invalid.is_about_logs => format!("{} in {file}, {flags}", invalid.fields().join(", ")),
            Some(file) => format!("{} in {file}", invalid.fields().join(", ")),
        };
        Failure::new(format!("{invalid}; look at {look}"))
    }
}

/// A configuration is not longer than this, in bytes.
const LONGEST: u64 = 1 << 22;

fn read(path: &str) -> Result<String, Failure> {
    use std::io::Read;
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("failed complete: cannot read the configuration file {path}: {why}; check --config"))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(failed(&format!("it is longer than {LONGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))
}

#[cfg(test)]
#[path = "complete_tests.rs"]
mod tests;
