//! The server goes, comes back, and has forgotten.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::objects::cluster_ip;
use crate::process::eventually;
use crate::program::rules;
use crate::world::{answered_by, with};

const SAVE: &str = "iptables-nft-save";

#[test]
fn a_restart_loses_nothing_and_watching_goes_on() {
    with(|lab, mut world| {
        let [first, second, client] = lab.pods() else { panic!("three pods") };
        let service = world.serve("a", &json!({}), &[first]);
        let running = world.proxy(lab.node()).started();
        answered_by(client, cluster_ip(&service), &[first]);
        let whole = rules(lab.node(), SAVE);
        world.server.stop();
        running.says("Connection refused");
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(rules(lab.node(), SAVE), whole, "while the API server is away");
            std::thread::sleep(Duration::from_millis(200));
        }
        world.server.restart();
        world.serve_by("a", &[second]);
        answered_by(client, cluster_ip(&service), &[second]);
        assert_eq!(running.stop().0, Some(0));
    });
}

/// A proxy that did not look for a while, and a server that no longer knows the versions that it last saw.
#[test]
fn versions_that_are_gone_are_listed_anew() {
    with(|lab, mut world| {
        let [first, second, client] = lab.pods() else { panic!("three pods") };
        let stays = world.serve("stays", &json!({}), &[first]);
        let changes = world.serve("changes", &json!({}), &[first]);
        let mut running = world.proxy(lab.node()).started();
        answered_by(client, cluster_ip(&changes), &[first]);
        running.signal(Signal::SIGSTOP);
        world.serve_by("changes", &[second]);
        world.server.stop();
        world.server.restart();
        world.server.compact();
        running.signal(Signal::SIGCONT);
        eventually("it lists anew", || !running.said("listed anew").is_empty());
        answered_by(client, cluster_ip(&changes), &[second]);
        answered_by(client, cluster_ip(&stays), &[first]);
        let gone = |answer: &serde_json::Value| answer["responseStatus"]["code"] == 410;
        let told = |answer: &serde_json::Value| answer["verb"] == "watch" && gone(answer);
        // The server says it as the status of the answer, or as an event within a watch.
        let as_status = world.server.audit().iter().any(told);
        assert!(
            as_status || !running.said("too old").is_empty() || !running.said("gone").is_empty(),
            "{}",
            running.log()
        );
        assert_eq!(running.stop().0, Some(0));
    });
}

/// What is asked for of a real server, and that it has all of it: streaming lists, which end with a bookmark, and watches
/// with bookmarks from the version that a list ended with.
#[test]
fn lists_stream_and_watches_have_bookmarks() {
    with(|lab, world| {
        let running = world.proxy(lab.node()).started();
        assert_eq!(running.said("no streaming lists"), [""; 0]);
        let uris: Vec<String> = world
            .server
            .audit()
            .iter()
            .filter(|request| request["userAgent"].as_str().is_some_and(|agent| agent.contains("weir")))
            .map(|request| request["requestURI"].as_str().unwrap_or_default().to_owned())
            .collect();
        // A watch is noted when it has begun.
        for resource in ["services", "endpointslices", "nodes", "servicecidrs"] {
            let asked = |uri: &&String| {
                uri.contains(&format!("/{resource}?"))
                    && uri.contains("sendInitialEvents=true")
                    && uri.contains("allowWatchBookmarks=true")
            };
            assert!(uris.iter().any(|uri| asked(&uri)), "{resource}: {uris:#?}");
        }
        assert_eq!(running.stop().0, Some(0));
    });
}
