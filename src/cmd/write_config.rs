//! `--write-config-to`.

use crate::cmd::Failure;
use crate::config::Config;

/// Writes the configuration, and says so.
///
/// # Errors
/// The file cannot be written.
pub fn write(config: &Config, path: &str) -> Result<(), Failure> {
    std::fs::write(path, config.to_yaml()).map_err(|error| {
        Failure::new(format!("cannot write the configuration to {path}: {error}; see --write-config-to"))
    })?;
    tracing::info!(file = path, "Wrote configuration");
    Ok(())
}
