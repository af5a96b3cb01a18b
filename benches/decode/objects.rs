//! Services and slices as an API server sends them, as text: with what the controllers and `kubectl` leave in them.

use serde_json::{Value, json};

use super::cluster::{cluster_ip, endpoint_ip};

/// How much an object carries beside the fields that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Next to nothing: the least that decoding can cost.
    Bare,
    /// Labels, owners, references to pods, zones with hints, and the managed fields of three managers.
    Full,
}

fn uid(i: u32) -> String {
    format!("{i:08x}-7c1f-4d2a-9b0e-5f3c{:08x}", i.wrapping_mul(2_654_435_761))
}

fn metadata(namespace: u32, name: &str, i: u32, dress: Dress) -> Value {
    let mut metadata = json!({
        "name": name, "namespace": format!("ns-{namespace}"), "resourceVersion": (1_000_000 + i).to_string(),
    });
    if dress == Dress::Full {
        metadata["uid"] = uid(i).into();
        metadata["creationTimestamp"] = "2026-03-01T09:14:07Z".into();
    }
    metadata
}

fn managed(manager: &str, operation: &str, api_version: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": api_version, "time": "2026-03-01T09:14:07Z",
           "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// Service `i`.
pub fn service(i: u32, dress: Dress) -> Value {
    let ip = cluster_ip(i).to_string();
    let app = format!("svc-{i}");
    let mut object = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": metadata(i % 100, &app, i, dress),
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
                 "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                 "selector": {"app.kubernetes.io/name": app}},
        "status": {"loadBalancer": {}},
    });
    if dress == Dress::Full {
        object["metadata"]["labels"] = labels(&app);
        object["metadata"]["annotations"] = json!({
            "meta.helm.sh/release-name": app, "meta.helm.sh/release-namespace": format!("ns-{}", i % 100),
            "prometheus.io/scrape": "true", "prometheus.io/port": "8080",
        });
        let fields = json!({
            "f:metadata": {"f:annotations": {".": {}, "f:meta.helm.sh/release-name": {}, "f:meta.helm.sh/release-namespace": {},
                           "f:prometheus.io/port": {}, "f:prometheus.io/scrape": {}},
                           "f:labels": {".": {}, "f:app.kubernetes.io/instance": {}, "f:app.kubernetes.io/managed-by": {},
                           "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/version": {}, "f:helm.sh/chart": {}}},
            "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}":
                       {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                       "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}},
        });
        object["metadata"]["managedFields"] = json!([managed("helm", "Update", "v1", &fields)]);
    }
    object
}

fn labels(app: &str) -> Value {
    json!({
        "app.kubernetes.io/name": app, "app.kubernetes.io/instance": app, "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/version": "1.14.2", "helm.sh/chart": "web-4.0.13",
    })
}

fn endpoint(i: u32, e: u32, ip: &str, dress: Dress) -> Value {
    let mut endpoint = json!({
        "addresses": [ip], "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": format!("node-{}", (i + e) % 100),
        "targetRef": {"kind": "Pod", "namespace": format!("ns-{}", i % 100), "name": format!("svc-{i}-6c9f7d4b8d-{e:05}")},
    });
    if dress == Dress::Full {
        let zone = format!("eu-central-1{}", ["a", "b", "c"][((i + e) % 3) as usize]);
        endpoint["targetRef"]["uid"] = uid(i * 64 + e).into();
        endpoint["zone"] = zone.clone().into();
        endpoint["hints"] = json!({"forZones": [{"name": zone}]});
    }
    endpoint
}

/// The slice of service `i`, with its last endpoint at `version`.
pub fn slice(i: u32, endpoints: u32, version: u32, dress: Dress) -> Value {
    let app = format!("svc-{i}");
    let all: Vec<Value> = (0..endpoints)
        .map(|e| {
            let version = if e + 1 == endpoints { version } else { 0 };
            endpoint(i, e, &endpoint_ip(i, e, version).to_string(), dress)
        })
        .collect();
    let mut object = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata(i % 100, &format!("{app}-x7k2p"), i + version, dress),
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": all,
    });
    let labels_of = &mut object["metadata"]["labels"];
    *labels_of = json!({});
    if dress == Dress::Full {
        *labels_of = labels(&app);
        labels_of["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io".into();
    }
    labels_of["kubernetes.io/service-name"] = app.clone().into();
    if dress == Dress::Full {
        let metadata = &mut object["metadata"];
        metadata["generateName"] = format!("{app}-").into();
        metadata["generation"] = 7.into();
        metadata["annotations"] = json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-03-01T09:14:07Z"});
        metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Service", "name": app, "uid": uid(i),
                                              "controller": true, "blockOwnerDeletion": true}]);
        let fields = json!({
            "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
            "f:metadata": {"f:annotations": {".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {}},
                           "f:generateName": {}, "f:labels": {".": {}, "f:endpointslice.kubernetes.io/managed-by": {},
                           "f:kubernetes.io/service-name": {}, "f:app.kubernetes.io/name": {}},
                           "f:ownerReferences": {".": {}, format!("k:{{\"uid\":\"{}\"}}", uid(i)): {}}},
        });
        metadata["managedFields"] =
            json!([managed("kube-controller-manager", "Update", "discovery.k8s.io/v1", &fields)]);
    }
    object
}
