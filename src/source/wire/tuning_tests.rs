use proptest::collection::btree_map;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kernel::ipvs::{Scheduler, ServerFlags};
use crate::source::wire::{Annotations, Service, Text};
use crate::state;

/// The fact and the problems of a Service with these annotations.
fn annotated(annotations: Value) -> (state::Service, Vec<String>) {
    let object = json!({"metadata": {"name": "svc", "namespace": "ns", "annotations": annotations}});
    let object: Service = serde_json::from_value(object).unwrap();
    let (fact, problems) = object.to_fact(&mut Interner::default());
    (fact, problems.iter().map(ToString::to_string).collect())
}

/// What annotations that have no problems ask for.
fn good(annotations: Value) -> Tuning {
    let (fact, problems) = annotated(annotations);
    assert_eq!(problems, [""; 0]);
    fact.tuning.as_deref().cloned().unwrap_or_default()
}

fn weights(nodes: &[(&str, u16)], zones: &[(&str, u16)]) -> Weights {
    let map = |entries: &[(&str, u16)]| entries.iter().map(|(name, weight)| (Arc::from(*name), *weight)).collect();
    Weights { nodes: map(nodes), zones: map(zones) }
}

#[test]
fn services_without_them_have_none() {
    for annotations in [
        Value::Null,
        json!({}),
        json!({"a": "b", "weir.dev/other": "c", "endpoints.kubernetes.io/last-change-trigger-time": "d"}),
        json!({"weir.dev/scheduler": "", "weir.dev/weights": " ", "kube-router.io/service.schedflags": null}),
    ] {
        let (fact, problems) = annotated(annotations.clone());
        assert_eq!((fact.tuning, problems.len()), (None, 0), "{annotations}");
    }
    // One word beside the two texts, whatever there could be.
    let text = size_of::<Option<Text<'_>>>();
    assert_eq!(size_of::<Annotations<Text<'_>>>(), 2 * text + size_of::<usize>());
}

#[test]
fn each_annotation_is_read() {
    let tuning = good(json!({
        "weir.dev/scheduler": " lc\n", "weir.dev/scheduler-flags": "flag-3", "weir.dev/drain-seconds": "600",
        "weir.dev/weights": "zone=a:3, zone=b:1 ,node=n1.example:5",
    }));
    let expected = Tuning {
        scheduler: Some("lc".into()),
        scheduler_flags: 0x20,
        weights: weights(&[("n1.example", 5)], &[("a", 3), ("b", 1)]),
        drain_seconds: Some(600),
    };
    assert_eq!(tuning, expected);
}

#[test]
fn flags_by_name() {
    let flags = |text: &str| ServerFlags(good(json!({"weir.dev/scheduler-flags": text})).scheduler_flags);
    assert_eq!(flags("flag-1"), ServerFlags::SCHED_1);
    assert_eq!(flags("flag-2"), ServerFlags::SCHED_2);
    assert_eq!(flags("flag-3"), ServerFlags::SCHED_3);
    for scheduler in ["sh", "mh"] {
        assert_eq!(flags(&format!("{scheduler}-fallback")), ServerFlags::SCHED_1);
        assert_eq!(flags(&format!("{scheduler}-port")), ServerFlags::SCHED_2);
        let both = flags(&format!("{scheduler}-port, {scheduler}-fallback,flag-1"));
        assert_eq!(both, ServerFlags::SCHED_1.with(ServerFlags::SCHED_2));
    }
}

/// kube-router's names mean the same; where both are there, ours count, also if they cannot be read.
#[test]
fn annotations_of_kube_router() {
    let router = json!({"kube-router.io/service.scheduler": "sh", "kube-router.io/service.schedflags": "sh-port"});
    let tuning = good(router.clone());
    assert_eq!((tuning.scheduler.as_deref(), tuning.scheduler_flags), (Some("sh"), 0x10));
    let with = |ours: Value| {
        let mut all = router.clone();
        all.as_object_mut().unwrap().extend(ours.as_object().unwrap().clone());
        let (fact, problems) = annotated(all);
        let tuning = fact.tuning.as_deref().cloned().unwrap_or_default();
        (tuning.scheduler.map(|name| name.to_string()), tuning.scheduler_flags, problems.len())
    };
    let sh = || Some("sh".to_owned());
    assert_eq!(with(json!({"weir.dev/scheduler": "lc"})), (Some("lc".to_owned()), 0x10, 0));
    assert_eq!(with(json!({"weir.dev/scheduler-flags": "flag-1"})), (sh(), 0x8, 0));
    assert_eq!(with(json!({"weir.dev/scheduler": "", "weir.dev/scheduler-flags": " "})), (sh(), 0x10, 0));
    assert_eq!(with(json!({"weir.dev/scheduler": "l c"})), (None, 0x10, 1));
    assert_eq!(with(json!({"weir.dev/scheduler-flags": "fast"})), (sh(), 0, 1));
}

/// What is wrong with one annotation leaves the others alone.
#[test]
fn annotations_that_make_no_sense() {
    let scheduler = "the name of a scheduler such as rr, lc or sh: 1 to 15 letters, digits, hyphens and underscores";
    let flags = "a list of flag-1, flag-2, flag-3, sh-fallback, sh-port, mh-fallback and mh-port";
    let weights = "a list such as zone=a:3,zone=b:1,node=n1:5, each name once, weights from 0 to 65535";
    let seconds = format!("seconds, a whole number from 0 to {}", Tuning::MAX_DRAIN_SECONDS);
    let cases: [(&str, &[&str], &str); 6] = [
        ("weir.dev/scheduler", &["least connections", "a-name-too-long1", "rr;", "öl"], scheduler),
        ("kube-router.io/service.scheduler", &["a/b"], scheduler),
        ("weir.dev/scheduler-flags", &["port", "sh-port,", "flag-4", "SH-PORT", "sh-port sh-fallback", "16"], flags),
        ("kube-router.io/service.schedflags", &["flag1"], flags),
        (
            "weir.dev/weights",
            &[
                "3",
                "zone=a",
                "zone=a:",
                "zone=a:-1",
                "zone=a:+1",
                "zone=a:65536",
                "zone=a:99999999999",
                "zone=:1",
                "zone=a:1,",
                "zone=a:1,zone=a:2",
                "node=n:1,zone=a:1,node=n:1",
                "rack=a:1",
                "zone:a=1",
                "zone=a b:1",
                "zone=a:1:2",
                "zone=a:1;zone=b:2",
                "zone=a: 1",
                "Zone=a:1",
                "zone=\"a\":1",
            ],
            weights,
        ),
        ("weir.dev/drain-seconds", &["-1", "+1", "10m", "1.5", "31536001", "4294967296", "0x10", "soon"], &seconds),
    ];
    for (annotation, values, expected) in cases {
        for value in values {
            let mut all = json!({
                "weir.dev/scheduler": "wlc", "weir.dev/scheduler-flags": "flag-1", "weir.dev/weights": "zone=z:2",
                "weir.dev/drain-seconds": "7",
            });
            let ours = match annotation {
                "kube-router.io/service.scheduler" => "weir.dev/scheduler",
                "kube-router.io/service.schedflags" => "weir.dev/scheduler-flags",
                ours => ours,
            };
            all.as_object_mut().unwrap().remove(ours);
            let rest = good(all.clone());
            all[annotation] = json!(value);
            let (fact, problems) = annotated(all);
            let line = format!(
                "Service ns/svc: metadata.annotations[{annotation}]: {value:?} is left out: expected {expected}"
            );
            assert_eq!(problems, [line]);
            assert_eq!(fact.tuning.as_deref(), Some(&rest), "{annotation}: {value}");
        }
    }
}

#[test]
fn limits_are_inside() {
    let tuning = good(json!({
        "weir.dev/weights": "zone=a:0,node=a:65535", "weir.dev/drain-seconds": Tuning::MAX_DRAIN_SECONDS.to_string(),
        "weir.dev/scheduler": "fifteen-letters",
    }));
    assert_eq!(tuning.weights, weights(&[("a", 65535)], &[("a", 0)]));
    assert_eq!(tuning.drain_seconds, Some(Tuning::MAX_DRAIN_SECONDS));
    assert_eq!(good(json!({"weir.dev/drain-seconds": "0"})).drain_seconds, Some(0));
}

#[test]
fn a_long_value_is_told_in_short() {
    let value = "é".repeat(100_000);
    let (fact, problems) = annotated(json!({"weir.dev/weights": value}));
    assert_eq!(fact.tuning, None);
    let [problem] = problems.as_slice() else { panic!("{}", problems.len()) };
    assert!(problem.contains(&format!("{}…", "é".repeat(200))) && problem.len() < 1000, "{problem}");
}

#[test]
fn what_services_ask_for_alike_is_shared_and_forgotten() {
    let mut names = Interner::default();
    let mut fact = |name: &str, weights: &str| {
        let object = json!({"metadata": {"name": name, "annotations": {"weir.dev/weights": weights}}});
        serde_json::from_value::<Service>(object).unwrap().to_fact(&mut names).0
    };
    let (a, b, c) = (fact("a", "zone=z:1,zone=y:2"), fact("b", "zone=y:2, zone=z:1"), fact("c", "zone=z:2"));
    assert!(Arc::ptr_eq(a.tuning.as_ref().unwrap(), b.tuning.as_ref().unwrap()));
    assert_ne!(a.tuning, c.tuning);
    drop((a, b, c));
    names.sweep();
    assert!(names.strings.is_empty());
}

#[test]
fn weights_by_node_then_zone() {
    let weights = weights(&[("n", 5), ("off", 0)], &[("z", 3)]);
    let of = |node: Option<&str>, zone: Option<&str>| {
        let location = state::Location { node: node.map(Arc::from), zone: zone.map(Arc::from), hints: None };
        weights.of(Some(&location))
    };
    assert_eq!(of(Some("n"), Some("z")), 5);
    assert_eq!(of(Some("off"), Some("z")), 0);
    assert_eq!(of(Some("other"), Some("z")), 3);
    assert_eq!(of(None, Some("z")), 3);
    assert_eq!(of(Some("z"), Some("n")), 1, "zones and nodes are not mixed up");
    assert_eq!((of(None, None), weights.of(None)), (1, 1));
}

proptest! {
    /// A name is one here if and only if it is one for the kernel.
    #[test]
    fn names_of_schedulers_are_the_kernels(text in "[a-z0-9_. -]{0,18}|\\PC{0,4}") {
        prop_assert_eq!(is_scheduler(&text).is_some(), Scheduler::new(&text).is_some());
    }

    /// What is written is read, in any order.
    #[test]
    fn weights_are_read_as_written(
        nodes in btree_map("[a-z0-9.-]{1,8}", any::<u16>(), 0..4),
        zones in btree_map("[a-z0-9._-]{1,8}", any::<u16>(), 0..4),
        turn in any::<prop::sample::Index>(),
    ) {
        let entry = |place: &str, (name, weight): (&String, &u16)| format!("{place}={name}:{weight}");
        let mut entries: Vec<String> = nodes.iter().map(|one| entry("node", one)).collect();
        entries.extend(zones.iter().map(|one| entry("zone", one)));
        if !entries.is_empty() {
            let at = turn.index(entries.len());
            entries.rotate_left(at);
        }
        let tuning = good(json!({"weir.dev/weights": entries.join(",")}));
        let shared = |map: std::collections::BTreeMap<String, u16>| map.into_iter().map(|(n, w)| (n.into(), w)).collect();
        prop_assert_eq!(tuning.weights, Weights { nodes: shared(nodes), zones: shared(zones) });
    }

    #[test]
    fn any_text_is_read_or_told(text in "(zone|node|=|:|,|[0-9]|a| |\\PC){0,20}") {
        for annotation in [
            ANNOTATION_SCHEDULER, ANNOTATION_SCHEDULER_FLAGS, ANNOTATION_WEIGHTS, ANNOTATION_DRAIN_SECONDS,
            ANNOTATION_ROUTER_SCHEDULER, ANNOTATION_ROUTER_FLAGS,
        ] {
            let (fact, problems) = annotated(json!({annotation: &text}));
            let is_blank = text.trim().is_empty();
            prop_assert_eq!(usize::from(fact.tuning.is_some()) + problems.len(), usize::from(!is_blank));
        }
    }
}
