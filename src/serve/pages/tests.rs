//! What each path answers, against kube-proxy 1.36.

use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::serve::metrics::{Mode, Requests, Setup};

const NOSNIFF: Option<&str> = Some("nosniff");
const PLAIN: &str = "text/plain; charset=utf-8";
const NOT_FOUND: &str = "404 page not found\n";

fn pages(open: bool) -> Pages {
    let setup = Setup {
        mode: Mode::Iptables,
        families: Vec::new(),
        version: "0.1.0".to_owned(),
        features: Vec::new(),
        requests: Requests::default(),
    };
    let flag = |name: &str, value: &str| Flag { name: name.to_owned(), value: value.to_owned() };
    Pages {
        metrics: Metrics::new(setup),
        mode: "iptables",
        configz: Arc::new(|| "{\"kind\":\"KubeProxyConfiguration\"}".to_owned()),
        statusz: open.then(|| Statusz {
            version: "0.1.0".to_owned(),
            kubernetes: "1.36".to_owned(),
            started: UNIX_EPOCH + Duration::from_secs(1_795_264_974),
        }),
        flagz: open.then(|| vec![flag("v", "2"), flag("bind-address", "0.0.0.0"), flag("config", "")]),
        debugging: open.then(|| Debugging {
            set_verbosity: Arc::new(|verbosity| if verbosity > 10 { Err("too much".to_owned()) } else { Ok(()) }),
            memory: Arc::new(|| "allocated 1\n".to_owned()),
        }),
    }
}

/// Sends one request after the other to the same pages.
struct Client(Handler);

impl Client {
    fn new(open: bool) -> Self {
        Client(handler(pages(open)))
    }

    async fn send(&self, method: &str, path: &str, accept: &str, body: &str) -> Response<Bytes> {
        let request = http::Request::builder().method(method).uri(path).header("accept", accept).body(()).unwrap();
        self.0.answer(request.into_parts().0, Bytes::copy_from_slice(body.as_bytes())).await
    }

