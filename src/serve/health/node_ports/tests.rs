//! Rows S1 to S15, over sockets on addresses of the loopback network that each test has for itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::*;
use crate::serve::http::{Bind, listen};

const PATIENCE: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(100);

struct Fixture {
    ports: NodePorts,
    healthy: Arc<AtomicBool>,
    addresses: watch::Sender<PerFamily<NodePortAddresses>>,
    failures: Arc<Mutex<Vec<String>>>,
}

fn only(ips: &[Ipv4Addr]) -> PerFamily<NodePortAddresses> {
    let v4 = NodePortAddresses::Only(ips.iter().map(|ip| (*ip).into()).collect());
    PerFamily { v4, v6: NodePortAddresses::Only(Box::default()) }
}

impl Fixture {
    fn at(addresses: PerFamily<NodePortAddresses>) -> Self {
        Fixture::limited(addresses, 1000)
    }

    fn limited(addresses: PerFamily<NodePortAddresses>, most_listeners: usize) -> Self {
        let healthy = Arc::new(AtomicBool::new(true));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let (addresses, receiver) = watch::channel(addresses);
        let (is_healthy, failed) = (healthy.clone(), failures.clone());
        let config = NodePortsConfig {
            limits: Limits { retry: RETRY, ..Limits::default() },
            most_listeners,
            ..NodePortsConfig::new(
                "node-1",
                receiver,
                move || is_healthy.load(Ordering::SeqCst),
                move |failure: &Failure| failed.lock().unwrap().push(failure.to_string()),
            )
        };
        Fixture { ports: NodePorts::start(config), healthy, addresses, failures }
    }

