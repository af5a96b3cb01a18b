//! Nothing that a file can say panics, and the core depends on the files only, not on their history.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Bytes that look more like manifests than noise does.
fn almost_manifest() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("apiVersion: v1\n"),
        Just("kind: Service\n"),
        Just("kind: List\n"),
        Just("kind: EndpointSliceList\n"),
        Just("metadata:\n"),
        Just("  name: x\n"),
        Just("spec: {"),
        Just("}"),
        Just("[ "),
        Just("]"),
        Just("items:\n"),
        Just("- "),
        Just("---\n"),
        Just("...\n"),
        Just("&a "),
        Just("*a"),
        Just("<<: "),
        Just("? "),
        Just(": "),
        Just("|\n"),
        Just("> "),
        Just("!!int "),
        Just("!!binary "),
        Just("\t"),
        Just("%YAML 1.2\n"),
        Just("\""),
        Just("'"),
        Just("ports: "),
        Just("port: 99999999999999999999\n"),
        Just("\u{feff}"),
        Just("\r"),
        Just("\0"),
        Just("{\"kind\":"),
        Just("\"\\ud800\""),
        Just("1e999"),
        Just(","),
        Just("\n"),
        Just("    "),
    ];
    vec(prop_oneof![4 => word.prop_map(|word| word.as_bytes().to_vec()), 1 => vec(any::<u8>(), 0..4)], 0..40)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), json in any::<bool>()) {
        let mut folder = folder();
        folder.update(&file(if json { "a.json" } else { "a.yaml" }), &bytes);
        prop_assert!(folder.settle().notices.len() <= 1);
    }

    #[test]
    fn almost_manifests_never_panic(bytes in almost_manifest(), json in any::<bool>()) {
        let mut folder = folder();
        folder.update(&file(if json { "a.json" } else { "a.yaml" }), &bytes);
        for error in folder.errors() {
            let text = error.to_string();
            prop_assert!(!text.contains('\n'), "one line: {text:?}");
            prop_assert!(error.place.is_some(), "a place: {text:?}");
        }
        folder.settle();
    }

    /// However the files came to be what they are, the facts are those of a fresh read, and the batches lead there.
    #[test]
    fn the_state_depends_on_the_files_not_on_the_path(
        steps in vec((0..4u8, prop_oneof![Just(None), vec((0..4u8, 1..4u16), 0..4).prop_map(Some)], any::<bool>()), 0..20)
    ) {
        let mut folder = folder();
        let mut texts = std::collections::BTreeMap::new();
        let mut sent = std::collections::BTreeMap::new();
        for (name, content, settle) in steps {
            let name = file(&format!("{name}.json"));
            match content {
                None => {
                    folder.remove(&name);
                    texts.remove(&name);
                }
                Some(objects) => {
                    let objects: std::collections::BTreeMap<_, _> = objects.into_iter().collect();
                    let text: String = objects
                        .iter()
                        .map(|(name, port)| format!(
                            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s{name}"}},"spec":{{"clusterIP":"10.0.0.1","ports":[{{"port":{port}}}]}}}}"#
                        ))
                        .collect();
                    folder.update(&name, text.as_bytes());
                    texts.insert(name, text);
                }
            }
            if settle {
                apply(&mut sent, folder.settle().updates);
            }
        }
        apply(&mut sent, folder.settle().updates);
        let mut fresh = super::folder();
        for (name, text) in &texts {
            fresh.update(name, text.as_bytes());
        }
        fresh.settle();
        prop_assert_eq!(folder.all(), fresh.all());
        let all: Vec<Fact> = sent.into_values().collect();
        prop_assert_eq!(&fresh.all()[0], &Update::Replace { kind: Kind::Service, facts: all });
        prop_assert_eq!(folder.summary(), fresh.summary());
    }
}

/// Applies a batch; each update must change something.
fn apply(facts: &mut std::collections::BTreeMap<FactKey, Fact>, updates: Vec<Update>) {
    for update in updates {
        match update {
            Update::Upsert(fact) => {
                assert_ne!(facts.insert(fact.key(), fact.clone()), Some(fact), "sent without need");
            }
            Update::Delete(key) => assert!(facts.remove(&key).is_some(), "deleted without need"),
            Update::Replace { .. } => panic!("nothing replaces after the start"),
        }
    }
}
