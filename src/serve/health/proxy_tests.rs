//! Rows S16 to S30: what is answered, to the byte.

use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use http::Request;

use super::*;
use crate::net::PerFamily;

const OK: u16 = 200;
const UNAVAILABLE: u16 = 503;

/// A proxy whose families, node and clock are what a test says.
struct Fake {
    health: Arc<ProxyHealth>,
    families: Arc<Mutex<PerFamily<FamilyHealth>>>,
    node: watch::Sender<NodeEligibility>,
    now: Arc<Mutex<u64>>,
    probes: Arc<Mutex<Vec<(Probe, u16)>>>,
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_262_400 + second)
}

impl Fake {
    fn new() -> Self {
        Fake::with_remarks(Vec::new)
    }

    fn with_remarks(remarks: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        let families = Arc::new(Mutex::new(PerFamily::<FamilyHealth>::default()));
        let now = Arc::new(Mutex::new(0));
        let (node, receiver) = watch::channel(NodeEligibility::Eligible);
        let (asked, clock) = (families.clone(), now.clone());
        let probes = Arc::new(Mutex::new(Vec::new()));
        let sources = Sources::new(move |family| asked.lock().unwrap().get(family).clone(), receiver)
            .with_remarks(remarks)
            .with_probes({
                let probes = probes.clone();
                move |probe, code| probes.lock().unwrap().push((probe, code.as_u16()))
            })
            .with_clock(move || at(*clock.lock().unwrap()));
        Fake { health: ProxyHealth::new(sources), families, node, now, probes }
    }

    /// Both families updated at second 1, and it is second 9.
    fn updated() -> Self {
        let fake = Fake::new();
        fake.family(Family::V4, 1, true);
        fake.family(Family::V6, 1, true);
        *fake.now.lock().unwrap() = 9;
        fake
    }

    fn family(&self, family: Family, updated: u64, healthy: bool) {
        let reason = (!healthy).then(|| format!("{family}: late"));
        *self.families.lock().unwrap().get_mut(family) =
            FamilyHealth { healthy, last_updated: Some(at(updated)), reason };
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
        let response = self.health.handler().answer(parts, Bytes::new()).await;
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }
}

/// With seconds of 2026-11-21 12:00 as `<9>`.
fn golden(code: u16, body: &str) -> (u16, String) {
    let mut body = body.replace('<', "\"2026-11-21T12:00:0").replace('>', "Z\"");
    body = body.replace("never", "\"0001-01-01T00:00:00Z\"");
    (code, body)
}

