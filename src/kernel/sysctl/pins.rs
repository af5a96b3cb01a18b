//! What the admin has decided: names that are to be left alone, and values in the files that are loaded at boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::decide::same;
use super::files::{Setting, parse};
use super::name;

/// Folders of settings, by weight: a file hides those of the same name in later folders (sysctl.d(5)).
const FOLDERS: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];

/// Loaded after all of them.
const LAST: &str = "etc/sysctl.conf";

/// By what a parameter is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It is in the list of names.
    Name,
    /// A file sets it to another value.
    File { path: PathBuf, value: String },
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pin::Name => f.write_str("by name"),
            Pin::File { path, value } => write!(f, "to {value} by {}", path.display()),
        }
    }
}

/// All that is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    names: BTreeSet<String>,
    /// In the order in which they are loaded.
    settings: Vec<(PathBuf, Setting)>,
}

impl Pins {
    /// Pins these names, with dots or slashes, or patterns with `*`: whatever value these have, it stays.
    pub fn by_name<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(|name| name::to_path(name.trim())).collect();
        Pins { names, settings: Vec::new() }
    }

    /// Adds what the files below this root say, `/` for this machine's own. A file that cannot be read is told and
    /// counts for nothing.
    #[must_use]
    pub fn and_files(mut self, root: &Path) -> Self {
        for path in files(root) {
            match fs::read(root.join(&path)) {
                Ok(bytes) => {
                    let settings = parse(&String::from_utf8_lossy(&bytes));
                    let shown = Path::new("/").join(&path);
                    self.settings.extend(settings.into_iter().map(|setting| (shown.clone(), setting)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(
                    file = %root.join(&path).display(),
                    %error,
                    "cannot read it, so what it says about kernel parameters is not respected"
                ),
            }
        }
        self
    }

    /// What keeps this parameter from having the wanted value.
    pub(in crate::kernel::sysctl) fn of(&self, path: &str, wanted: &str) -> Option<Pin> {
        if self.names.iter().any(|pattern| name::matches(pattern, path)) {
            return Some(Pin::Name);
        }
        let (file, value) = self.value_in_files(path)?;
        (!same(value, wanted)).then(|| Pin::File { path: file.to_owned(), value: value.to_owned() })
    }

    /// The value that the files give it: the last of those that name it, else the last of the patterns that match it,
    /// unless it is taken out of these.
    fn value_in_files(&self, path: &str) -> Option<(&Path, &str)> {
        let matching = |setting: &&(PathBuf, Setting)| name::matches(&setting.1.pattern, path);
        let found: Vec<_> = self.settings.iter().filter(matching).collect();
        let exact = found.iter().rev().find(|(_, setting)| setting.is_exact());
        let (file, setting) = exact.or(found.last())?;
        setting.value.as_deref().map(|value| (file.as_path(), value))
    }
}

/// The files in the order in which they are loaded: by name, whatever folder they are in. Relative to the root.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        for entry in entries {
            let path = Path::new(folder).join(entry.file_name());
            if path.extension().is_some_and(|ending| ending == "conf") {
                by_name.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    by_name.into_values().chain([PathBuf::from(LAST)]).collect()
}
