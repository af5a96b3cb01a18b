//! Brings a [`Folder`] in line with the files on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{FileName, Folder};
use super::read::{self, MAX_FILE, Outcome, Stamp};

/// A folder on disk and what is known of it.
pub(super) struct Disk {
    pub dir: PathBuf,
    pub folder: Folder,
    /// What each file was like when it was read; files without a stamp are read again at the next scan.
    stamps: BTreeMap<FileName, Stamp>,
}

impl Disk {
    pub fn new(dir: PathBuf, node_name: Arc<str>) -> Self {
        Disk { dir, folder: Folder::new(node_name), stamps: BTreeMap::new() }
    }

    /// Reads one file again.
    pub fn refresh(&mut self, path: &Path) {
        let file: FileName = path.into();
        self.stamps.remove(&file);
        match read::read(path, MAX_FILE) {
            Outcome::Bytes(bytes, stamp) => {
                self.folder.update(&file, &bytes);
                if let Some(stamp) = stamp {
                    self.stamps.insert(file, stamp);
                }
            }
            Outcome::Absent => self.folder.remove(&file),
            Outcome::Failed(message) => self.folder.fail(&file, message),
        }
    }

    /// Finds what changed since the last time: reads the files that are new or look different, except those in `busy`,
    /// which somebody is writing.
    pub fn scan(&mut self, busy: &BTreeSet<PathBuf>) -> io::Result<()> {
        let paths = read::list(&self.dir)?;
        let gone: Vec<FileName> = self
            .folder
            .files()
            .filter(|file| paths.binary_search_by(|path| (**path).cmp(file)).is_err())
            .cloned()
            .collect();
        for file in gone {
            self.stamps.remove(&file);
            self.folder.remove(&file);
        }
        for path in paths.iter().filter(|path| !busy.contains(*path)) {
            let known = self.stamps.get(path.as_path());
            if known.is_none() || known.copied() != Stamp::at(path) {
                self.refresh(path);
            }
        }
        Ok(())
    }
}
