//! Events through a scripted API server: taken, repeated, refused, and with nobody there.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_server;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_server::{ApiServer, Fault, Verb};
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use weir::events::{Event, Recorder, Tuning, start_tuned};
use weir::net::ObjectName;
use weir::source::kube::{Config, ProblemListener, connect, start};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Quick, and otherwise as in production.
fn quick() -> Tuning {
    Tuning {
        backoff_min: ms(10),
        backoff_max: ms(40),
        response: ms(300),
        quiet: ms(400),
        look: ms(50),
        ..Tuning::default()
    }
}

async fn recorder(server: &ApiServer, tuning: Tuning) -> Recorder {
    let config = Config { master: Some(server.url()), ..Config::new("node-a") };
    start_tuned(connect(&config).await.unwrap(), "node-a", tuning)
}

fn starting() -> Event {
    Event::starting(&"node-a".into(), "iptables")
}

fn listen_failed(service: &str) -> Event {
    Event::failed_service_healthcheck(&ObjectName::new("shop", service), &"port 30000: in use")
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited for {PATIENCE:?} until {what}");
        tokio::time::sleep(ms(5)).await;
    }
}

/// What is logged in this thread, which is where all tasks of a test run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> (Log, DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO);
        let subscriber = lines.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self, text: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn status(code: u16) -> Fault {
    Fault::Status { code, retry_after: None }
}

#[tokio::test]
async fn an_event_is_posted_at_once() {
    let server = ApiServer::start().await;
    let recorder = recorder(&server, Tuning::default()).await;
    recorder.record(starting());
    recorder.record(listen_failed("web"));
    recorder.flushed(PATIENCE).await;
    let events = server.events();
    let about: Vec<&Value> = events.iter().map(|event| &event["regarding"]["name"]).collect();
    assert_eq!(about, [&json!("node-a"), &json!("web")]);
    assert_eq!(events[0]["reason"], "Starting");
    assert_eq!(events[0]["reportingController"], "kube-proxy");
    assert_eq!(server.count(Verb::Create, "events"), 2);
    assert_eq!(server.count(Verb::Patch, "events"), 0);
}

#[tokio::test]
async fn what_repeats_is_a_series() {
    let server = ApiServer::start().await;
    let recorder = recorder(&server, quick()).await;
    for _ in 0..300 {
        recorder.record(listen_failed("web"));
    }
    recorder.flushed(PATIENCE).await;
    eventually("the count is written", || server.events()[0]["series"]["count"] == 300).await;
    assert_eq!(server.events().len(), 1);
    assert_eq!(server.count(Verb::Create, "events"), 1);
    let patches = server.count(Verb::Patch, "events");
    assert!((2..10).contains(&patches), "{patches}");
}

/// The server keeps events for an hour.
#[tokio::test]
async fn a_series_is_created_anew_where_its_event_is_gone() {
    let server = ApiServer::start().await;
    let recorder = recorder(&server, Tuning::default()).await;
    recorder.record(listen_failed("web"));
    recorder.flushed(PATIENCE).await;
    server.forget_events();
    recorder.record(listen_failed("web"));
    recorder.flushed(PATIENCE).await;
    let events = server.events();
    assert_eq!((events.len(), &events[0]["series"]["count"]), (1, &json!(2)));
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let (log, _guard) = Log::start();
    let server = ApiServer::start().await;
    server.script(Verb::Create, "events", 3, status(500));
    server.script(Verb::Create, "events", 1, Fault::Status { code: 429, retry_after: Some(3_600) });
    let recorder = recorder(&server, quick()).await;
    recorder.record(starting());
    eventually("it is posted", || server.events().len() == 1).await;
    recorder.flushed(PATIENCE).await;
    assert_eq!(server.count(Verb::Create, "events"), 5);
    assert_eq!(log.lines("cannot post an event").len(), 1, "{:?}", log.lines(""));
    assert_eq!(log.lines("events are posted again").len(), 1);
}

#[tokio::test]
async fn after_many_tries_it_is_dropped() {
    let (log, _guard) = Log::start();
    let server = ApiServer::start().await;
    server.script(Verb::Create, "events", 4, status(503));
    let recorder = recorder(&server, Tuning { tries: 4, ..quick() }).await;
    recorder.record(listen_failed("web"));
    recorder.record(starting());
    recorder.flushed(PATIENCE).await;
    assert_eq!(server.count(Verb::Create, "events"), 5);
    assert_eq!(server.events()[0]["reason"], "Starting");
    assert!(log.lines("events are posted again")[0].contains("dropped=1"), "{:?}", log.lines(""));
    // It counts as new when it happens again.
    recorder.record(listen_failed("web"));
    recorder.flushed(PATIENCE).await;
    assert_eq!(server.events().len(), 2);
}

