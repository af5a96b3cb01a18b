//! Reading one file, and listing a folder.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// Changes within this time of a read may leave the same time stamps behind; the kernel's clock for them is coarse.
const STAMP_DOUBT: Duration = Duration::from_secs(1);

/// Whether a file of this name is read: `.yaml`, `.yml` or `.json`, and not hidden.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().first() == Some(&b'.');
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The manifests of a folder, by name.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if is_manifest(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// What tells that a file was changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The stamp of what a path leads to; `None` if it leads nowhere.
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// Whether the file was still when the stamp was taken: a later change will show in its stamp.
    fn is_settled(&self) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(changed) + STAMP_DOUBT < now
    }
}

/// What became of an attempt to read a file.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The bytes, and the stamp if it can be trusted to show later changes.
    Bytes(Vec<u8>, Option<Stamp>),
    /// There is no such file, or it is a folder.
    Absent,
    /// It is there and cannot be read.
    Failed(String),
}

/// Reads a file of at most `limit` bytes; symbolic links are followed.
pub(super) fn read(path: &Path, limit: u64) -> Outcome {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return without_target(path),
        Err(error) => return Outcome::Failed(format!("cannot read it: {error}")),
    };
    if metadata.is_dir() {
        return Outcome::Absent;
    }
    if !metadata.is_file() {
        return Outcome::Failed("expected a regular file, found a pipe, socket or device".to_owned());
    }
    match read_regular(path, limit) {
        Ok(outcome) => outcome,
        Err(error) if error.kind() == io::ErrorKind::NotFound => without_target(path),
        Err(error) => Outcome::Failed(format!("cannot read it: {error}")),
    }
}

/// No file is reached: either there is none, or a link points to nothing.
fn without_target(path: &Path) -> Outcome {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            let target = std::fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
            Outcome::Failed(format!("cannot read it: the symbolic link leads to {target}, which does not exist"))
        }
        _ => Outcome::Absent,
    }
}

fn read_regular(path: &Path, limit: u64) -> io::Result<Outcome> {
    // If it has become a pipe meanwhile, opening must not wait for a writer.
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let too_large =
        || Outcome::Failed(format!("larger than {limit} bytes, which is the most that is read: split the file"));
    if stamp.size > limit {
        return Ok(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Ok(too_large());
    }
    Ok(Outcome::Bytes(bytes, stamp.is_settled().then_some(stamp)))
}
