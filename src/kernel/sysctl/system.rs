//! Reading and writing below `/proc/sys`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::name::dotted;
use super::{Action, Decision, KernelVersion, Pins, Wanted, decide};

/// A kernel parameter could not be read or written. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    #[error("cannot read {}: {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("cannot write {value} to {}: {error}; {}", file.display(), remedy(error, name, value))]
    Write { file: PathBuf, name: String, value: &'static str, error: io::Error },
    #[error(
        "{} is not there, and is needed: {why}; load the module ip_vs, and run in the initial user namespace, which \
         alone has this parameter",
        file.display()
    )]
    Missing { file: PathBuf, why: &'static str },
    #[error("{}: {release:?} is no version of a kernel", file.display())]
    Version { file: PathBuf, release: String },
}

fn remedy(error: &io::Error, name: &str, value: &str) -> String {
    let by_hand = format!("set it on the node (sysctl -w {}={value})", dotted(name));
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => format!("/proc/sys is read-only here: run as a privileged container, or {by_hand}"),
        Some(Errno::EACCES | Errno::EPERM) => format!("run as root, in the initial user namespace, or {by_hand}"),
        _ => by_hand,
    }
}

/// The parameters of the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct Sysctls {
    folder: PathBuf,
}

impl Default for Sysctls {
    fn default() -> Self {
        Sysctls::below(Path::new("/"))
    }
}

impl Sysctls {
    /// Those below another root, such as a test's.
    pub fn below(root: &Path) -> Self {
        Sysctls { folder: root.join("proc/sys") }
    }

    /// The version of the kernel.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub fn kernel_version(&self) -> Result<KernelVersion, SysctlError> {
        let file = self.folder.join("kernel/osrelease");
        let release = fs::read_to_string(&file);
        let release = release.map_err(|error| SysctlError::Read { file: file.clone(), error })?;
        KernelVersion::parse(&release).ok_or(SysctlError::Version { file, release })
    }

    /// The value of a parameter, without space around it; `None` if the kernel does not have it.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Box<str>>, SysctlError> {
        let file = self.folder.join(name);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text.trim().into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SysctlError::Read { file, error }),
        }
    }

    /// Decides on every parameter, by the values that are there now.
    ///
    /// # Errors
    /// As for [`Sysctls::read`].
    pub fn decide(&self, wanted: &[Wanted], pins: &Pins) -> Result<Vec<Decision>, SysctlError> {
        let mut values = Vec::with_capacity(wanted.len());
        for one in wanted {
            values.push((one.name, self.read(one.name)?));
        }
        let current = |name: &str| values.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
        Ok(decide(wanted, current, pins))
    }

    /// Carries out decisions and logs each that changes something, or that leaves something as it should not be.
    ///
    /// # Errors
    /// The first parameter that is needed and cannot be written. Those before it have their new values.
    pub fn apply(&self, decisions: &[Decision]) -> Result<(), SysctlError> {
        decisions.iter().try_for_each(|decision| self.apply_one(decision))
    }

    fn apply_one(&self, decision: &Decision) -> Result<(), SysctlError> {
        let Decision { name, before, action, why } = decision;
        let sysctl = dotted(name);
        let old = before.as_deref().unwrap_or_default();
        match action {
            Action::Write(value) => {
                self.write(name, value)?;
                tracing::info!(sysctl, old, new = value, why, "changed a kernel parameter");
            }
            Action::Pinned { wanted, by } => {
                tracing::warn!(sysctl, value = old, wanted, pinned = %by, why, "left a kernel parameter as the admin wants it");
            }
            Action::Missing { required: true } => {
                return Err(SysctlError::Missing { file: self.folder.join(name), why });
            }
            Action::Missing { required: false } => {
                tracing::info!(sysctl, why, "this kernel does not have the parameter");
            }
            Action::AsWanted | Action::Leave => tracing::debug!(sysctl, value = old, why, "left a kernel parameter"),
        }
        Ok(())
    }

    fn write(&self, name: &str, value: &'static str) -> Result<(), SysctlError> {
        let file = self.folder.join(name);
        // Never creates a file: there is none to create below /proc/sys.
        let opened = OpenOptions::new().write(true).truncate(true).open(&file);
        let written = opened.and_then(|mut open| open.write_all(value.as_bytes()));
        written.map_err(|error| SysctlError::Write { file, name: name.to_owned(), value, error })
    }
}
