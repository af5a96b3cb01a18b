//! Bad clients, moving, stopping, and what goes over the wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Says the method, the path and how long the body was.
fn echo() -> Handler {
    Handler::new(|parts, body| {
        let line = format!("{} {} {}", parts.method, parts.uri.path(), body.len());
        text(StatusCode::OK, &line)
    })
}

fn limits() -> Limits {
    let short = Duration::from_millis(300);
    Limits {
        header_time: short,
        body_time: short,
        body_bytes: 1000,
        drain_time: short,
        retry: short / 6,
        ..Limits::default()
    }
}

fn start(handler: Handler) -> Server {
    started(handler, limits(), 100)
}

fn started(handler: Handler, limits: Limits, connections: usize) -> Server {
    let listener = listen(loopback(), Bind::AnyFamily).unwrap();
    Server::start(listener, handler, limits, Connections::limited(connections))
}

/// Sends bytes and reads to the end of the connection.
async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the connection never ended");
    String::from_utf8(all).unwrap()
}

async fn get(address: SocketAddr) -> String {
    send(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await
}

fn is_well(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nGET / 0\n")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn headers_are_written_as_go_writes_them() {
    let server = start(Handler::new(|_, _| not_found()));
    let answer = get(server.address()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "404 page not found\n");
    let mut lines: Vec<&str> = head.lines().filter(|line| !line.starts_with("Date: ")).collect();
    lines[1..].sort_unstable();
    assert_eq!(head.lines().count(), lines.len() + 1, "{head}");
    assert_eq!(
        lines,
        [
            "HTTP/1.1 404 Not Found",
            "Connection: close",
            "Content-Length: 19",
            "Content-Type: text/plain; charset=utf-8",
            "X-Content-Type-Options: nosniff",
        ]
    );
}

#[tokio::test]
async fn any_method_and_old_clients() {
    let server = start(echo());
    let address = server.address();
    let post = "POST /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert!(send(address, post).await.ends_with("POST /a 3\n"));
    assert!(send(address, "BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ends_with("BREW / 0\n"));
    assert!(send(address, "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 OK\r\n"));
    let head = send(address, "HEAD / HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("Content-Length: 9\r\n"), "{head}");
}

#[tokio::test]
async fn a_client_may_close_its_side_first() {
    let server = start(Handler::awaiting(|_, _| async {
        sleep(Duration::from_millis(50)).await;
        text(StatusCode::OK, "late")
    }));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read(&mut stream).await.ends_with("late\n"));
}

#[tokio::test]
async fn bad_clients_are_told_and_do_not_harm_others() {
    let server = start(echo());
    let address = server.address();
    let silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut half_body = TcpStream::connect(address).await.unwrap();
    half_body.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();

    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(2_000_000));
    let body = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{}", "a".repeat(5000));
    let chunks = format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5dc\r\n{}", "a".repeat(1500));
    for (what, request, status) in [
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".as_slice(), "HTTP/1.1 400 Bad Request"),
        ("words", b"hello there\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("a body that is too large", body.as_bytes(), "HTTP/1.1 413 Payload Too Large"),
        ("chunks that are too large", chunks.as_bytes(), "HTTP/1.1 413 Payload Too Large"),
        ("half a chunk", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "HTTP/1.1 400 Bad Request"),
    ] {
        let answer = send(address, request).await;
        assert_eq!(answer.lines().next(), Some(status), "{what}");
        assert!(is_well(&get(address).await), "{what}");
    }
    // The client may find itself cut off before it has written all.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(huge.as_bytes()).await;
    let answer = read(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");

    for mut slow in [silent, half] {
        assert_eq!(read(&mut slow).await, "");
    }
    assert!(read(&mut half_body).await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert!(is_well(&get(address).await));
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_only() {
    let server = start(Handler::new(|parts, _| match parts.uri.path() {
        "/" => text(StatusCode::OK, "GET / 0"),
        path => panic!("{path}"),
    }));
    assert_eq!(send(server.address(), "GET /bad HTTP/1.1\r\nHost: x\r\n\r\n").await, "");
    assert!(is_well(&get(server.address()).await));
}

#[tokio::test]
async fn where_there_are_too_many_connections_the_oldest_goes() {
    let server = started(echo(), Limits { header_time: PATIENCE * 10, ..limits() }, 10);
    let mut hogs = Vec::new();
    for _ in 0..40 {
        hogs.push(TcpStream::connect(server.address()).await.unwrap());
        assert!(is_well(&get(server.address()).await));
    }
    assert_eq!(read(&mut hogs[0]).await, "");
    let mut last = hogs.pop().unwrap();
    last.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(read(&mut last).await.starts_with("HTTP/1.0 200 OK"));
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_is_counted_once() {
    let connections = Connections::limited(5);
    let server = Server::start(listen(loopback(), Bind::OwnFamily).unwrap(), echo(), limits(), connections.clone());
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1000];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(is_well(std::str::from_utf8(&answer[..length]).unwrap()));
        assert_eq!(connections.count(), 1);
    }
    drop(stream);
    until("the place is given back", || connections.count() == 0).await;
}

#[tokio::test]
async fn stopping_closes_the_port_and_lets_responses_finish() {
    let server = start(Handler::awaiting(|_, _| async {
        sleep(Duration::from_millis(100)).await;
        text(StatusCode::OK, "late")
    }));
    let address = server.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    assert!(listen(address, Bind::AnyFamily).is_ok());
    assert!(read(&mut busy).await.ends_with("late\n"));
    assert_eq!(read(&mut idle).await, "");
}

#[tokio::test]
async fn a_dropped_server_stops() {
    let server = start(echo());
    let address = server.address();
    drop(server);
    until("the port is free", || listen(address, Bind::AnyFamily).is_ok()).await;
}

/// Whether this host has IPv6, which some tests are about.
fn has_ipv6() -> bool {
    listen((Ipv6Addr::LOCALHOST, 0).into(), Bind::OwnFamily).is_ok()
}

#[tokio::test]
async fn a_wildcard_is_for_both_families() {
    for wildcard in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let listener = listen((wildcard, 0).into(), Bind::AnyFamily).unwrap();
        let server = Server::start(listener, echo(), limits(), Connections::limited(10));
        let port = server.address().port();
        assert!(is_well(&get((Ipv4Addr::LOCALHOST, port).into()).await), "{wildcard}");
        if has_ipv6() {
            assert!(is_well(&get((Ipv6Addr::LOCALHOST, port).into()).await), "{wildcard}");
        }
    }
}

#[tokio::test]
async fn other_addresses_are_for_themselves() {
    let port = start(echo()).address().port();
    let loopback = listen((Ipv4Addr::new(127, 0, 0, 2), port).into(), Bind::AnyFamily).unwrap();
    let other = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 3), port));
    assert!(TcpStream::connect(loopback.address()).await.is_ok());
    assert!(TcpStream::connect(other).await.is_err());
    if !has_ipv6() {
        return;
    }
    // Both families of one port, each by itself.
    let v6 = listen((Ipv6Addr::UNSPECIFIED, 0).into(), Bind::OwnFamily).unwrap();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, v6.address().port()));
    assert!(TcpStream::connect(v4).await.is_err());
    assert!(listen((Ipv4Addr::UNSPECIFIED, v6.address().port()).into(), Bind::OwnFamily).is_ok());
}

