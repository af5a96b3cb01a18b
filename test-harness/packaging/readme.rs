//! The commands of `deploy/README.md` are shell, and name what is there.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::{repository, text};

/// The blocks marked as `bash`.
fn snippets() -> Vec<String> {
    let text = text("deploy/README.md");
    let blocks = text.split("```bash\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn is_shell(snippet: &str) -> Result<(), String> {
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(snippet.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && said.is_empty() { Ok(()) } else { Err(said) }
}

#[test]
fn every_command_is_shell() {
    let snippets = snippets();
    assert!(snippets.len() >= 8, "{}", snippets.len());
    for snippet in snippets {
        is_shell(&snippet).unwrap_or_else(|error| panic!("{error}\n{snippet}"));
    }
    assert!(is_shell("if true; then").is_err());
}

/// Files of this repository that commands and links name.
#[test]
fn every_file_is_there() {
    let readme = text("deploy/README.md");
    let links =
        readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).map(|link| format!("deploy/{link}"));
    let all = snippets().join(" ");
    let words = all.split_whitespace().filter(|word| word.starts_with("deploy/") || word.starts_with("systemd/"));
    let named: Vec<String> = links.chain(words.map(str::to_owned)).collect();
    assert!(named.len() >= 9, "{named:?}");
    for path in named {
        assert!(repository(&path).exists(), "{path}");
    }
}

/// There and back: what one replaces is what the other restores.
#[test]
fn the_swap_names_the_daemon_set_and_its_container() {
    let all = snippets().join("\n");
    assert!(all.contains("set image daemonset/kube-proxy kube-proxy=\"$IMAGE\""));
    assert!(all.contains("rollout undo daemonset/kube-proxy"));
}