    async fn text(&self, method: &str, path: &str) -> String {
        body(&self.send(method, path, "", "").await)
    }
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

fn body(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// Contract 6.3 and rows Q43, Q44.
#[tokio::test]
async fn q43_q44_paths_answer_as_kube_proxys_do() {
    let client = Client::new(true);
    let configz = "{\"kubeproxy.config.k8s.io\":{\"kind\":\"KubeProxyConfiguration\"}}";
    for (path, status, content_type, nosniff, text) in [
        ("/", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/foo", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/healthz", 200, PLAIN, NOSNIFF, "ok"),
        ("/healthz/", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/healthz/ping", 200, PLAIN, None, "ok"),
        ("/healthz/ping?verbose", 200, PLAIN, None, "ok"),
        ("/healthz/foo", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/healthz?verbose", 200, PLAIN, NOSNIFF, "[+]ping ok\nhealthz check passed\n"),
        ("/healthz?verbose=false", 200, PLAIN, NOSNIFF, "[+]ping ok\nhealthz check passed\n"),
        ("/healthz?exclude=ping", 200, PLAIN, NOSNIFF, "ok"),
        ("/healthz?exclude=foo", 200, PLAIN, NOSNIFF, "ok"),
        ("/healthz?verbose&exclude=ping", 200, PLAIN, NOSNIFF, "[+]ping excluded: ok\nhealthz check passed\n"),
        (
            "/healthz?verbose&exclude=foo&exclude=b%61r",
            200,
            PLAIN,
            NOSNIFF,
            "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"bar\",\"foo\"\n\
             healthz check passed\n",
        ),
        ("/livez", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/readyz", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/metrics/", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/proxyMode", 200, PLAIN, NOSNIFF, "iptables"),
        ("/proxyMode/", 404, PLAIN, NOSNIFF, NOT_FOUND),
        ("/configz", 200, "application/json", NOSNIFF, configz),
        ("/debug/flags/v", 406, "text/plain", NOSNIFF, "unsupported http method\n"),
        ("/debug/memory", 200, PLAIN, None, "allocated 1\n"),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let response = client.send(method, path, "", "").await;
            let found = (
                response.status().as_u16(),
                header(&response, "content-type"),
                header(&response, "x-content-type-options"),
            );
            assert_eq!(found, (status, Some(content_type), nosniff), "{method} {path}");
            assert_eq!(body(&response), text, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn pages_behind_gates_and_profiling_are_not_there_without() {
    let client = Client::new(false);
    for path in [
        "/statusz",
        "/flagz",
        "/debug/flags",
        "/debug/flags/",
        "/debug/flags/v",
        "/debug/memory",
        "/debug/pprof",
        "/debug/pprof/heap",
    ] {
        let response = client.send("GET", path, "", "").await;
        assert_eq!((response.status().as_u16(), body(&response).as_str()), (404, NOT_FOUND), "{path}");
    }
}

#[tokio::test]
async fn profiles_of_go_are_refused_with_what_to_do_instead() {
    let client = Client::new(true);
    for path in ["/debug/pprof", "/debug/pprof/", "/debug/pprof/profile?seconds=5", "/debug/pprof/heap"] {
        let response = client.send("GET", path, "", "").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(body(&response).contains("perf record"), "{path}");
    }
    assert!(client.text("GET", "/debug/flags/").await.starts_with("<html>"));
}

#[tokio::test]
async fn the_verbosity_is_put() {
    let put = Arc::new(Mutex::new(Vec::new()));
    let set_verbosity: debug::SetVerbosity = {
        let put = put.clone();
        Arc::new(move |verbosity| {
            put.lock().unwrap().push(verbosity);
            if verbosity > 10 { Err("cannot log that much".to_owned()) } else { Ok(()) }
        })
    };
    let debugging = Some(Debugging { set_verbosity, memory: Arc::new(String::new) });
    let client = Client(handler(Pages { debugging, ..pages(true) }));
    for (written, status, text) in [
        ("4", 200, "successfully set klog.logging.verbosity to 4\n"),
        ("0", 200, "successfully set klog.logging.verbosity to 0\n"),
        ("", 400, "verbosity \"\": must be a whole number, such as 4\n"),
        ("x", 400, "verbosity \"x\": must be a whole number, such as 4\n"),
        (" 4", 400, "verbosity \" 4\": must be a whole number, such as 4\n"),
        ("+4", 400, "verbosity \"+4\": must be a whole number, such as 4\n"),
        ("-5", 400, "verbosity \"-5\": must be a whole number, such as 4\n"),
        ("99999999999", 400, "verbosity \"99999999999\": must be a whole number, such as 4\n"),
        ("11", 500, "cannot log that much\n"),
    ] {
        let response = client.send("PUT", "/debug/flags/v", "", written).await;
        assert_eq!((response.status().as_u16(), body(&response).as_str()), (status, text), "{written:?}");
        assert_eq!(header(&response, "content-type"), Some("text/plain"));
    }
    assert_eq!(*put.lock().unwrap(), [4, 0, 11]);
}

#[tokio::test]
async fn texts_for_people() {
    let client = Client::new(true);
    let statusz = client.text("GET", "/statusz").await;
    assert!(statusz.starts_with("\nkube-proxy statusz\nWarning: "), "{statusz}");
    assert!(statusz.contains("\nStarted: Sat Nov 21 12:42:54 UTC 2026\nUp: "), "{statusz}");
    assert!(statusz.ends_with(
        "\nBinary version: weir 0.1.0\nEmulation version: 1.36\n\
         Paths: /configz /flagz /healthz /metrics /proxyMode\n"
    ));
    let flagz = client.text("GET", "/flagz").await;
    assert!(
        flagz.starts_with("\nkube-proxy flagz\nWarning: ") && flagz.ends_with("\nbind-address=0.0.0.0\nconfig=\nv=2\n")
    );
}

#[tokio::test]
async fn scrapes_are_negotiated() {
    let client = Client::new(true);
    for path in ["/metrics", "/metrics/slis"] {
        let classic = client.send("GET", path, "text/plain", "").await;
        let content_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        assert_eq!(header(&classic, "content-type"), Some(content_type));
        assert!(!body(&classic).contains("# EOF"));
        let start: u64 = header(&classic, "process-start-time-unix").unwrap().parse().unwrap();
        assert!(body(&classic).contains("\nprocess_start_time_seconds ") && start > 1_700_000_000);
        let open = client.send("GET", path, "application/openmetrics-text; version=1.0.0", "").await;
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
        assert_eq!(header(&open, "content-type"), Some(content_type));
        assert!(body(&open).ends_with("# EOF\n"));
    }
}

/// Contract 6.3: a check of its own page and nothing else; `DELETE` forgets.
#[tokio::test]
async fn results_of_the_health_check_are_counted_and_forgotten() {
    let client = Client::new(true);
    assert!(!client.text("GET", "/metrics/slis").await.contains("kubernetes_healthcheck"));
    for path in ["/healthz", "/healthz?verbose", "/healthz?exclude=ping", "/healthz/ping"] {
        client.text("GET", path).await;
    }
    let slis = client.text("GET", "/metrics/slis").await;
    let start = "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n\
                 # TYPE kubernetes_healthcheck gauge\n\
                 kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1\n\
                 # HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n\
                 # TYPE kubernetes_healthchecks_total counter\n\
                 kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 2\n";
    assert!(slis.starts_with(start), "{slis}");
    let reset = client.send("DELETE", "/metrics/slis", "", "").await;
    assert_eq!((reset.status().as_u16(), body(&reset).as_str()), (200, "metrics reset\n"));
    assert!(!client.text("POST", "/metrics/slis").await.contains("kubernetes_healthcheck"));
}
