//! Command lines that are shipped, given to the real program: it reads all of them, and writes the configuration that
//! they make instead of running.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;

use crate::program::{Ran, run, weir};

/// A folder in which the program is called `kube-proxy`.
pub struct Image(TempDir);

impl Image {
    pub fn new() -> Image {
        let folder = tempfile::tempdir().unwrap();
        symlink(env!("CARGO_BIN_EXE_weir"), folder.path().join("kube-proxy")).unwrap();
        Image(folder)
    }

    /// Runs what follows the program's name, with this configuration in place of `config_path`; `Ok` holds the
    /// configuration that comes of it.
    pub fn read(&self, arguments: &[String], config_path: &str, config: &str) -> Result<String, Ran> {
        let (file, written) = (self.0.path().join("config.conf"), self.0.path().join("written"));
        fs::write(&file, config).unwrap();
        let _ = fs::remove_file(&written);
        let mut command = match arguments.first().map(String::as_str) {
            Some("proxy") => weir(&["proxy"]),
            _ => Command::new(self.0.path().join("kube-proxy")),
        };
        let flags = arguments.iter().filter(|argument| *argument != "proxy");
        command.args(flags.map(|flag| flag.replace(config_path, &file.display().to_string())));
        command.arg(format!("--write-config-to={}", written.display()));
        let ran = run(command);
        match fs::read_to_string(written) {
            Ok(text) if ran.code == Some(0) => Ok(text),
            _ => Err(ran),
        }
    }
}

pub const CONFIG: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n";

/// The way of asking can say no.
#[test]
fn an_unknown_flag_is_refused() {
    let image = Image::new();
    for program in [&["proxy".to_owned()][..], &[]] {
        let flags = [program, &["--config=CONFIG".to_owned(), "--no-such-flag".to_owned()]].concat();
        let ran = image.read(&flags, "CONFIG", CONFIG).unwrap_err();
        assert!(ran.code == Some(1) && ran.err.contains("no-such-flag"), "{ran:?}");
    }
}
