use std::cell::Cell;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::*;

/// A service manager of the test's own.
struct Manager {
    socket: UnixDatagram,
    name: OsString,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, name: path.into(), _folder: folder }
    }

    fn notifier(&self, more: &[(&str, &str)]) -> Notifier {
        Notifier::from_variables(|name| match name {
            "NOTIFY_SOCKET" => Some(self.name.clone()),
            _ => more.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()),
        })
    }

    /// All messages that have arrived.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 512];
        std::iter::from_fn(|| self.socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()))
            .map(|message| String::from_utf8(message).unwrap())
            .collect()
    }
}

#[test]
fn every_news_is_a_message() {
    let manager = Manager::new();
    let notifier = manager.notifier(&[]);
    notifier.status("waiting for the API server");
    notifier.ready("serving\n12 service ports");
    notifier.stopping(Duration::from_millis(2500));
    assert_eq!(
        manager.heard(),
        [
            "STATUS=waiting for the API server",
            "READY=1\nSTATUS=serving 12 service ports",
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=2500000"
        ]
    );
}

/// A manager ignores a reload that is older than its own request, so the time must be that of the moment.
#[test]
fn a_reload_tells_when_it_began() {
    let manager = Manager::new();
    let before = monotonic_microseconds();
    manager.notifier(&[]).reloading();
    let heard = manager.heard();
    let [message] = &heard[..] else { panic!("{heard:?}") };
    let (reloading, time) = message.split_once('\n').unwrap();
    assert_eq!(reloading, "RELOADING=1");
    let time: u128 = time.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(before > 0 && (before..=monotonic_microseconds()).contains(&time), "{before} {time}");
}

#[test]
fn an_abstract_socket() {
    let name = format!("weir-notify-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let get = |variable: &str| (variable == "NOTIFY_SOCKET").then(|| format!("@{name}").into());
    Notifier::from_variables(get).status("here");
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"STATUS=here");
}

#[test]
fn without_a_manager_nothing_happens() {
    for value in [None, Some(""), Some("vsock:2:1234"), Some("/nonexistent/socket")] {
        let notifier = Notifier::from_variables(|name| value.filter(|_| name == "NOTIFY_SOCKET").map(OsString::from));
        notifier.ready("serving");
        notifier.stopping(Duration::ZERO);
        let is_gone = value == Some("/nonexistent/socket");
        assert_eq!(notifier.failed.load(Ordering::Relaxed), is_gone, "{value:?}");
    }
}

#[test]
fn the_watchdog_of_another_process_is_not_ours() {
    let manager = Manager::new();
    let limit = |more: &[(&str, &str)]| manager.notifier(more).watchdog;
    let pid = std::process::id().to_string();
    assert_eq!(limit(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &pid)]), Some(Duration::from_secs(3)));
    assert_eq!(limit(&[("WATCHDOG_USEC", "3000000")]), Some(Duration::from_secs(3)));
    for more in [[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")], [("WATCHDOG_USEC", "0"), ("X", "")]] {
        assert_eq!(limit(&more), None, "{more:?}");
    }
    assert_eq!(limit(&[("WATCHDOG_USEC", "soon")]), None);
}

/// Thirds of 50 ms.
const LIMIT: [(&str, &str); 1] = [("WATCHDOG_USEC", "150000")];

/// Waits for so many signs of life, for a few seconds.
async fn signs(manager: &Manager, count: usize) -> usize {
    let mut heard = 0;
    for _ in 0..500 {
        heard += manager.heard().iter().filter(|message| *message == "WATCHDOG=1").count();
        if heard >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    heard
}

#[tokio::test]
async fn signs_of_life_come_at_least_twice_in_a_period() {
    let manager = Manager::new();
    let notifier = manager.notifier(&LIMIT);
    let began = std::time::Instant::now();
    tokio::select! {
        () = notifier.keep_alive(async || true) => panic!("it ended"),
        heard = signs(&manager, 4) => assert_eq!(heard, 4),
    }
    // The first comes at once.
    assert!(began.elapsed() >= Duration::from_millis(145), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_engine_that_hangs_gives_no_sign_until_it_answers() {
    let manager = Manager::new();
    let notifier = manager.notifier(&LIMIT);
    let hangs = Cell::new(true);
    let alive = async || if hangs.get() { std::future::pending().await } else { true };
    let _ = timeout(Duration::from_millis(300), notifier.keep_alive(alive)).await;
    assert_eq!(manager.heard(), [""; 0]);
    hangs.set(false);
    tokio::select! {
        () = notifier.keep_alive(alive) => panic!("it ended"),
        heard = signs(&manager, 1) => assert_eq!(heard, 1),
    }
}

#[tokio::test]
async fn an_engine_that_hangs_is_asked_again() {
    let manager = Manager::new();
    let notifier = manager.notifier(&LIMIT);
    let asked = Cell::new(0);
    let alive = async || {
        asked.set(asked.get() + 1);
        if asked.get() == 1 { std::future::pending().await } else { true }
    };
    tokio::select! {
        () = notifier.keep_alive(alive) => panic!("it ended"),
        heard = signs(&manager, 2) => assert_eq!(heard, 2),
    }
    assert_eq!(asked.get(), 3);
}

#[tokio::test]
async fn an_engine_that_has_ended_gives_no_sign_any_more() {
    let manager = Manager::new();
    let notifier = manager.notifier(&LIMIT);
    let _ = timeout(Duration::from_millis(300), notifier.keep_alive(async || false)).await;
    assert_eq!(manager.heard(), [""; 0]);
}
