//! This process, as the kernel weighs it against others.

use std::fs;
use std::io;
use std::path::Path;

/// Below the root: how eagerly the kernel ends this process where memory runs out (proc(5)).
const OOM_SCORE_ADJ: &str = "proc/self/oom_score_adj";

/// Sets how eagerly the kernel ends this process where memory runs out, from -1000 (never) to 1000. A failure is logged
/// at debug level and changes nothing: the proxy serves without it (contract 1.7).
pub fn set_oom_score_adj(value: i32) {
    match write_below(Path::new("/"), value) {
        Ok(None) => {}
        Ok(Some(old)) => tracing::debug!(old, new = value, "changed oom_score_adj"),
        Err(error) => tracing::debug!(value, %error, "oom_score_adj stays as it is"),
    }
}

/// The old value, if another one was written.
fn write_below(root: &Path, value: i32) -> io::Result<Option<String>> {
    let file = root.join(OOM_SCORE_ADJ);
    let old = fs::read_to_string(&file)?.trim().to_owned();
    if old == value.to_string() {
        return Ok(None);
    }
    fs::write(file, value.to_string())?;
    Ok(Some(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_value_is_written() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(OOM_SCORE_ADJ);
        assert!(write_below(root.path(), -999).is_err(), "no file is made");
        assert!(!file.exists());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "0\n").unwrap();
        assert_eq!(write_below(root.path(), -999).unwrap().as_deref(), Some("0"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "-999");
        assert_eq!(write_below(root.path(), -999).unwrap(), None);
    }
}
