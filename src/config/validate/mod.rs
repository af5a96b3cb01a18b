//! What is wrong with a configuration, all of it, in the words of kube-proxy 1.36 (contract 1.6).

mod error;
mod logging;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

pub(super) use error::aggregate;
pub use error::{FieldError, Subject};
pub(super) use rules::split_host_port;

use super::{Config, FeatureGates};

/// What all paths begin with.
const ROOT: &str = "KubeProxyConfiguration";

/// Why a configuration is not used. The text is kube-proxy's, with what to look at after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// How logs are written is checked first, and alone: everything else would be logged.
    pub is_about_logs: bool,
    /// At least one.
    pub errors: Vec<FieldError>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_about_logs { "initialize logging: " } else { "failed validate: " })?;
        f.write_str(&aggregate(self.errors.iter().map(ToString::to_string)))
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    /// The flags that these errors are about, each once; of what has no flag, nothing.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags: Vec<_> = self.errors.iter().filter_map(|error| error.subject.flag).collect();
        flags.sort_unstable();
        flags.dedup();
        flags
    }

    /// The fields of the file that these errors are about, each once.
    pub fn fields(&self) -> Vec<&'static str> {
        let mut fields: Vec<_> = self.errors.iter().map(|error| error.subject.field).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

impl Config {
    /// Looks at everything. `gates` are those of this configuration.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn validate(&self, gates: &FeatureGates) -> Result<(), Invalid> {
        self.validate_logging(gates)?;
        match rules::all(self) {
            errors if errors.is_empty() => Ok(()),
            errors => Err(Invalid { is_about_logs: false, errors }),
        }
    }

    /// Looks at how logs are written, which counts before all else.
    ///
    /// # Errors
    /// All that is wrong about it.
    pub fn validate_logging(&self, gates: &FeatureGates) -> Result<(), Invalid> {
        match logging::all(&self.logging, gates) {
            errors if errors.is_empty() => Ok(()),
            errors => Err(Invalid { is_about_logs: true, errors }),
        }
    }
}
