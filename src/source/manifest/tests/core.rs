//! The pure core: what becomes of changes of files.

use super::*;
use crate::source::wire::Problem;

#[test]
fn only_what_differs_is_sent() {
    let mut folder = folder();
    let a = file("a.yaml");
    folder.update(&a, (service("x", 1) + "---\n" + &service("y", 2)).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["+x:1", "+y:2"]);
    folder.update(&a, (service("x", 1) + "---\n" + &service("y", 3) + "---\n" + &service("z", 4)).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["+y:3", "+z:4"]);
    folder.update(&a, service("z", 4).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["-x", "-y"]);
    folder.update(&a, format!("# a comment\n{}", service("z", 4)).as_bytes());
    assert_eq!(services(&folder.settle().updates), [""; 0]);
    folder.remove(&a);
    assert_eq!(services(&folder.settle().updates), ["-z"]);
    assert_eq!(folder.files().count(), 0);
}

#[test]
fn changes_of_many_files_are_one_batch_and_there_and_back_is_nothing() {
    let mut folder = folder();
    folder.update(&file("a.yaml"), service("x", 1).as_bytes());
    folder.update(&file("b.yaml"), service("y", 2).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["+x:1", "+y:2"]);
    folder.update(&file("a.yaml"), service("x", 5).as_bytes());
    folder.update(&file("a.yaml"), service("x", 1).as_bytes());
    folder.remove(&file("b.yaml"));
    assert_eq!(services(&folder.settle().updates), ["-y"]);
}

#[test]
fn an_object_may_move_to_another_file() {
    let mut folder = folder();
    folder.update(&file("b.yaml"), service("x", 1).as_bytes());
    folder.settle();
    folder.remove(&file("b.yaml"));
    folder.update(&file("a.yaml"), service("x", 1).as_bytes());
    let settled = folder.settle();
    assert_eq!((settled.updates, settled.notices), (vec![], vec![]));
}

#[test]
fn a_broken_file_keeps_what_it_said_and_is_reported_once() {
    let mut folder = folder();
    let (a, b) = (file("a.yaml"), file("b.yaml"));
    folder.update(&a, service("x", 1).as_bytes());
    folder.settle();
    folder.update(&a, b"apiVersion: v1\nkind: Service\nmetadata: [\n");
    folder.update(&b, service("y", 2).as_bytes());
    let settled = folder.settle();
    assert_eq!(services(&settled.updates), ["+y:2"]);
    assert!(matches!(settled.notices.as_slice(), [Notice::Broken(error)] if *error.file == *a));
    assert_eq!(folder.summary().errors.len(), 1);
    assert_eq!(folder.summary().objects, 2);
    // The same mistake again is no news.
    folder.update(&a, b"apiVersion: v1\nkind: Service\nmetadata: [\n");
    assert_eq!(folder.settle().notices, []);
    folder.update(&a, service("x", 7).as_bytes());
    let settled = folder.settle();
    assert_eq!(services(&settled.updates), ["+x:7"]);
    assert_eq!(settled.notices, [Notice::Fixed(a)]);
    assert!(folder.summary().errors.is_empty());
}

#[test]
fn one_mistake_rejects_the_whole_file() {
    let mut folder = folder();
    let text = service("x", 1) + "---\n" + &service("y", 2).replace("port: 2", "port: two");
    folder.update(&file("a.yaml"), text.as_bytes());
    assert_eq!(folder.settle().updates, []);
}

#[test]
fn a_broken_file_that_goes_takes_its_objects_with_it() {
    let mut folder = folder();
    let a = file("a.yaml");
    folder.update(&a, service("x", 1).as_bytes());
    folder.settle();
    folder.fail(&a, "cannot read it: Permission denied".to_owned());
    assert_eq!(folder.settle().updates, []);
    folder.remove(&a);
    assert_eq!(services(&folder.settle().updates), ["-x"]);
    assert!(folder.summary().errors.is_empty());
}

#[test]
fn of_two_files_with_an_object_the_first_in_name_order_wins() {
    let mut folder = folder();
    let (a, b, c) = (file("a.yaml"), file("b.yaml"), file("c.yaml"));
    folder.update(&b, service("x", 2).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["+x:2"]);
    folder.update(&c, service("x", 3).as_bytes());
    let settled = folder.settle();
    assert_eq!(settled.updates, []);
    let duplicate = |files: &[&FileName]| {
        let files = files.iter().map(|file| (*file).clone()).collect();
        Notice::Duplicate(crate::source::manifest::Duplicate { object: key(Kind::Service, "default", "x"), files })
    };
    assert_eq!(settled.notices, [duplicate(&[&b, &c])]);
    // A change of a file is no reason to say it again.
    folder.update(&c, service("x", 4).as_bytes());
    let settled = folder.settle();
    assert_eq!((settled.updates, settled.notices), (vec![], vec![]));
    folder.update(&a, service("x", 1).as_bytes());
    let settled = folder.settle();
    assert_eq!(services(&settled.updates), ["+x:1"]);
    assert_eq!(settled.notices, [duplicate(&[&a, &b, &c])]);
    // The winners go, the last one takes over.
    folder.remove(&a);
    folder.update(&b, b"");
    let settled = folder.settle();
    assert_eq!(services(&settled.updates), ["+x:4"]);
    assert_eq!(settled.notices, []);
    assert_eq!(folder.summary().duplicates, 0);
}

