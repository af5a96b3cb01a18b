//! What kinds, lists and syntaxes come to as facts.

use super::*;
use crate::net::{Family, Protocol};
use crate::state::ClusterIp;

/// As `kubectl get services,endpointslices -o yaml` prints it.
const KUBECTL: &str = r#"apiVersion: v1
items:
- apiVersion: v1
  kind: Service
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"v1","kind":"Service"}
      weir.dev/drain-seconds: "30"
      weir.dev/scheduler: lc
      weir.dev/weights: zone=z1:3
    creationTimestamp: "2026-01-02T03:04:05Z"
    labels:
      app: web
      version: "1.10"
    managedFields:
    - apiVersion: v1
      fieldsV1:
        f:metadata: {}
      manager: kubectl
    name: web
    namespace: shop
    resourceVersion: "12345"
    uid: 6f2c4a1e-0000-4000-8000-000000000000
  spec:
    clusterIP: 10.96.0.10
    clusterIPs:
    - 10.96.0.10
    internalTrafficPolicy: Cluster
    ipFamilies:
    - IPv4
    ipFamilyPolicy: SingleStack
    ports:
    - name: http
      port: 80
      protocol: TCP
      targetPort: web
    selector:
      app: web
    sessionAffinity: None
    type: ClusterIP
  status:
    loadBalancer: {}
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints:
  - addresses:
    - 10.1.0.7
    conditions:
      ready: true
      serving: true
      terminating: false
    hints:
      forZones:
      - name: z1
    nodeName: node-a
    targetRef:
      kind: Pod
      name: web-1
      namespace: shop
    zone: z1
  kind: EndpointSlice
  metadata:
    labels:
      endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
      kubernetes.io/service-name: web
    name: web-abcde
    namespace: shop
    ownerReferences:
    - apiVersion: v1
      blockOwnerDeletion: true
      controller: true
      kind: Service
      name: web
  ports:
  - appProtocol: null
    name: http
    port: 8080
    protocol: TCP
kind: List
metadata:
  resourceVersion: ""
"#;

#[test]
fn what_kubectl_prints_is_read() {
    let settled = settle("a.yaml", KUBECTL);
    assert_eq!(settled.notices, []);
    let [Update::Upsert(Fact::Service(service)), Update::Upsert(Fact::EndpointSlice(slice))] = &settled.updates[..]
    else {
        panic!("{:?}", settled.updates);
    };
    assert_eq!(service.name.to_string(), "shop/web");
    assert_eq!(service.cluster_ip, ClusterIp::Ip("10.96.0.10".parse().unwrap()));
    assert_eq!(service.ports[0].port, 80);
    assert_eq!(slice.service_name(), service.name);
    assert_eq!(slice.family, Family::V4);
    assert_eq!((&*slice.ports[0].name, slice.ports[0].protocol, slice.ports[0].port), ("http", Protocol::Tcp, 8080));
    assert_eq!(slice.endpoints[0].ip.to_string(), "10.1.0.7");
    assert_eq!(slice.endpoints[0].node(), Some("node-a"));
    assert_eq!(&*slice.endpoints[0].hints().unwrap().zones[0], "z1");
    assert_eq!(slice.endpoints[0].location.as_ref().unwrap().zone.as_deref(), Some("z1"));
    let tuning = service.tuning.as_ref().unwrap();
    assert_eq!((tuning.scheduler.as_deref(), tuning.drain_seconds), (Some("lc"), Some(30)));
    assert_eq!(tuning.weights.zones.get("z1"), Some(&3));
}

/// An annotation that cannot be read is one notice while it is there, and what it is about is served. As in Go's JSON, a
/// number is no text: that is a mistake of the file, with its place.
#[test]
fn annotations_that_cannot_be_read() {
    let text = |annotation: &str| {
        let head = format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations: {{{annotation}}}\n");
        head + "spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n"
    };
    let mut folder = folder();
    let a = file("a.yaml");
    for expected in [1, 0] {
        folder.update(&a, text("weir.dev/weights: heavy").as_bytes());
        let settled = folder.settle();
        assert_eq!((settled.notices.len(), services(&settled.updates).len()), (expected, expected));
    }
    folder.update(&a, text("weir.dev/drain-seconds: 30").as_bytes());
    let settled = folder.settle();
    let [Notice::Broken(error)] = settled.notices.as_slice() else { panic!("{:?}", settled.notices) };
    let error = error.to_string();
    assert!(error.contains("a.yaml:5:") && error.contains("metadata.annotations[weir.dev/drain-seconds]"), "{error}");
}

