//! The manifests of `deploy/`: what they say is what Kubernetes' types hold, and what the program asks for.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::command::Image;
use crate::text;

/// Reads an object, and compares it with what its type keeps of it: a misspelt or misplaced field is lost there.
fn strictly<T: DeserializeOwned + Serialize>(object: &Value) -> Result<T, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    if kept == *object { Ok(typed) } else { Err(format!("not all of it is understood:\n{object}\n{kept}")) }
}

fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one object of a kind in a file.
fn object<T: DeserializeOwned + Serialize>(path: &str, kind: &str) -> T {
    let all = documents(path);
    let of_kind: Vec<&Value> = all.iter().filter(|object| object["kind"] == kind).collect();
    let [object] = of_kind[..] else { panic!("{path}: one {kind}") };
    strictly(object).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn daemon_set() -> DaemonSet {
    object("deploy/daemonset.yaml", "DaemonSet")
}

/// The container that sets kernel parameters, and the one that stays.
fn containers() -> (Container, Container) {
    let pod = daemon_set().spec.unwrap().template.spec.unwrap();
    let [stays] = &pod.containers[..] else { panic!("one container") };
    let [ends] = &pod.init_containers.unwrap()[..] else { panic!("one init container") };
    (ends.clone(), stays.clone())
}

#[test]
fn a_field_that_is_not_there_is_found() {
    let right = serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
    strictly::<ServiceAccount>(&right).unwrap();
    let mut wrong = right;
    wrong["metadata"]["nmespace"] = "x".into();
    assert!(strictly::<ServiceAccount>(&wrong).is_err());
}

#[test]
fn every_file_holds_what_it_says() {
    for (path, kinds) in [
        ("deploy/rbac.yaml", &["ServiceAccount", "ClusterRole", "ClusterRoleBinding"][..]),
        ("deploy/configmap.yaml", &["ConfigMap"]),
        ("deploy/daemonset.yaml", &["DaemonSet"]),
    ] {
        let found: Vec<Value> = documents(path).iter().map(|object| object["kind"].clone()).collect();
        assert_eq!(found, kinds, "{path}");
    }
}

/// Whoever looks for kube-proxy finds it: names, labels, account and command are those of kubeadm's DaemonSet.
#[test]
fn the_daemon_set_stands_where_kube_proxys_does() {
    let set = daemon_set();
    assert_eq!(set.metadata.name.as_deref(), Some("kube-proxy"));
    assert_eq!(set.metadata.namespace.as_deref(), Some("kube-system"));
    let spec = set.spec.unwrap();
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels.get("k8s-app").map(String::as_str), Some("kube-proxy"));
    assert_eq!(spec.selector.match_labels.unwrap(), labels);
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("kube-proxy"));
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    assert_eq!(pod.host_network, Some(true));
    assert!(pod.tolerations.unwrap().iter().any(|all| all.operator.as_deref() == Some("Exists") && all.key.is_none()));
    let (_, stays) = containers();
    assert_eq!(stays.name, "kube-proxy");
    assert_eq!(stays.command.unwrap()[0], "/usr/local/bin/kube-proxy");
}

/// Everything that is mounted is a volume, and is where both containers expect it.
#[test]
fn volumes_are_those_of_kube_proxy() {
    let pod = daemon_set().spec.unwrap().template.spec.unwrap();
    let volumes = pod.volumes.unwrap();
    let config = volumes.iter().find(|volume| volume.name == "kube-proxy").unwrap();
    let map: ConfigMap = object("deploy/configmap.yaml", "ConfigMap");
    assert_eq!(config.config_map.as_ref().map(|map| map.name.clone()), map.metadata.name);
    let (ends, stays) = containers();
    for container in [ends, stays] {
        let mounts = container.volume_mounts.unwrap();
        let mounted: Vec<(&str, bool)> =
            mounts.iter().map(|mount| (mount.mount_path.as_str(), mount.read_only == Some(true))).collect();
        assert_eq!(mounted, [("/var/lib/kube-proxy", true), ("/run/xtables.lock", false), ("/lib/modules", true)]);
        for mount in &mounts {
            let volume = volumes.iter().find(|volume| volume.name == mount.name).unwrap();
            let host = volume.host_path.as_ref().map(|host| host.path.as_str());
            assert!(host.is_none_or(|path| path == mount.mount_path), "{}", mount.name);
        }
    }
}

