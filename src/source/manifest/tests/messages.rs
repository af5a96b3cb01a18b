//! The exact text of error messages: they are what the user works with.

use super::*;

fn check(cases: &[(&str, &str, &str)]) {
    for (name, text, expected) in cases {
        assert_eq!(error(name, text), *expected, "{text}");
    }
}

#[test]
fn yaml_syntax() {
    check(&[
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n   labels: {}\n",
            "a.yaml:5:10: not valid YAML: mapping values are not allowed in this context (is the indentation right?)",
        ),
        (
            "a.yaml",
            "apiVersion: v1\nspec:\n  ports:\n  - port: 80\n   name: http\n",
            "a.yaml:5:4: not valid YAML: while parsing a block mapping, did not find expected key",
        ),
        ("a.yaml", "kind: Service\nkind: Node\n", "a.yaml:2:1: the key \"kind\" is here twice"),
        ("a.yaml", "kind: Service\nspec: [1, 2\n", "a.yaml:2:7: not valid YAML: unclosed bracket '['"),
        ("a.yaml", "spec: *nobody\n", "a.yaml:1:7: not valid YAML: alias references unknown anchor"),
    ]);
}

#[test]
fn json_syntax() {
    check(&[
        ("a.json", "{\"kind\": \"Service\",\n \"spec\": }", "a.json:2:10: not valid JSON: expected value"),
        ("a.json", "{\"kind\": \"Service\"", "a.json:1:18: not valid JSON: EOF while parsing an object"),
        ("a.json", "{\"kind\": 1,}", "a.json:1:12: not valid JSON: key must be a string"),
        ("a.json", "{\"kind\": 1,\n \"kind\": 2}", "a.json:2:10: the key \"kind\" is here twice"),
        ("a.json", "kind: Service\n", "a.json:1:1: not valid JSON: expected value"),
    ]);
}

#[test]
fn wrong_types() {
    let text = |port: &str| service("web", 1).replace("port: 1\n", &format!("port: {port}\n"));
    let number = "expected a whole number, found";
    check(&[
        (
            "a.yaml",
            &text("http"),
            &format!("a.yaml:8:11: spec.ports[0].port: {number} the text \"http\" (Service web)"),
        ),
        (
            "a.yaml",
            &text("\"80\""),
            &format!("a.yaml:8:11: spec.ports[0].port: {number} the text \"80\" (Service web)"),
        ),
        ("a.yaml", &text("8.5"), &format!("a.yaml:8:11: spec.ports[0].port: {number} the number 8.5 (Service web)")),
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  ports: 80\n",
            "a.yaml:7:10: spec.ports: expected a list, found the number 80 (Service shop/web)",
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: 7\n",
            "a.yaml:4:9: metadata.name: expected a text (in quotes, if it looks like something else), found the number 7",
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  labels: {topology.kubernetes.io/zone: 1}\n",
            "a.yaml:5:41: metadata.labels[topology.kubernetes.io/zone]: expected a text (in quotes, if it looks like \
             something else), found the number 1 (Node n)",
        ),
        ("a.yaml", "apiVersion: v1\nkind: Service\nspec: {}\n", "a.yaml:1:1: expected a field \"metadata\""),
        (
            "a.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n \"metadata\": {\"name\": \"web\"},\n \"spec\": {\"ports\": [{\"port\": \"é\"}]}}",
            &format!("a.json:3:30: spec.ports[0].port: {number} the text \"é\" (Service web)"),
        ),
        (
            "a.yaml",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\n\
             endpoints:\n- conditions:\n    ready: maybe\n",
            "a.yaml:7:12: endpoints[0].conditions.ready: expected true or false, found the text \"maybe\" (EndpointSlice s)",
        ),
    ]);
}

