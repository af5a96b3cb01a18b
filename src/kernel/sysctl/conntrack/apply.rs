//! Reading and writing the files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::decide::{ConntrackAction, ConntrackDecision, Parameter, decide};
use super::{ConntrackSettings, cpus};
use crate::kernel::sysctl::Pins;

/// A parameter could not be written. One line, with the remedy; it begins as kube-proxy's does.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not set conntrack parameters from kube-proxy configuration: cannot write {value} to {}, which is {}: {error}; {}",
    file.display(),
    before.map_or_else(|| "unknown".to_owned(), |before| before.to_string()),
    remedy(*parameter, *value, error)
)]
pub struct ConntrackError {
    pub parameter: Parameter,
    pub file: PathBuf,
    pub before: Option<u64>,
    pub value: u64,
    pub error: io::Error,
}

fn remedy(parameter: Parameter, value: u64, error: &io::Error) -> String {
    let (setting, flag) = parameter.setting();
    let by_hand =
        format!("set it on the node (echo {value} > /{}), or leave it alone with {flag} ({setting})", parameter.path());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => format!("it is read-only here: run as a privileged container, or {by_hand}"),
        Some(Errno::EACCES | Errno::EPERM | Errno::EOPNOTSUPP) if is_global(parameter) => format!(
            "only root in the host's own network namespace may change it: run there (Kubernetes: hostNetwork and \
             privileged), or {by_hand}"
        ),
        Some(Errno::EACCES | Errno::EPERM) => format!("run as root, in the initial user namespace, or {by_hand}"),
        Some(Errno::ENOENT) => format!("load the module (modprobe nf_conntrack), or {by_hand}"),
        _ => by_hand,
    }
}

/// Whether one value counts for all network namespaces, so that the others can only read it.
fn is_global(parameter: Parameter) -> bool {
    matches!(parameter, Parameter::Max | Parameter::HashSize)
}

/// Connection tracking of the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct Conntrack {
    root: PathBuf,
}

impl Default for Conntrack {
    fn default() -> Self {
        Conntrack::below(Path::new("/"))
    }
}

impl Conntrack {
    /// That of another root, such as a test's.
    pub fn below(root: &Path) -> Self {
        Conntrack { root: root.to_owned() }
    }

    /// Decides by what is there now. Changes nothing.
    pub fn decide(&self, settings: &ConntrackSettings, pins: &Pins) -> Vec<ConntrackDecision> {
        decide(settings, cpus(&self.root), |parameter| self.read(parameter), pins)
    }

    /// Writes what differs, and logs each change once, with the old and the new value.
    ///
    /// # Errors
    /// The first parameter that cannot be written. Those before it have their new values, those after it the old ones.
    pub fn apply(&self, decisions: &[ConntrackDecision]) -> Result<(), ConntrackError> {
        decisions.iter().try_for_each(|decision| self.apply_one(decision))
    }

    /// Both.
    ///
    /// # Errors
    /// See [`Conntrack::apply`].
    pub fn settle(&self, settings: &ConntrackSettings, pins: &Pins) -> Result<(), ConntrackError> {
        self.apply(&self.decide(settings, pins))
    }

    /// What cannot be read, or is no number, is not known: writing it will tell.
    fn read(&self, parameter: Parameter) -> Option<u64> {
        let read = |path: &str| fs::read_to_string(self.root.join(path)).ok()?.trim().parse().ok();
        read(parameter.read_path()).or_else(|| read(parameter.path()))
    }

    fn apply_one(&self, decision: &ConntrackDecision) -> Result<(), ConntrackError> {
        let &ConntrackDecision { parameter, before, ref action } = decision;
        let file = Path::new("/").join(parameter.path());
        let (file, why) = (file.display(), parameter.why());
        match action {
            &ConntrackAction::Write { value, ref against } => {
                self.write(parameter, before, value)?;
                tracing::info!(%file, old = before, new = value, why, "changed a kernel parameter");
                if let Some(pin) = against {
                    let (setting, flag) = parameter.setting();
                    tracing::warn!(
                        %file,
                        new = value,
                        "{setting} counts, though the parameter is set {pin}: {flag} leaves it alone"
                    );
                }
            }
            ConntrackAction::Larger { wanted } if parameter == Parameter::Max => {
                tracing::info!(%file, value = before, wanted, "left a kernel parameter: more than is asked for");
            }
            ConntrackAction::Pinned { wanted } => {
                tracing::warn!(%file, value = before, wanted, why, "left a kernel parameter, which is pinned by name");
            }
            ConntrackAction::AsWanted | ConntrackAction::Larger { .. } => {
                tracing::debug!(%file, value = before, why, "left a kernel parameter");
            }
        }
        Ok(())
    }

    fn write(&self, parameter: Parameter, before: Option<u64>, value: u64) -> Result<(), ConntrackError> {
        let file = self.root.join(parameter.path());
        // Never creates a file: there is none to create in these file systems.
        let opened = OpenOptions::new().write(true).truncate(true).open(&file);
        let written = opened.and_then(|mut open| open.write_all(value.to_string().as_bytes()));
        written.map_err(|error| ConntrackError { parameter, file, before, value, error })
    }
}
