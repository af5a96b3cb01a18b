//! From an API server: appear, outlive an outage, relist, fall back, be refused, leave the selection.

use std::time::{Duration, Instant};

use serde_json::json;
use weir::lab::rerun;

use crate::api_server::{Fault, Verb};
use crate::cluster::{Api, NODE, service, to_endpoint};
use crate::process::{Proxy, diff, eventually, in_step, proxy};
use crate::program::{rules, small_lab};
use crate::tools::Tools;

const SAVE: &str = "iptables-nft-save";

#[test]
fn services_appear_change_and_leave_the_selection() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let api = Api::start(node);
    api.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let node_of = |cidr: &str| {
        let addresses = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
        let spec = json!({"podCIDRs": [cidr]});
        json!({"kind": "Node", "metadata": {"name": NODE}, "spec": spec, "status": {"addresses": addresses}})
    };
    api.server.put(node_of("10.244.0.0/24"));
    let source = api.flag();
    let flags =
        [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft", "--detect-local-mode=NodeCIDR"];
    let running = Proxy::start(node, &flags).started();
    assert!(rules(node, SAVE).contains(&to_endpoint("10.244.1.1")));
    assert!(in_step(node, &flags), "{}", diff(node, &flags).out);

    api.serve("b", "10.96.0.2", &["10.244.1.2"]);
    eventually("a new service is served", || rules(node, SAVE).contains(&to_endpoint("10.244.1.2")));
    // Rules depend on the Node object, and follow it.
    api.server.put(node_of("10.244.1.0/24"));
    eventually("the node's network is known", || rules(node, SAVE).contains("! -s 10.244.1.0/24 -d 10.96.0.2/32"));
    assert!(in_step(node, &flags), "{}", diff(node, &flags).out);

    let mut other = service("b", "10.96.0.2");
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "another"});
    api.server.put(other);
    eventually("another proxy's service is gone", || !rules(node, SAVE).contains("10.96.0.2"));
    assert!(rules(node, SAVE).contains("10.96.0.1"));
    assert!(in_step(node, &flags), "{}", diff(node, &flags).out);

    let before = rules(node, SAVE);
    assert_eq!(running.stop().0, Some(0));
    assert_eq!(rules(node, SAVE), before);
}

#[test]
fn an_api_server_that_goes_away_takes_nothing_with_it() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let api = Api::start(node);
    for (name, ip, endpoint) in
        [("a", "10.96.0.1", "10.244.1.1"), ("b", "10.96.0.2", "10.244.1.2"), ("c", "10.96.0.3", "10.244.1.3")]
    {
        api.serve(name, ip, &[endpoint]);
    }
    let source = api.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let tools = Tools::noting("nft");
    let running = Proxy::run(node, tools.given_to(proxy(&flags))).started();
    let whole = rules(node, SAVE);
    tools.written();

    api.stop();
    running.says("Connection refused");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(rules(node, SAVE), whole, "while the API server is away");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(tools.written(), "");
    // It comes back with differences: one service less, one endpoint changed, one the same.
    api.server.delete("Service", "ns", "c");
    api.serve("b", "10.96.0.2", &["10.244.1.22"]);
    api.restart();
    eventually("what changed is in the kernel", || {
        let now = rules(node, SAVE);
        now.contains(&to_endpoint("10.244.1.22")) && !now.contains("10.96.0.3")
    });
    assert!(in_step(node, &flags), "{}", diff(node, &flags).out);
    let written = tools.written();
    assert!(!written.contains("ns/a:p -> "), "the service that stayed is not written again:\n{written}");

    // Its history is gone, the objects are the same: a list anew and not a write.
    let lists = || api.server.count(Verb::StreamingList, "services") + api.server.count(Verb::List, "services");
    let before = lists();
    api.server.compact();
    api.restart();
    eventually("it lists anew", || lists() > before && running.said("listed anew").len() >= 2);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(tools.written(), "");
    for line in ["WARN API server: cannot be reached", "listed anew"] {
        assert!(running.said(line).len() <= 12, "{line} again and again:\n{}", running.log());
    }
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn an_api_server_without_streaming_lists_or_with_many_objects() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let api = Api::start(node);
    api.server.script(Verb::StreamingList, "*", 100, Fault::Status { code: 422, retry_after: None });
    for number in 0..1100 {
        api.server.put(service(&format!("s{number}"), &format!("10.96.{}.{}", number / 200, number % 200 + 1)));
    }
    let source = api.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let running = Proxy::start(node, &flags).started();
    running.says("no streaming lists");
    assert!(api.server.count(Verb::Continue, "services") >= 2, "1,100 services are three pages");
    assert!(running.says("service ports are in the kernel").contains(" 1100 service ports"));
    api.serve("late", "10.97.0.1", &["10.244.1.1"]);
    eventually("watching works", || rules(node, SAVE).contains(&to_endpoint("10.244.1.1")));
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn forbidden_is_told_once_and_nothing_is_written_before_all_is_known() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let api = Api::start(node);
    api.serve("a", "10.96.0.1", &["10.244.1.1"]);
    api.server.script(Verb::Any, "endpointslices", 3, Fault::Status { code: 403, retry_after: None });
    let source = api.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let tools = Tools::noting("nft");
    let running = Proxy::run(node, tools.given_to(proxy(&flags)));
    let line = running.says("ERROR");
    assert!(line.contains("allow list and watch on endpointslices"), "{line}");
    eventually("it was refused three times", || {
        let requests = api.server.requests();
        requests.iter().filter(|request| request.resource == "endpointslices").count() >= 3
    });
    assert_eq!(tools.written(), "");
    let running = running.started();
    assert!(rules(node, SAVE).contains(&to_endpoint("10.244.1.1")));
    assert_eq!(running.said("allow list and watch on endpointslices").len(), 1, "{}", running.log());
    assert_eq!(running.stop().0, Some(0));
}

/// One line for each object that is not as it should be, however often it is told.
#[test]
fn an_object_with_a_problem_is_named_once() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let api = Api::start(node);
    let mut odd = service("odd", "10.96.0.1");
    odd["spec"]["externalIPs"] = json!(["here"]);
    api.server.put(odd.clone());
    let source = api.flag();
    let running = Proxy::start(node, &[&source, "--hostname-override", NODE, "--iptables-variant=nft"]).started();
    let line = running.says("left out part of an object");
    for part in ["WARN", "Service ns/odd", "spec.externalIPs[0]", "here"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    odd["metadata"]["labels"] = json!({"x": "y"});
    api.server.put(odd);
    api.serve("fine", "10.96.0.2", &["10.244.1.1"]);
    eventually("others are served", || rules(node, SAVE).contains(&to_endpoint("10.244.1.1")));
    assert_eq!(running.said("left out part of an object").len(), 1, "{}", running.log());
    assert_eq!(running.stop().0, Some(0));
}