    /// `None` as a port: gone.
    fn tell(&self, changes: &[(&str, Option<(u16, usize)>)]) {
        let change = |(name, wanted): &(&str, Option<(u16, usize)>)| {
            let local = |count| PerFamily { v4: Some(count), v6: None };
            (ObjectName::new("a", *name), wanted.map(|(port, count)| HealthPort { port, local: local(count) }))
        };
        self.ports.tell(changes.iter().map(change).collect());
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}

/// The whole answer, or `None` where nobody listens.
async fn get(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Some(answer)
}

/// Code, weight and count of the body; `None` where nobody listens.
async fn probe(ip: Ipv4Addr, port: u16) -> Option<(u16, usize, usize)> {
    let answer = get((ip, port).into(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let number = |after: &str| -> usize {
        let (_, rest) = answer.split_once(after).unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let code = u16::try_from(number("HTTP/1.1 ")).unwrap();
    Some((code, number("X-Load-Balancing-Endpoint-Weight: "), number("\"localEndpoints\": ")))
}

/// Waits until a port answers so.
async fn expect(row: &str, ip: Ipv4Addr, port: u16, expected: Option<(u16, usize, usize)>) {
    let began = Instant::now();
    loop {
        let answer = probe(ip, port).await;
        if answer == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{row}: port {port}: {answer:?}, expected {expected:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn up(count: usize) -> Option<(u16, usize, usize)> {
    Some((if count > 0 { 200 } else { 503 }, count, count))
}

#[tokio::test]
async fn s1_to_s7_one_service() {
    let ip = Ipv4Addr::new(127, 6, 2, 1);
    let fixture = Fixture::at(only(&[ip]));
    expect("S1", ip, 9376, None).await;
    fixture.tell(&[("b", None)]);
    expect("S2", ip, 9376, None).await;
    fixture.tell(&[("b", Some((9376, 0)))]);
    expect("S3", ip, 9376, up(0)).await;
    for (row, count) in [("S4", 18), ("S5", 0), ("S6", 7), ("S6", 0)] {
        fixture.tell(&[("b", Some((9376, count)))]);
        expect(row, ip, 9376, up(count)).await;
    }
    fixture.tell(&[("b", None)]);
    expect("S7", ip, 9376, None).await;
    assert_eq!(fixture.failures(), [""; 0]);
}

#[tokio::test]
async fn s8_to_s11_several_services() {
    let ip = Ipv4Addr::new(127, 6, 2, 2);
    let fixture = Fixture::at(only(&[ip]));
    fixture.tell(&[("b", Some((9376, 0))), ("d", Some((12909, 0))), ("f", Some((11113, 0)))]);
    for port in [9376, 12909, 11113] {
        expect("S8", ip, port, up(0)).await;
    }
    fixture.tell(&[("b", Some((9376, 9))), ("d", Some((12909, 3))), ("f", Some((11113, 7)))]);
    for (port, count) in [(9376, 9), (12909, 3), (11113, 7)] {
        expect("S9", ip, port, up(count)).await;
    }
    // The first is gone, the third changes its port to that of the first, the fourth is new.
    fixture.tell(&[("b", None), ("f", Some((9376, 0))), ("h", Some((11114, 0)))]);
    expect("S10: fourth", ip, 11114, up(0)).await;
    expect("S10: third", ip, 9376, up(0)).await;
    expect("S10: second", ip, 12909, up(3)).await;
    expect("S10: the third's old port", ip, 11113, None).await;
    fixture.tell(&[("d", Some((12909, 3))), ("f", Some((9376, 7))), ("h", Some((11114, 5)))]);
    expect("S11", ip, 11114, up(5)).await;
    fixture.tell(&[("f", Some((9376, 0)))]);
    expect("S11", ip, 9376, up(0)).await;
    expect("S11", ip, 12909, up(3)).await;
    assert_eq!(fixture.failures(), [""; 0]);
    fixture.ports.stop().await;
    for port in [9376, 12909, 11114] {
        assert_eq!(probe(ip, port).await, None);
    }
}

#[tokio::test]
async fn s12_s13_an_unhealthy_proxy() {
    let ip = Ipv4Addr::new(127, 6, 2, 3);
    let fixture = Fixture::at(only(&[ip]));
    fixture.tell(&[("b", Some((9376, 2)))]);
    expect("S12", ip, 9376, up(2)).await;
    fixture.healthy.store(false, Ordering::SeqCst);
    let answer = get((ip, 9376).into(), "POST /any/path HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 503 Service Unavailable\r\n"), "S12: {answer}");
    assert!(answer.ends_with("\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": false\n}"), "S12: {answer}");
    fixture.healthy.store(true, Ordering::SeqCst);
    assert_eq!(probe(ip, 9376).await, up(2), "S13");
}

/// One listener for an address; those that come and go are followed.
#[tokio::test]
async fn s14_addresses() {
    let [first, second, third] = [4, 5, 6].map(|last| Ipv4Addr::new(127, 6, 2, last));
    let fixture = Fixture::at(only(&[first, second]));
    fixture.tell(&[("b", Some((9376, 1)))]);
    expect("S14", first, 9376, up(1)).await;
    expect("S14", second, 9376, up(1)).await;
    assert_eq!(probe(third, 9376).await, None, "S14");
    fixture.addresses.send_replace(only(&[second, third]));
    expect("S14: followed", third, 9376, up(1)).await;
    assert_eq!(probe(first, 9376).await, None, "S14: followed");
    expect("S14: followed", second, 9376, up(1)).await;
    fixture.tell(&[("b", None)]);
    for ip in [first, second, third] {
        expect("S14: all closed", ip, 9376, None).await;
    }
}

#[tokio::test]
async fn s15_a_port_that_is_taken() {
    let [first, second] = [7, 8].map(|last| Ipv4Addr::new(127, 6, 2, last));
    let taken = listen((second, 9376).into(), Bind::OwnFamily).unwrap();
    let fixture = Fixture::at(only(&[first, second]));
    fixture.tell(&[("b", Some((9376, 1))), ("c", Some((9377, 4)))]);
    expect("S15: others", first, 9377, up(4)).await;
    expect("S15: others", second, 9377, up(4)).await;
    sleep(RETRY * 5).await;
    let expected = "node node-1 failed to start healthcheck \"a/b\" on port 9376: cannot listen on 127.6.2.8:9376: Address \
                    already in use (os error 98): stop whoever has the port, or choose another one";
    assert_eq!(fixture.failures(), [expected], "S15: once");
    assert_eq!(probe(first, 9376).await, None, "S15: all or none");
    drop(taken);
    expect("S15: tried again", first, 9376, up(1)).await;
    expect("S15: tried again", second, 9376, up(1)).await;
    assert_eq!(fixture.failures().len(), 1);
}

/// An address that cannot be bound yet takes nothing from those that serve.
#[tokio::test]
async fn an_address_that_comes_later_and_is_taken() {
    let [first, second] = [9, 10].map(|last| Ipv4Addr::new(127, 6, 2, last));
    let taken = listen((second, 9376).into(), Bind::OwnFamily).unwrap();
    let fixture = Fixture::at(only(&[first]));
    fixture.tell(&[("b", Some((9376, 1)))]);
    expect("first", first, 9376, up(1)).await;
    fixture.addresses.send_replace(only(&[first, second]));
    sleep(RETRY * 3).await;
    assert_eq!((probe(first, 9376).await, fixture.failures().len()), (up(1), 1));
    // Counts reach it while it waits, and it goes where it is not wanted any more.
    fixture.tell(&[("b", Some((9376, 2)))]);
    expect("count", first, 9376, up(2)).await;
    drop(taken);
    expect("second", second, 9376, up(2)).await;
}

#[tokio::test]
async fn a_port_changes_hands() {
    let ip = Ipv4Addr::new(127, 6, 2, 11);
    let fixture = Fixture::at(only(&[ip]));
    fixture.tell(&[("b", Some((9376, 1)))]);
    expect("b", ip, 9376, up(1)).await;
    fixture.tell(&[("c", Some((9376, 2)))]);
    sleep(RETRY * 2).await;
    assert_eq!((probe(ip, 9376).await, fixture.failures().len()), (up(1), 1));
    fixture.tell(&[("b", None)]);
    expect("c", ip, 9376, up(2)).await;
    fixture.tell(&[("c", None)]);
    expect("c", ip, 9376, None).await;
}

#[tokio::test]
async fn something_is_left_of_the_limit_of_open_files() {
    let ip = Ipv4Addr::new(127, 6, 2, 12);
    let fixture = Fixture::limited(only(&[ip]), 2);
    fixture.tell(&[("b", Some((9001, 1))), ("c", Some((9002, 1))), ("d", Some((9003, 1)))]);
    expect("b", ip, 9001, up(1)).await;
    expect("c", ip, 9002, up(1)).await;
    sleep(RETRY * 3).await;
    let failures = fixture.failures();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].ends_with("2 sockets is all that the limit of open files leaves for them: raise LimitNOFILE"));
    fixture.tell(&[("b", None)]);
    expect("d", ip, 9003, up(1)).await;
}

/// Each family by itself, on its own wildcard.
#[tokio::test]
async fn both_families_have_their_own_counts() {
    let free = listen((Ipv4Addr::UNSPECIFIED, 0).into(), Bind::AnyFamily).unwrap().address();
    let has_ipv6 = free.is_ipv6();
    let port = free.port();
    let fixture = Fixture::at(PerFamily::default());
    let local = PerFamily { v4: Some(3), v6: has_ipv6.then_some(0) };
    fixture.ports.tell(vec![(ObjectName::new("a", "b"), Some(HealthPort { port, local }))]);
    expect("IPv4", Ipv4Addr::LOCALHOST, port, up(3)).await;
    if has_ipv6 {
        let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        let answer = get(v6, "GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 503 ") && answer.contains("\"localEndpoints\": 0,"), "{answer}");
    }
    assert_eq!(fixture.failures(), [""; 0]);
    let local = PerFamily { v4: None, v6: local.v6 };
    fixture.ports.tell(vec![(ObjectName::new("a", "b"), Some(HealthPort { port, local }))]);
    expect("IPv4 is not served any more", Ipv4Addr::LOCALHOST, port, None).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_keeps_nobody_out() {
    let ip = Ipv4Addr::new(127, 6, 2, 13);
    let fixture = Fixture::at(only(&[ip]));
    fixture.tell(&[("b", Some((9376, 1)))]);
    expect("b", ip, 9376, up(1)).await;
    let mut hogs = Vec::new();
    for _ in 0..50 {
        let mut hog = TcpStream::connect((ip, 9376)).await.unwrap();
        hog.write_all(b"GET / HT").await.unwrap();
        hogs.push(hog);
    }
    assert_eq!(probe(ip, 9376).await, up(1));
    fixture.ports.stop().await;
    assert_eq!(probe(ip, 9376).await, None);
}

#[tokio::test]
async fn dropping_closes() {
    let ip = Ipv4Addr::new(127, 6, 2, 14);
    let fixture = Fixture::at(only(&[ip]));
    fixture.tell(&[("b", Some((9376, 1)))]);
    expect("b", ip, 9376, up(1)).await;
    drop(fixture);
    expect("b", ip, 9376, None).await;
}