#[test]
fn an_unselected_object_hides_the_same_object_of_a_later_file() {
    let hidden =
        service("x", 1).replace("  name: x", "  name: x\n  labels: {service.kubernetes.io/service-proxy-name: other}");
    let mut folder = folder();
    folder.update(&file("b.yaml"), service("x", 2).as_bytes());
    folder.settle();
    folder.update(&file("a.yaml"), hidden.as_bytes());
    let settled = folder.settle();
    assert_eq!(services(&settled.updates), ["-x"]);
    assert!(matches!(settled.notices.as_slice(), [Notice::Duplicate(_)]));
    folder.update(&file("a.yaml"), service("x", 1).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["+x:1"]);
}

#[test]
fn a_problem_is_reported_once_and_again_only_after_it_was_gone() {
    let mut folder = folder();
    let a = file("a.yaml");
    let bad = service("x", 0);
    let problem = Problem {
        object: "Service default/x".to_owned(),
        field: "spec.ports[0].port".to_owned(),
        value: "0".to_owned(),
        expected: "a port from 1 to 65535",
    };
    folder.update(&a, bad.as_bytes());
    let settled = folder.settle();
    assert_eq!(services(&settled.updates), ["+x:0"], "the service is served without the port");
    assert_eq!(settled.notices, [Notice::LeftOut(a.clone(), problem.clone())]);
    assert_eq!(folder.summary().problems, 1);
    folder.update(&a, format!("{bad}---\n{}", service("y", 1)).as_bytes());
    assert_eq!(folder.settle().notices, []);
    folder.update(&a, service("x", 1).as_bytes());
    folder.settle();
    assert_eq!(folder.summary().problems, 0);
    folder.update(&a, bad.as_bytes());
    assert_eq!(folder.settle().notices, [Notice::LeftOut(a, problem)]);
}

#[test]
fn all_has_every_kind_even_without_objects() {
    let mut folder = folder();
    let kinds = |updates: &[Update]| -> Vec<(Kind, usize)> {
        let sizes = updates.iter().map(|update| match update {
            Update::Replace { kind, facts } => (*kind, facts.len()),
            other => panic!("{other:?}"),
        });
        sizes.collect()
    };
    let empty = [(Kind::Service, 0), (Kind::EndpointSlice, 0), (Kind::Node, 0), (Kind::ServiceCidr, 0)];
    assert_eq!(kinds(&folder.all()), empty);
    folder.update(&file("a.yaml"), service("x", 1).as_bytes());
    folder.settle();
    assert_eq!(services(&folder.all()), ["=x:1"]);
}

#[test]
fn a_kind_that_is_not_read_is_counted_and_named_once() {
    let mut folder = folder();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {ports: what}\n";
    folder.update(&file("a.yaml"), format!("{pod}---\n{pod}").as_bytes());
    folder.update(&file("b.yaml"), pod.as_bytes());
    let settled = folder.settle();
    assert_eq!(settled.notices, [Notice::Ignored { kind: "v1 Pod".to_owned() }]);
    assert_eq!(folder.summary().ignored.get("v1 Pod"), Some(&3));
    assert_eq!(folder.summary().files, 2);
}

#[test]
fn a_change_in_a_folder_of_thousands_touches_its_object_only() {
    let mut folder = folder();
    for i in 0..2000 {
        folder.update(&file(&format!("{i}.json")), serde_json_service(&format!("s{i}"), 1).as_bytes());
    }
    assert_eq!(folder.settle().updates.len(), 2000);
    folder.update(&file("7.json"), serde_json_service("s7", 2).as_bytes());
    assert_eq!(services(&folder.settle().updates), ["+s7:2"]);
    assert_eq!(folder.summary().objects, 2000);
}

fn serde_json_service(name: &str, port: u16) -> String {
    let metadata = serde_json::json!({"name": name});
    let spec = serde_json::json!({"clusterIP": "10.0.0.1", "ports": [{"port": port}]});
    serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}).to_string()
}