#[tokio::test]
async fn forbidden_is_told_once_and_costs_a_request_each() {
    let (log, _guard) = Log::start();
    let server = ApiServer::start().await;
    server.script(Verb::Create, "events", 20, status(403));
    let recorder = recorder(&server, quick()).await;
    for number in 0..20 {
        recorder.record(listen_failed(&format!("s{number}")));
    }
    recorder.record(starting());
    recorder.flushed(PATIENCE).await;
    assert_eq!(server.count(Verb::Create, "events"), 21);
    assert_eq!(server.events().len(), 1, "allowed meanwhile");
    let told = log.lines("forbidden");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("ERROR") && told[0].contains("allow create and patch on events of events.k8s.io"));
}

#[tokio::test]
async fn what_the_server_refuses_is_not_sent_again() {
    let (log, _guard) = Log::start();
    let server = ApiServer::start().await;
    server.script(Verb::Create, "events", 1, status(422));
    server.script(Verb::Create, "events", 1, status(404));
    let recorder = recorder(&server, quick()).await;
    for service in ["a", "b", "c"] {
        recorder.record(listen_failed(service));
    }
    recorder.flushed(PATIENCE).await;
    assert_eq!((server.count(Verb::Create, "events"), server.events().len()), (3, 1));
    assert_eq!(log.lines("an event is dropped").len(), 2, "one for each kind of refusal: {:?}", log.lines(""));
}

/// An answer that does not come in time may have been given: the same name again does no harm.
#[tokio::test]
async fn a_slow_server_delays_nobody() {
    let (log, _guard) = Log::start();
    let server = ApiServer::start().await;
    server.script(Verb::Create, "events", 2, Fault::NoAnswer);
    let recorder = recorder(&server, quick()).await;
    let begin = Instant::now();
    recorder.record(starting());
    (0..100).for_each(|_| recorder.record(listen_failed("web")));
    assert!(begin.elapsed() < ms(200), "{:?}", begin.elapsed());
    recorder.flushed(PATIENCE).await;
    assert_eq!(server.events().len(), 2);
    assert_eq!(log.lines("no answer within 300ms").len(), 1, "{:?}", log.lines(""));
}

#[tokio::test]
async fn a_server_that_is_away_holds_nobody_up_and_gets_events_later() {
    let (log, _guard) = Log::start();
    let server = ApiServer::start().await;
    let recorder = recorder(&server, Tuning { tries: 10_000, queue: 100, ..quick() }).await;
    server.stop().await;
    let begin = Instant::now();
    for number in 0..5_000 {
        recorder.record(listen_failed(&format!("s{number}")));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let begin = Instant::now();
    recorder.flushed(ms(300)).await;
    assert!(begin.elapsed() >= ms(300) && begin.elapsed() < PATIENCE, "whoever ends does not wait longer than this");
    assert_eq!(log.lines("cannot post an event").len(), 1, "{:?}", log.lines(""));
    server.restart().await;
    eventually("it gets them", || server.events().len() == 25).await;
    recorder.flushed(PATIENCE).await;
    assert_eq!(server.events().len(), 25, "no more at once");
    assert_eq!(log.lines("too many different events").len(), 1);
    assert_eq!(log.lines("events are posted again").len(), 1);
}

/// A Service with an annotation that cannot be read, from the source to the event.
#[tokio::test]
async fn a_bad_annotation_is_an_event_of_its_service() {
    let server = ApiServer::start().await;
    let events = recorder(&server, Tuning::default()).await;
    let recorder = events.clone();
    let on_problem = ProblemListener::new(move |object, problem| {
        if let Some(event) = Event::unusable(object, problem) {
            recorder.record(event);
        }
    });
    let mut service = json!({
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web", "annotations": {"weir.dev/weights": "zone=a:many"}},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
    });
    server.put(service.clone());
    let config = Config { master: Some(server.url()), on_problem, ..Config::new("node-a") };
    let client = connect(&config).await.unwrap();
    let (mut updates, status) = start(&client, &config);
    let receiving = tokio::spawn(async move { while updates.recv().await.is_some() {} });
    eventually("the event is there", || !server.events().is_empty()).await;
    let event = server.events().remove(0);
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("UnusableField")));
    assert_eq!(event["metadata"]["namespace"], "shop");
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("weir.dev/weights") && note.contains("zone=a:many"), "{note}");
    // The same problem is no news.
    service["metadata"]["labels"] = json!({"x": "y"});
    server.put(service.clone());
    service["metadata"]["annotations"]["weir.dev/weights"] = "zone=b:few".into();
    server.put(service);
    eventually("another problem is told", || server.events().len() == 2).await;
    events.flushed(PATIENCE).await;
    assert_eq!(status.problems(), 2);
    assert!(server.events().iter().all(|event| event["series"].is_null()));
    receiving.abort();
}