#[tokio::test]
async fn s16_before_any_update() {
    let fake = Fake::new();
    let expected = r#"{"lastUpdated":<0>,"currentTime":<0>,"nodeEligible":true,"healthy":true}"#;
    assert_eq!(fake.get("/healthz").await, golden(OK, expected));
    assert_eq!(fake.get("/livez").await, golden(OK, r#"{"lastUpdated":<0>,"currentTime":<0>,"healthy":true}"#));
}

#[tokio::test]
async fn s17_to_s22_the_families() {
    let fake = Fake::updated();
    let well = r#"{"lastUpdated":<9>,"currentTime":<9>,"nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":<1>,"healthy":true},"IPv6":{"lastUpdated":<1>,"healthy":true}}}"#;
    assert_eq!(fake.get("/healthz").await, golden(OK, well), "S17, S18");

    fake.family(Family::V4, 3, true);
    fake.family(Family::V6, 2, false);
    let late = r#"{"lastUpdated":<3>,"currentTime":<9>,"nodeEligible":true,"healthy":false,"status":{"IPv4":{"lastUpdated":<3>,"healthy":true},"IPv6":{"lastUpdated":<2>,"healthy":false}},"reasons":["IPv6: late"]}"#;
    assert_eq!(fake.get("/healthz").await, golden(UNAVAILABLE, late), "S19");
    assert!(!fake.health.is_healthy());
    let without_node = late.replace(r#""nodeEligible":true,"#, "");
    assert_eq!(fake.get("/livez").await, golden(UNAVAILABLE, &without_node), "S29");

    fake.family(Family::V6, 4, true);
    assert_eq!(fake.get("/healthz").await.0, OK, "S20");
    assert!(fake.health.is_healthy());
    fake.family(Family::V4, 4, false);
    fake.family(Family::V6, 4, false);
    assert_eq!(fake.get("/healthz").await.0, UNAVAILABLE, "S21");
    fake.family(Family::V4, 5, true);
    assert_eq!(fake.get("/healthz").await.0, UNAVAILABLE, "S21");
}

#[tokio::test]
async fn one_family_alone() {
    let fake = Fake::new();
    fake.family(Family::V6, 0, true);
    let expected =
        r#"{"lastUpdated":<0>,"currentTime":<0>,"healthy":true,"status":{"IPv6":{"lastUpdated":<0>,"healthy":true}}}"#;
    assert_eq!(fake.get("/livez").await, golden(OK, expected));
}

#[tokio::test]
async fn s23_to_s28_the_node() {
    let fake = Fake::updated();
    for (row, eligibility, code, reason) in [
        ("S23", NodeEligibility::Eligible, OK, ""),
        ("S24, S26", NodeEligibility::Leaving, UNAVAILABLE, "the node is being removed from the cluster"),
        ("S25", NodeEligibility::Eligible, OK, ""),
        ("S27", NodeEligibility::Unknown, UNAVAILABLE, "the Node object was not seen yet"),
        ("deleted", NodeEligibility::Gone, UNAVAILABLE, "the Node object was deleted"),
    ] {
        fake.node.send_replace(eligibility);
        let (last, eligible) = if code == OK { ("<9>", "true") } else { ("<1>", "false") };
        let status =
            r#""status":{"IPv4":{"lastUpdated":<1>,"healthy":true},"IPv6":{"lastUpdated":<1>,"healthy":true}}"#;
        let reasons = if reason.is_empty() { String::new() } else { format!(r#","reasons":["{reason}"]"#) };
        let expected = format!(
            r#"{{"lastUpdated":{last},"currentTime":<9>,"nodeEligible":{eligible},"healthy":true,{status}{reasons}}}"#
        );
        assert_eq!(fake.get("/healthz").await, golden(code, &expected), "{row}");
        assert!(fake.health.is_healthy(), "{row}");
        let livez = format!(r#"{{"lastUpdated":<9>,"currentTime":<9>,"healthy":true,{status}}}"#);
        assert_eq!(fake.get("/livez").await, golden(OK, &livez), "S28 in {row}");
    }
    // Whoever tells of the node is gone: the last that was told stays.
    fake.node.send_replace(NodeEligibility::Eligible);
    let Fake { health, node, now, families, probes } = fake;
    drop(node);
    let (node, _) = watch::channel(NodeEligibility::Unknown);
    assert_eq!(Fake { health, node, now, families, probes }.get("/healthz").await.0, OK);
}

#[tokio::test]
async fn a_503_without_any_update_has_the_zero_time() {
    let fake = Fake::new();
    fake.node.send_replace(NodeEligibility::Unknown);
    let (code, body) = fake.get("/healthz").await;
    assert_eq!(code, UNAVAILABLE);
    assert!(
        body.starts_with(r#"{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"2026-11-21T12:00:00Z","#),
        "{body}"
    );
}

#[tokio::test]
async fn who_is_about_to_stop_fails_everywhere() {
    let fake = Fake::updated();
    fake.health.start_stopping();
    assert!(!fake.health.is_healthy());
    let expected = r#"{"lastUpdated":<1>,"currentTime":<9>,"healthy":false,"status":{"IPv4":{"lastUpdated":<1>,"healthy":true},"IPv6":{"lastUpdated":<1>,"healthy":true}},"reasons":["this proxy is about to stop; its rules stay"]}"#;
    assert_eq!(fake.get("/livez").await, golden(UNAVAILABLE, expected));
    assert_eq!(fake.get("/healthz").await.0, UNAVAILABLE);
}

#[tokio::test]
async fn remarks_change_no_code() {
    let fake = Fake::with_remarks(|| vec!["the API server \"x\" is out of reach".to_owned()]);
    let expected =
        r#"{"lastUpdated":<0>,"currentTime":<0>,"healthy":true,"reasons":["the API server \"x\" is out of reach"]}"#;
    assert_eq!(fake.get("/livez").await, golden(OK, expected));
    assert_eq!(fake.get("/healthz").await.0, OK);
}

#[tokio::test]
async fn s30_probes_are_counted_by_code() {
    let fake = Fake::updated();
    for _ in 0..3 {
        fake.get("/healthz").await;
    }
    fake.node.send_replace(NodeEligibility::Leaving);
    fake.get("/healthz?verbose").await;
    fake.get("/livez").await;
    fake.get("/readyz").await;
    let ok = (Probe::Healthz, 200);
    assert_eq!(*fake.probes.lock().unwrap(), [ok, ok, ok, (Probe::Healthz, 503), (Probe::Livez, 200)]);
}

#[tokio::test]
async fn there_is_nothing_else() {
    let fake = Fake::new();
    for path in ["/", "/readyz", "/healthz/", "/healthz/ping", "/proxyMode", "/metrics", "/LIVEZ"] {
        assert_eq!(fake.get(path).await, (404, "404 page not found\n".to_owned()), "{path}");
    }
}
