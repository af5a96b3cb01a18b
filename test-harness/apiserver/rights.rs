//! The rights of `deploy/rbac.yaml`, on a server that enforces them.

use std::path::Path;

use serde_json::{Value, json};

use crate::objects::{NODE, cluster_ip};
use crate::world::{World, answered_by, with};

const ACCOUNTS: &str = "/api/v1/namespaces/kube-system/serviceaccounts";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const USER: &str = "system:serviceaccount:kube-system:kube-proxy";

/// Makes what the file holds.
fn apply(world: &World<'_>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap();
    for object in &objects {
        let collection = match object["kind"].as_str() {
            Some("ServiceAccount") => ACCOUNTS,
            Some("ClusterRole") => ROLES,
            Some("ClusterRoleBinding") => BINDINGS,
            other => panic!("{other:?}"),
        };
        world.admin.create(collection, object);
    }
}

/// A token of the ServiceAccount, as a pod gets it.
fn token(world: &World<'_>) -> String {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = world.admin.create(&format!("{ACCOUNTS}/kube-proxy/token"), &request);
    made["status"]["token"].as_str().unwrap().to_owned()
}

/// Requests of the account that were refused, as `watch nodes: 403`.
fn refused(world: &World<'_>) -> Vec<String> {
    let audit = world.server.audit();
    let ours = audit.iter().filter(|request| request["user"]["username"] == USER);
    assert!(ours.clone().count() > 3, "{audit:?}");
    ours.filter(|request| request["responseStatus"]["code"].as_u64().is_some_and(|code| code == 401 || code == 403))
        .map(|request| format!("{} {}: {}", request["verb"], request["requestURI"], request["responseStatus"]["code"]))
        .collect()
}

#[test]
fn the_shipped_rights_are_enough() {
    with(|lab, world| {
        let [pod, client, _] = lab.pods() else { panic!("three pods") };
        apply(&world);
        let service = world.serve("a", &json!({}), &[pod]);
        let running = world.proxy_as(lab.node(), &token(&world), &[]).started();
        answered_by(client, cluster_ip(&service), &[pod]);
        // Changes are watched, not only listed.
        world.serve_by("a", &[client]);
        answered_by(pod, cluster_ip(&service), &[client]);
        world.admin.patch(&format!("/api/v1/nodes/{NODE}"), &json!({"metadata": {"labels": {"x": "y"}}}));
        assert_eq!(refused(&world), [""; 0]);
        for word in ["orbidden", "ERROR"] {
            assert_eq!(running.said(word), [""; 0], "{}", running.log());
        }
        assert_eq!(running.stop().0, Some(0));
    });
}

#[test]
fn a_right_that_is_missing_is_told_once_and_used_when_it_comes() {
    with(|lab, world| {
        let [pod, client, _] = lab.pods() else { panic!("three pods") };
        apply(&world);
        let role = format!("{ROLES}/weir-proxy");
        let rules = world.admin.get(&role)["rules"].clone();
        let without: Vec<&Value> =
            rules.as_array().unwrap().iter().filter(|rule| rule["apiGroups"] != json!(["discovery.k8s.io"])).collect();
        world.admin.patch(&role, &json!({"rules": without}));
        let service = world.serve("a", &json!({}), &[pod]);
        let running = world.proxy_as(lab.node(), &token(&world), &[]);
        let line = running.says("allow list and watch on endpointslices");
        assert!(line.contains("ERROR"), "{line}");
        world.admin.patch(&role, &json!({"rules": rules}));
        let running = running.started();
        answered_by(client, cluster_ip(&service), &[pod]);
        assert_eq!(running.said("allow list and watch on endpointslices").len(), 1, "{}", running.log());
        assert_eq!(running.stop().0, Some(0));
    });
}