/// The same objects lead to the same facts, whatever they are written in.
#[test]
fn yaml_json_documents_and_lists_agree() {
    let tree: serde_json::Value = serde_saphyr::from_str(KUBECTL).unwrap();
    let items = tree["items"].as_array().unwrap();
    let expected = settle("a.yaml", KUBECTL).updates;
    let many = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>();
    let documents = many(&mut items.iter().map(|item| serde_saphyr::to_string(item).unwrap())).join("\n---\n");
    let concatenated = many(&mut items.iter().map(ToString::to_string)).join("\n");
    let pretty = serde_json::to_string_pretty(&tree).unwrap();
    for (name, text) in [
        ("a.yml", documents.as_str()),
        ("a.json", &concatenated),
        ("a.json", &pretty),
        ("a.yaml", &pretty),
        ("a.yaml", &KUBECTL.replace('\n', "\r\n")),
        ("a.yaml", &format!("\u{feff}{KUBECTL}")),
        ("a.json", &format!("\u{feff}{pretty}")),
    ] {
        let settled = settle(name, text);
        assert_eq!(settled.notices, [], "{name} {text}");
        assert_eq!(settled.updates, expected, "{name} {text}");
    }
}

#[test]
fn typed_lists_give_their_items_a_type() {
    let slice = "metadata: {name: s, labels: {kubernetes.io/service-name: x}}\n  addressType: IPv6\n";
    let text = format!("apiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nitems:\n- {slice}");
    assert!(matches!(only_fact(&text), Fact::EndpointSlice(slice) if slice.family == Family::V6));
    let settled = settle(
        "a.yaml",
        "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: x}\n  spec: {clusterIP: fd00::1}\n",
    );
    assert_eq!(services(&settled.updates), ["+x:0"]);
    let settled = settle("a.yaml", "apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- {}\n- {}\n");
    assert_eq!(settled.notices, [Notice::Ignored { kind: "apps/v1 Deployment".to_owned() }]);
}

#[test]
fn a_kind_that_only_looks_like_ours_is_ignored() {
    for (text, kind) in [
        ("apiVersion: serving.knative.dev/v1\nkind: Service\nspec: 1\n", "serving.knative.dev/v1 Service"),
        ("apiVersion: example.org/v1\nkind: AllowList\nspec: 1\n", "example.org/v1 AllowList"),
        ("apiVersion: v1\nkind: Endpoints\nsubsets: []\n", "v1 Endpoints"),
    ] {
        assert_eq!(settle("a.yaml", text).notices, [Notice::Ignored { kind: kind.to_owned() }]);
    }
}

#[test]
fn files_without_objects_are_fine() {
    for (name, text) in [
        ("a.yaml", ""),
        ("a.yaml", "# nothing\n"),
        ("a.yaml", "---\n---\nnull\n...\n"),
        ("a.json", ""),
        ("a.json", " \n"),
        ("a.json", "null"),
    ] {
        let settled = settle(name, text);
        assert_eq!((settled.updates, settled.notices), (vec![], vec![]), "{text:?}");
    }
    let settled = settle("a.yaml", "apiVersion: v1\nkind: List\nitems: null\n");
    assert_eq!((settled.updates, settled.notices), (vec![], vec![]));
}