#[test]
fn errors_name_the_address_and_the_remedy() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _in = runtime.enter();
    let taken = listen(loopback(), Bind::AnyFamily).unwrap();
    let error = listen(taken.address(), Bind::AnyFamily).unwrap_err();
    let expected = format!(
        "cannot listen on {}: Address already in use (os error 98): stop whoever has the port, or choose another one",
        taken.address()
    );
    assert_eq!(error.to_string(), expected);
    let error = listen("192.0.2.1:0".parse().unwrap(), Bind::AnyFamily).unwrap_err();
    assert!(error.to_string().ends_with(": this host does not have the address (yet)"), "{error}");
}

#[tokio::test]
async fn what_is_taken_is_tried_again_and_told_once() {
    let taken = listen(loopback(), Bind::AnyFamily).unwrap();
    let address = taken.address();
    let endpoint = Endpoint { limits: limits(), ..Endpoint::new("test", echo()) };
    assert!(serve(endpoint.clone(), address, |_| {}).is_err());
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = failures.clone();
    let kept = keep_serving(endpoint, Some(address), move |error| {
        assert!(error.to_string().contains("in use"), "{error}");
        counted.fetch_add(1, Ordering::SeqCst);
    });
    sleep(limits().retry * 5).await;
    assert_eq!((failures.load(Ordering::SeqCst), kept.serving()), (1, None));
    drop(taken);
    until("it listens", || kept.serving() == Some(address)).await;
    assert!(is_well(&get(address).await));
    kept.stop().await;
    assert!(listen(address, Bind::AnyFamily).is_ok());
}

#[tokio::test]
async fn an_endpoint_moves() {
    let endpoint = Endpoint { limits: limits(), ..Endpoint::new("test", echo()) };
    let kept = serve(endpoint, loopback(), |error| eprintln!("{error}")).unwrap();
    let first = kept.serving().unwrap();
    // The wildcard of the same port: the old socket has to be closed first.
    kept.rebind(Some((Ipv4Addr::UNSPECIFIED, first.port()).into()));
    until("it moved", || kept.serving().is_some_and(|now| now.ip().is_unspecified())).await;
    assert!(is_well(&get(first).await));
    kept.rebind(None);
    until("it is off", || kept.serving().is_none()).await;
    assert!(TcpStream::connect(first).await.is_err());
    kept.rebind(Some(first));
    until("it is back", || kept.serving() == Some(first)).await;
    assert!(is_well(&get(first).await));
    drop(kept);
    until("the port is free", || listen(first, Bind::AnyFamily).is_ok()).await;
}
