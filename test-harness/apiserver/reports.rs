//! What the node says of itself: events, and the health that load balancers ask for.

use serde_json::{Value, json};
use weir::net::Family;

use crate::http;
use crate::objects::{NODE, SERVICES};
use crate::process::eventually;
use crate::world::{World, with};

/// Events of a reason.
fn events(world: &World<'_>, reason: &str) -> Vec<Value> {
    let list = world.admin.get("/apis/events.k8s.io/v1/events");
    let all = list["items"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|event| event["reason"] == reason).collect()
}

/// Contract 1.17: the server takes the event, and gives it back as it was meant.
#[test]
fn the_start_is_an_event_on_the_node() {
    with(|lab, world| {
        let running = world.proxy(lab.node()).started();
        eventually("the start is told", || !events(&world, "Starting").is_empty());
        let found = events(&world, "Starting");
        let [event] = &found[..] else { panic!("one event: {found:#?}") };
        for (field, value) in [
            ("type", "Normal"),
            ("action", "StartKubeProxy"),
            ("reportingController", "kube-proxy"),
            ("reportingInstance", &format!("kube-proxy-{NODE}")),
        ] {
            assert_eq!(event[field], value, "{event:#}");
        }
        assert_eq!(event["regarding"]["kind"], "Node");
        assert_eq!(event["regarding"]["name"], NODE);
        assert_eq!(running.stop().0, Some(0));
    });
}

/// A load balancer's service with `externalTrafficPolicy: Local`: the server chooses the port, and the node answers there
/// whether it has endpoints.
#[test]
fn s4_the_health_port_says_whether_there_are_local_endpoints() {
    with(|lab, world| {
        let [pod, ..] = lab.pods() else { panic!("three pods") };
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let service = world.serve("lb", &spec, &[pod]);
        let port = u16::try_from(service["spec"]["healthCheckNodePort"].as_u64().unwrap()).unwrap();
        let running = world.proxy(lab.node()).started();
        let to = (lab.node().address(Family::V4).unwrap(), port);
        let ask = || http::get(lab.client(), to, "/");
        eventually("it has endpoints", || ask().code == 200);
        let answer = ask();
        assert!(answer.headers.contains("x-load-balancing-endpoint-weight: 1"), "{answer:?}");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["service"], json!({"namespace": "default", "name": "lb"}), "{body}");
        assert_eq!(body["localEndpoints"], 1, "{body}");
        world.serve_by("lb", &[]);
        eventually("it has none", || ask().code == 503);
        world.admin.delete(&format!("{SERVICES}/lb"));
        eventually("nobody listens", || ask().code == 0);
        assert_eq!(running.stop().0, Some(0));
    });
}
