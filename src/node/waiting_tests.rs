use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn waiting(pod_cidrs: bool) -> Waiting {
    Waiting::new(WaitsFor { node: "n1".to_owned(), pod_cidrs }, Limits::default())
}

fn node(ips: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        name: "n1".into(),
        ips: ips.iter().map(|text| text.parse().unwrap()).collect(),
        pod_cidrs: pod_cidrs.iter().map(|text| text.parse().unwrap()).collect(),
        ..Node::default()
    }
}

fn told(step: &Step) -> Option<String> {
    match step {
        Step::Wait { told, .. } | Step::Go { told } => told.as_ref().map(ToString::to_string),
        Step::Fail(error) => panic!("{error}"),
    }
}

const GO: Step = Step::Go { told: None };

#[test]
fn a_node_that_is_there_is_not_waited_for() {
    let node = node(&["10.0.0.1"], &["10.244.0.0/24"]);
    for pod_cidrs in [false, true] {
        assert_eq!(waiting(pod_cidrs).look(s(7), true, Some(&node)), GO);
    }
}

#[test]
fn the_first_list_is_waited_for_as_long_as_it_takes() {
    let mut waiting = waiting(true);
    for now in [0, 30, 10_000] {
        assert_eq!(waiting.look(s(now), false, None), Step::Wait { until: None, told: None });
    }
    let step = waiting.look(s(10_001), true, None);
    assert!(matches!(step, Step::Wait { until: Some(until), .. } if until == s(10_031)), "{step:?}");
}

#[test]
fn each_state_is_told_once() {
    let mut waiting = waiting(true);
    let first = told(&waiting.look(s(0), true, None)).unwrap();
    assert!(first.starts_with("waiting up to 30s for node \"n1\" to exist"), "{first}");
    assert_eq!(told(&waiting.look(s(1), true, None)), None);
    let bare = node(&[], &[]);
    let second = told(&waiting.look(s(2), true, Some(&bare))).unwrap();
    assert_eq!(second, "waiting up to 30s for node \"n1\" to be assigned IPs");
    assert_eq!(told(&waiting.look(s(3), true, Some(&bare))), None);
    let with_address = node(&["10.0.0.1"], &[]);
    let third = waiting.look(s(4), true, Some(&with_address));
    assert!(matches!(third, Step::Wait { until: Some(until), .. } if until == s(304)), "{third:?}");
    assert!(told(&third).unwrap().starts_with("waiting up to 300s for PodCIDR allocation on node \"n1\""));
    assert_eq!(told(&waiting.look(s(5), true, Some(&with_address))), None);
    assert_eq!(waiting.look(s(200), true, Some(&node(&["10.0.0.1"], &["10.244.0.0/24"]))), GO);
}

#[test]
fn without_an_address_it_goes_on_after_the_time() {
    let mut nobody = waiting(false);
    assert!(told(&nobody.look(s(0), true, None)).is_some());
    assert!(matches!(nobody.look(s(29), true, None), Step::Wait { .. }));
    let step = nobody.look(s(30), true, None);
    let Step::Go { told: Some(told) } = step else { panic!("{step:?}") };
    assert!(told.is_warning() && told.to_string().starts_with("there is no node \"n1\": going on"), "{told}");

    let mut bare = waiting(false);
    bare.look(s(0), true, Some(&node(&[], &[])));
    let step = bare.look(s(31), true, Some(&node(&[], &[])));
    let Step::Go { told: Some(told) } = step else { panic!("{step:?}") };
    assert!(told.to_string().starts_with("node \"n1\" has no addresses: going on"), "{told}");
}

#[test]
fn without_pod_networks_it_fails_after_the_time() {
    let mut nobody = waiting(true);
    nobody.look(s(0), true, None);
    assert!(matches!(nobody.look(s(30), true, None), Step::Wait { until: Some(until), .. } if until == s(330)));
    let step = nobody.look(s(330), true, None);
    let Step::Fail(error) = step else { panic!("{step:?}") };
    assert!(error.to_string().starts_with("timeout waiting for node \"n1\" to exist"), "{error}");

    let mut bare = waiting(true);
    let with_address = node(&["10.0.0.1"], &[]);
    bare.look(s(0), true, Some(&with_address));
    assert!(matches!(bare.look(s(299), true, Some(&with_address)), Step::Wait { .. }));
    let step = bare.look(s(300), true, Some(&with_address));
    let Step::Fail(error) = step else { panic!("{step:?}") };
    assert!(error.to_string().starts_with("timeout waiting for PodCIDR allocation on node \"n1\""), "{error}");
}

/// A node with networks and without an address serves: kube-proxy goes on, too.
#[test]
fn networks_without_an_address() {
    let mut odd = waiting(true);
    let no_address = node(&[], &["10.244.0.0/24"]);
    assert!(matches!(odd.look(s(0), true, Some(&no_address)), Step::Wait { .. }));
    let step = odd.look(s(30), true, Some(&no_address));
    assert!(matches!(step, Step::Go { told: Some(Told::NoAddress { .. }) }), "{step:?}");
}