#[test]
fn what_stays_has_few_rights() {
    let (ends, stays) = containers();
    assert_eq!(ends.security_context.unwrap().privileged, Some(true));
    let context = stays.security_context.unwrap();
    assert_eq!(context.privileged, None);
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let capabilities = context.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    // Those of the unit.
    let unit = text("systemd/weir-proxy.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let of_unit: Vec<&str> = line.split(' ').map(|name| name.strip_prefix("CAP_").unwrap()).collect();
    assert_eq!(capabilities.add.unwrap(), of_unit);
}

#[test]
fn probes_ask_the_health_port() {
    let (_, stays) = containers();
    for (probe, path) in [(stays.liveness_probe, "/livez"), (stays.readiness_probe, "/healthz")] {
        let get = probe.unwrap().http_get.unwrap();
        assert_eq!(get.path.as_deref(), Some(path));
        assert_eq!(serde_json::to_value(get.port).unwrap(), 10256);
    }
}

/// Both command lines are read by the program, with the configuration that is in the ConfigMap.
#[test]
fn commands_are_understood() {
    let map: ConfigMap = object("deploy/configmap.yaml", "ConfigMap");
    let config = map.data.unwrap()["config.conf"].clone();
    let (ends, stays) = containers();
    let commands = [ends.command.unwrap(), stays.command.unwrap()];
    assert_eq!(commands[0][..3], commands[1], "what is set up is what then runs");
    assert_eq!(commands[0][3..], ["--init-only"]);
    for command in commands {
        let flags: Vec<String> = command[1..].iter().map(|flag| flag.replace("$(NODE_NAME)", "node-a")).collect();
        let read = Image::new().read(&flags, "/var/lib/kube-proxy/config.conf", &config);
        let written = read.unwrap_or_else(|ran| panic!("{flags:?}: {ran:?}"));
        for line in ["clusterCIDR: 10.244.0.0/16", "mode: iptables", "hostnameOverride: node-a"] {
            assert!(written.contains(line), "{line}:\n{written}");
        }
    }
}

/// The kubeconfig of the ConfigMap names the files that a pod has.
#[test]
fn the_kubeconfig_is_one() {
    let map: ConfigMap = object("deploy/configmap.yaml", "ConfigMap");
    let data = map.data.unwrap();
    let config: Value = serde_saphyr::from_str(&data["config.conf"]).unwrap();
    assert_eq!(config["clientConnection"]["kubeconfig"], "/var/lib/kube-proxy/kubeconfig.conf");
    let kubeconfig: kube::config::Kubeconfig = serde_saphyr::from_str(&data["kubeconfig.conf"]).unwrap();
    let context = kubeconfig.contexts[0].context.as_ref().unwrap();
    assert_eq!(kubeconfig.current_context.as_ref(), Some(&kubeconfig.contexts[0].name));
    assert_eq!(context.cluster, kubeconfig.clusters[0].name);
    assert_eq!(context.user.as_ref(), Some(&kubeconfig.auth_infos[0].name));
    let token = kubeconfig.auth_infos[0].auth_info.as_ref().unwrap().token_file.clone();
    assert_eq!(token.as_deref(), Some("/var/run/secrets/kubernetes.io/serviceaccount/token"));
}

/// `verb resource.group` of every permission.
fn permissions(role: &ClusterRole) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for rule in role.rules.as_ref().unwrap() {
        assert!(rule.resource_names.is_none() && rule.non_resource_urls.is_none());
        for group in rule.api_groups.as_ref().unwrap() {
            for resource in rule.resources.as_ref().unwrap() {
                let name = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
                all.extend(rule.verbs.iter().map(|verb| format!("{verb} {name}")));
            }
        }
    }
    all
}

/// What the program asks for and nothing else: it lists and watches what its source follows, and it posts events.
#[test]
fn rights_are_those_that_are_used() {
    let followed = weir::source::kube::followed();
    let mut used: BTreeSet<String> =
        followed.iter().flat_map(|name| [format!("list {name}"), format!("watch {name}")]).collect();
    used.extend(["create", "patch"].map(|verb| format!("{verb} events.events.k8s.io")));
    let role: ClusterRole = object("deploy/rbac.yaml", "ClusterRole");
    assert_eq!(permissions(&role), used);
}

#[test]
fn the_account_is_bound_to_the_role() {
    let account: ServiceAccount = object("deploy/rbac.yaml", "ServiceAccount");
    let role: ClusterRole = object("deploy/rbac.yaml", "ClusterRole");
    let binding: ClusterRoleBinding = object("deploy/rbac.yaml", "ClusterRoleBinding");
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    let [subject] = &binding.subjects.unwrap()[..] else { panic!("one subject") };
    assert_eq!(Some(&subject.name), account.metadata.name.as_ref());
    assert_eq!(subject.namespace, account.metadata.namespace);
    assert_eq!(account.metadata.name, daemon_set().spec.unwrap().template.spec.unwrap().service_account_name);
}
