//! The services of the demo, as YAML, and the folder that weir follows.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Failure, failure};

/// File names and contents.
const FILES: [(&str, &str); 7] = [
    ("node.yaml", include_str!("manifests/node.yaml")),
    ("web.yaml", include_str!("manifests/web.yaml")),
    ("shop.yaml", include_str!("manifests/shop.yaml")),
    ("mirror.yaml", include_str!("manifests/mirror.yaml")),
    ("local.yaml", include_str!("manifests/local.yaml")),
    ("empty.yaml", include_str!("manifests/empty.yaml")),
    (ROLLING, include_str!("manifests/rolling.yaml")),
];

/// The file that is rewritten, and what it says then.
const ROLLING: &str = "rolling.yaml";
const ROLLED: &str = include_str!("manifests/rolling-after.yaml");

/// A folder of manifests.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Writes all files. In a sandbox, /run is a file system of this process's own, in memory: the folder goes away
    /// with it, however the process ends.
    pub fn below(parent: &Path) -> Result<Folder, Failure> {
        let path = parent.join("weir-demo");
        fs::create_dir(&path)
            .map_err(|error| failure(format!("cannot make the folder {}: {error}", path.display())))?;
        let folder = Folder { path };
        for (name, content) in FILES {
            folder.write(name, content)?;
        }
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        FILES.len()
    }

    /// The roll-out, as tools write files: beside, then renamed into place.
    pub fn roll(&self) -> Result<(), Failure> {
        self.write(".rolling.new", ROLLED)?;
        fs::rename(self.path.join(".rolling.new"), self.path.join(ROLLING))
            .map_err(|error| failure(format!("cannot replace {}: {error}", self.path.join(ROLLING).display())))
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.path.join(name);
        fs::write(&path, content).map_err(|error| failure(format!("cannot write {}: {error}", path.display())))
    }
}