#[test]
fn types_of_objects() {
    check(&[
        ("a.yaml", "kind: Service\n", "a.yaml:1:1: expected a field \"apiVersion\": every object has one"),
        ("a.yaml", "apiVersion: v1\n", "a.yaml:1:1: expected a field \"kind\": every object has one"),
        ("a.yaml", "apiVersion: v1\nkind: 1\n", "a.yaml:2:7: kind: expected a text, found the number 1"),
        (
            "a.yaml",
            "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n",
            "a.yaml:1:13: apiVersion: expected \"discovery.k8s.io/v1\" with kind EndpointSlice, found \"discovery.k8s.io/v1beta1\"",
        ),
        (
            "a.yaml",
            "apiVersion: v2\nkind: Service\n",
            "a.yaml:1:13: apiVersion: expected \"v1\" with kind Service, found \"v2\"",
        ),
        (
            "a.yaml",
            "apiVersion: networking.k8s.io/v1alpha1\nkind: ServiceCIDRList\nitems: []\n",
            "a.yaml:1:13: apiVersion: expected \"networking.k8s.io/v1\" with kind ServiceCIDR, found \"networking.k8s.io/v1alpha1\"",
        ),
        ("a.yaml", "- a\n", "a.yaml:1:1: expected an object with apiVersion and kind, found a list"),
        (
            "a.yaml",
            "---\n---\nhello\n",
            "a.yaml:3:1: expected an object with apiVersion and kind, found the text \"hello\"",
        ),
        (
            "a.json",
            "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[7]}",
            "a.json:1:43: expected an object with apiVersion and kind, found the number 7",
        ),
        ("a.yaml", "apiVersion: v1\nkind: ServiceList\nitems: {}\n", "a.yaml:3:8: items: expected a list, found a map"),
        (
            "a.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- metadata: {name: x}\n",
            "a.yaml:4:3: expected a field \"apiVersion\": every object has one",
        ),
    ]);
}

#[test]
fn names_of_objects() {
    let allowed = "at most 253 letters, digits, hyphens, dots and underscores";
    check(&[
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  generateName: x-\n",
            &format!("a.yaml:4:3: metadata.name: expected {allowed}, found nothing"),
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: \"a\\\" -j ACCEPT\\n\"\n",
            &format!("a.yaml:4:9: metadata.name: expected {allowed}, found \"a\\\" -j ACCEPT\\n\""),
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n  namespace: a b\n",
            &format!("a.yaml:5:14: metadata.namespace: expected {allowed}, found \"a b\""),
        ),
    ]);
}

#[test]
fn an_object_twice_in_a_file() {
    let text = service("x", 1) + "---\n" + &service("y", 1) + "---\n" + &service("x", 2);
    assert_eq!(error("a.yaml", &text), "a.yaml:19:1: the same object is in this file twice, first at 1:1 (Service x)");
}

#[test]
fn an_object_in_two_files() {
    let mut folder = folder();
    for name in ["dir/c.yaml", "dir/a.yaml", "dir/b.yaml"] {
        folder.update(&file(name), service("x", 1).as_bytes());
    }
    let notices = folder.settle().notices;
    let texts: Vec<_> = notices
        .iter()
        .map(|notice| match notice {
            Notice::Duplicate(duplicate) => duplicate.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    let text = "Service default/x is in dir/a.yaml and in dir/b.yaml and in dir/c.yaml: the one in dir/a.yaml is used";
    assert_eq!(texts, [text]);
}

#[test]
fn other_encodings() {
    let mut folder = folder();
    folder.update(&file("a.yaml"), b"# caf\xe9\n");
    folder.update(&file("b.yaml"), b"kind: x\n\xff\xfe");
    let errors: Vec<_> = folder.errors().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "a.yaml:1:6: not UTF-8: expected YAML or JSON text in UTF-8",
            "b.yaml:2:1: not UTF-8: expected YAML or JSON text in UTF-8"
        ]
    );
}

#[test]
fn a_bomb_of_aliases() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..12 {
        let previous = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", [previous.as_str(); 9].join(", "));
    }
    let message = error("a.yaml", &text);
    let expected = "nested too deeply, or too much is repeated through anchors and aliases: write it out";
    assert!(message.starts_with("a.yaml:") && message.ends_with(expected), "{message}");
}

#[test]
fn long_values_are_shortened() {
    let text = service("x", 1).replace("port: 1\n", &format!("port: {}\n", "é".repeat(1000)));
    let shown = format!("{}...", "é".repeat(60));
    let message =
        format!("a.yaml:8:11: spec.ports[0].port: expected a whole number, found the text \"{shown}\" (Service x)");
    assert_eq!(error("a.yaml", &text), message);
}
