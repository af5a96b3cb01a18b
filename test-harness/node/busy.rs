//! Tools that are slow, locked out, or interrupted.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir::lab::{rerun, skipped};

use crate::cluster::{Folder, NODE, to_endpoint};
use crate::process::{Proxy, eventually, in_step, proxy};
use crate::program::{installed, rules, small_lab};
use crate::tools::Tools;

const SAVE: &str = "iptables-nft-save";

/// A lock that somebody holds, in the words of iptables-legacy.
#[test]
fn a_lock_is_waited_for_and_nothing_is_lost() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let shell = "if [ -e $folder/locked ]; then echo x >>$folder/tries\n\
                 echo 'Another app is currently holding the xtables lock; still 1s 0us time ahead to have a chance to grab \
                 the lock...' >&2; exit 4; fi";
    let tools = Tools::failing("nft", shell);
    let source = folder.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let running = Proxy::run(node, tools.given_to(proxy(&flags))).started();

    fs::write(tools.file("locked"), "").unwrap();
    folder.serve("a", "10.96.0.1", &["10.244.1.2"]);
    let line = running.says("holds the xtables lock");
    assert!(line.contains("WARN") && line.contains("nothing is lost, trying again in"), "{line}");
    // More comes while it waits.
    folder.serve("b", "10.96.0.2", &["10.244.1.3"]);
    eventually("it was tried some times", || fs::read_to_string(tools.file("tries")).is_ok_and(|x| x.len() >= 8));
    assert!(rules(node, SAVE).contains(&to_endpoint("10.244.1.1")), "what was there stays");
    fs::remove_file(tools.file("locked")).unwrap();
    eventually("all of it is there", || {
        let text = rules(node, SAVE);
        ["10.244.1.2", "10.244.1.3"].iter().all(|ip| text.contains(&to_endpoint(ip)))
    });
    running.says("applying changes works again");
    assert!(in_step(node, &flags));
    assert_eq!(running.said("refuses").len(), 0, "{}", running.log());
    assert_eq!(running.said("nothing is lost").len(), 1, "the same is told once:\n{}", running.log());
    assert_eq!(running.stop().0, Some(0));
}

/// The real lock, in a `/run` of its own.
#[test]
fn the_lock_of_iptables_legacy() {
    if ["iptables-legacy-restore", "flock"].iter().any(|tool| installed(tool).is_none()) {
        skipped("node: the lock of iptables-legacy (no iptables-legacy or no flock)");
        return;
    }
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let source = folder.flag();
    let inner = proxy(&[&source, "--hostname-override", NODE, "--iptables-variant=legacy"]);
    // Who holds it starts first and lets go after the tool's patience of five seconds is over.
    let shell = "mount -t tmpfs tmpfs /run && (flock /run/xtables.lock sleep 8 & ) && sleep 0.3 && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", shell]).arg(inner.get_program()).args(inner.get_args());
    let running = Proxy::run(node, command).started();
    let text = rules(node, "iptables-legacy-save");
    assert!(text.contains(&to_endpoint("10.244.1.1")), "{text}\n{}", running.log());
    assert_eq!(running.said("refuse").len(), 0, "{}", running.log());
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn sigterm_during_a_write_finishes_the_write() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let tools = Tools::failing("nft", "if [ -e $folder/slow ]; then echo >$folder/writing; sleep 2; fi");
    let source = folder.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let mut running = Proxy::run(node, tools.given_to(proxy(&flags))).started();
    fs::write(tools.file("slow"), "").unwrap();
    folder.serve("b", "10.96.0.2", &["10.244.1.2"]);
    eventually("the write is under way", || tools.file("writing").exists());
    let began = Instant::now();
    running.signal(Signal::SIGTERM);
    // What comes now is for the next start.
    folder.serve("c", "10.96.0.3", &["10.244.1.3"]);
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let text = rules(node, SAVE);
    assert!(text.contains(&to_endpoint("10.244.1.2")), "what was being written is there:\n{text}");
    assert!(!text.contains(&to_endpoint("10.244.1.3")), "nothing was begun after the signal:\n{text}");
}

/// A burst during a slow write is one more write.
#[test]
fn what_comes_during_a_write_goes_together() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    let tools = Tools::failing("nft", "if [ -e $folder/slow ]; then echo $tool >>$folder/writes; sleep 1; fi");
    let source = folder.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft", "--iptables-sync-period=1h"];
    let running = Proxy::run(node, tools.given_to(proxy(&flags))).started();
    fs::write(tools.file("slow"), "").unwrap();
    for number in 1..=40 {
        folder.serve(&format!("s{number}"), &format!("10.96.0.{number}"), &[&format!("10.244.1.{number}")]);
        std::thread::sleep(Duration::from_millis(20));
    }
    eventually("all are served", || in_step(node, &flags));
    let writes = fs::read_to_string(tools.file("writes")).unwrap().lines().count();
    assert!(writes <= 6, "{writes} writes for a burst of less than a second or two:\n{}", running.log());
    assert_eq!(running.stop().0, Some(0));
}

/// SIGINT and SIGTERM at any time, also before anything is known.
#[test]
fn stops_while_it_waits_for_an_api_server() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let before = crate::program::all_rules(node);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let flags = ["--master=http://127.0.0.1:1", "--hostname-override", NODE, "--iptables-variant=nft"];
        let mut running = Proxy::start(node, &flags);
        running.says("Connection refused");
        running.signal(signal);
        assert_eq!(running.wait(), Some(0), "{}", running.log());
        assert!(running.log().contains(&format!("{signal}: stopping")), "{}", running.log());
    }
    assert_eq!(crate::program::all_rules(node), before, "nothing is written before all is known");
}
