//! The kernel refuses a service.

use std::fs;

use weir::lab::{Host, rerun};

use crate::cluster::{Folder, NODE, to_endpoint};
use crate::process::{Proxy, eventually, in_step, proxy};
use crate::program::{rules, small_lab};
use crate::tools::Tools;

const SAVE: &str = "iptables-nft-save";

/// Refuses all that has this text while the file `poison` is there, in a tool's words: with the line at fault or
/// without.
fn refusing(text: &str, names_line: bool) -> Tools {
    let words = match names_line {
        true => "line $at: RULE_APPEND failed (Invalid argument): rule in chain KUBE-X",
        false => "Invalid argument",
    };
    let shell = format!(
        "at=$(grep -nF {text} $input | head -1 | cut -d: -f1)\n\
         if [ -e $folder/poison ] && [ -n \"$at\" ]; then\n\
         echo \"$tool-nft-restore v1.8.9 (nf_tables): {words}\" >&2; exit 4\nfi"
    );
    let tools = Tools::failing("nft", &shell);
    fs::write(tools.file("poison"), "").unwrap();
    tools
}

fn is_served(node: &Host, ip: &str) -> bool {
    rules(node, SAVE).contains(&to_endpoint(ip))
}

/// So many that their entries are a tree, in both tables.
const OTHERS: usize = 160;

/// Many services, one of which is refused. Every third has no endpoints, so that both tables have entries.
fn fill(folder: &Folder) {
    for number in 1..=OTHERS {
        let endpoints: &[&str] = if number % 3 == 0 { &[] } else { &[&format!("10.244.1.{number}")] };
        folder.serve(&format!("s{number}"), &format!("10.96.0.{number}"), endpoints);
    }
}

fn all_others_are_served(node: &Host) -> bool {
    let text = rules(node, SAVE);
    (1..=OTHERS).all(|number| match number % 3 {
        0 => text.contains(&format!("ns/s{number}:p has no endpoints")),
        _ => text.contains(&to_endpoint(&format!("10.244.1.{number}"))),
    })
}

#[test]
fn at_the_start() {
    if !rerun::allowed().unwrap() {
        return;
    }
    for names_line in [true, false] {
        let lab = small_lab();
        let node = lab.node();
        let folder = Folder::new();
        fill(&folder);
        folder.serve("poison", "10.96.1.1", &["10.244.2.1"]);
        let tools = refusing("ns/poison", names_line);
        let source = folder.flag();
        let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
        let running = Proxy::run(node, tools.given_to(proxy(&flags)));
        let line = running.says("refuses service port IPv4 ns/poison:p/tcp");
        assert!(line.contains("ERROR") && line.contains("it has no rules, all others are served"), "{line}");
        assert!(line.contains("Invalid argument"), "{line}");
        eventually("all others are served", || all_others_are_served(node));
        assert!(!is_served(node, "10.244.2.1"));
        relents(node, &tools, &folder, &running, &flags);
    }
}

/// It is served again after its next change.
fn relents(node: &Host, tools: &Tools, folder: &Folder, running: &Proxy, flags: &[&str]) {
    fs::remove_file(tools.file("poison")).unwrap();
    folder.serve("poison", "10.96.1.1", &["10.244.2.9"]);
    eventually("it is served", || is_served(node, "10.244.2.9"));
    let line = running.says("service port IPv4 ns/poison:p/tcp is served again");
    assert!(line.contains("INFO"), "{line}");
    eventually("nothing is missing", || in_step(node, flags));
    assert_eq!(running.said("refuses service port").len(), 1, "{}", running.log());
}

#[test]
fn while_running() {
    if !rerun::allowed().unwrap() {
        return;
    }
    for names_line in [true, false] {
        let lab = small_lab();
        let node = lab.node();
        let folder = Folder::new();
        // What was accepted once is accepted again: it is written with every change of the chains that all share.
        let tools = refusing("10.244.2.2", names_line);
        fs::remove_file(tools.file("poison")).unwrap();
        folder.serve("poison", "10.96.1.1", &["10.244.2.1"]);
        let source = folder.flag();
        let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
        let running = Proxy::run(node, tools.given_to(proxy(&flags))).started();
        assert!(is_served(node, "10.244.2.1"));

        fs::write(tools.file("poison"), "").unwrap();
        folder.serve("poison", "10.96.1.1", &["10.244.2.2"]);
        fill(&folder);
        let line = running.says("refuses service port IPv4 ns/poison:p/tcp");
        assert!(line.contains("its last good rules stay, all others are served"), "{line}");
        eventually("all others are served", || all_others_are_served(node));
        assert!(is_served(node, "10.244.2.1") && !is_served(node, "10.244.2.2"), "its last good rules stay");
        relents(node, &tools, &folder, &running, &flags);
        assert!(!is_served(node, "10.244.2.1"));
    }
}