#[test]
fn null_means_absent() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: x, labels: null}\nspec:\n  clusterIP: 10.0.0.1\n  \
                externalIPs: null\n  ports: [{port: 1, name: null, nodePort: ~}]\nstatus: null\n";
    assert!(matches!(only_fact(text), Fact::Service(service) if service.ports.len() == 1));
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "apiVersion: v1\nkind: List\nitems:\n\
                - &base\n  apiVersion: v1\n  kind: Service\n  metadata: {name: x}\n  spec: &spec {clusterIP: 10.0.0.1, ports: [{port: 1}]}\n\
                - <<: *base\n  metadata: {name: y}\n\
                - {apiVersion: v1, kind: Service, metadata: {name: z}, spec: *spec}\n";
    let settled = settle("a.yaml", text);
    assert_eq!(settled.notices, []);
    assert_eq!(services(&settled.updates), ["+x:1", "+y:1", "+z:1"]);
}

#[test]
fn only_the_node_of_our_name_counts() {
    let node = |name: &str| {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: z1}}}}\n")
    };
    let fact = only_fact(&format!("{}---\n{}", node("node-b"), node("node-a")));
    assert!(matches!(fact, Fact::Node(node) if &*node.name == "node-a" && node.zone.as_deref() == Some("z1")));
    assert_eq!(settle("a.yaml", &node("node-b")).updates, []);
}

#[test]
fn selectors_of_the_api_server_are_applied() {
    for (text, selected) in [
        (service("x", 1), true),
        (service("x", 1).replace("10.0.0.1", "None"), false),
        (
            service("x", 1).replace("name: x", "name: x\n  labels: {service.kubernetes.io/service-proxy-name: \"\"}"),
            false,
        ),
    ] {
        let settled = settle("a.yaml", &text);
        assert_eq!(settled.notices, []);
        assert_eq!(settled.updates.len(), usize::from(selected), "{text}");
    }
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: \
                 {kubernetes.io/service-name: x, service.kubernetes.io/headless: \"\"}}\naddressType: IPv4\n";
    for text in [slice.to_owned(), slice.replace("IPv4", "FQDN")] {
        let settled = settle("a.yaml", &text);
        assert_eq!((settled.updates, settled.notices), (vec![], vec![]));
    }
}

#[test]
fn service_cidrs_are_read() {
    let fact = only_fact(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/12, fd00::/108]}\n",
    );
    assert!(matches!(fact, Fact::ServiceCidr(cidr) if cidr.cidrs.len() == 2));
}

/// An API server fills these in; here nobody else does.
#[test]
fn defaults_of_the_api_server() {
    let service = |spec: &str| match only_fact(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: x}}\nspec: {spec}\n"
    )) {
        Fact::Service(service) => service,
        other => panic!("{other:?}"),
    };
    let old = service("{clusterIP: 10.0.0.1}");
    assert_eq!((&*old.ip_families, &*old.cluster_ips), (&[Family::V4][..], &[Some("10.0.0.1".parse().unwrap())][..]));
    let dual = service("{clusterIPs: [\"fd00::1\", 10.0.0.1]}");
    assert_eq!(&*dual.ip_families, [Family::V6, Family::V4]);
    assert_eq!(dual.cluster_ip, ClusterIp::Ip("fd00::1".parse().unwrap()));
    let half = service("{clusterIP: 10.0.0.1, ipFamilies: [IPv4]}");
    assert_eq!(half.cluster_ips.len(), 1);
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: \
                 {kubernetes.io/service-name: x}}\naddressType: IPv4\nports: [{port: 8080}]\n";
    assert!(
        matches!(only_fact(slice), Fact::EndpointSlice(slice) if slice.ports[0].name.is_empty() && slice.ports[0].port == 8080)
    );
}

#[test]
fn what_only_an_api_server_allocates_is_reported() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {type: NodePort, ports: [{port: 80}]}\n";
    let settled = settle("a.yaml", text);
    let texts: Vec<_> = settled
        .notices
        .iter()
        .map(|notice| match notice {
            Notice::LeftOut(_, problem) => problem.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        texts,
        [
            "Service default/x: spec.clusterIP: \"\" is left out: expected an address, as there is no API server that allocates one",
            "Service default/x: spec.ports[0].nodePort: \"\" is left out: expected a port, as there is no API server that allocates one",
        ]
    );
    let external =
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {type: ExternalName, externalName: example.org}\n";
    assert_eq!(settle("a.yaml", external).notices, []);
}
