//! Programs that stand before the real iptables in `PATH`: they note what is written, and fail as told.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::program::{installed, path_with, script};

/// A folder with wrappers around the restore tools of one variant.
pub struct Tools {
    folder: TempDir,
}

impl Tools {
    /// Wrappers that only take notes. Looks (`--test`, `--version`) go to the real tool unseen.
    pub fn noting(variant: &str) -> Tools {
        Tools::failing(variant, "")
    }

    /// Wrappers that run `shell` before the real tool. It finds the input in the file `$input`, files of its own in
    /// `$folder`, the real tool in `$real`, and may exit.
    pub fn failing(variant: &str, shell: &str) -> Tools {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        for family in ["iptables", "ip6tables"] {
            let name = format!("{family}-{variant}-restore");
            let real = installed(&name).unwrap();
            let real = real.display();
            let text = format!(
                "folder={path}; real={real}; tool={family}\n\
                 case \"$*\" in *--version*|*--test*) exec $real \"$@\";; esac\n\
                 input=$(mktemp $folder/input.XXXXXX); cat >$input\n\
                 {shell}\n\
                 cat $input >>$folder/written\n\
                 exec $real \"$@\" <$input"
            );
            script(folder.path(), &name, &text);
        }
        Tools { folder }
    }

    pub fn path(&self) -> OsString {
        path_with(self.folder.path())
    }

    /// Makes a command find these tools, and use them where it could do without.
    pub fn given_to(&self, mut command: Command) -> Command {
        command.arg("--iptables-driver=restore").env("PATH", self.path());
        command
    }

    /// All that was given to the real tools, and forgets it.
    pub fn written(&self) -> String {
        let file = self.file("written");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        text
    }

    /// A file that the shell text looks at.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
