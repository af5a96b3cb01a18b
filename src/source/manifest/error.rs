//! What can go wrong with a folder of manifests.

use std::io;
use std::path::PathBuf;

use crate::text::Place;

/// A folder that cannot be read or followed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read the manifest folder {}: {source}; name a folder that exists and can be read", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("cannot watch the manifest folder {}: {source}{remedy}", dir.display())]
    Watch { dir: PathBuf, source: io::Error, remedy: &'static str },
    #[error("cannot start the thread that follows the manifest folder {}: {source}", dir.display())]
    Thread { dir: PathBuf, source: io::Error },
}

impl ManifestError {
    pub(super) fn watch(dir: PathBuf, source: io::Error) -> Self {
        let remedy = match source.raw_os_error() {
            Some(libc::EMFILE) => "; raise the sysctl fs.inotify.max_user_instances or the limit on open files",
            Some(libc::ENOSPC) => "; raise the sysctl fs.inotify.max_user_watches",
            _ => "",
        };
        ManifestError::Watch { dir, source, remedy }
    }
}

/// A file that cannot be used as it is. What it held before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", file.display(), place.map_or_else(String::new, |place| format!(":{place}")))]
pub struct FileError {
    pub file: PathBuf,
    /// Where in the file, if the mistake has a place.
    pub place: Option<Place>,
    pub message: String,
}
