//! The HTTP server and the health check node ports at their limits: no file descriptor left, thousands of ports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::sync::watch;
use weir::model::NodePortAddresses;
use weir::net::{ObjectName, PerFamily};
use weir::resolve::health::{Change, HealthPort};
use weir::serve::health::{NodePorts, NodePortsConfig, raise_open_files};
use weir::serve::http::{Bind, Connections, Handler, Limits, Server, listen, text};

const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The whole answer, or why there is none.
fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap())
}

/// Runs itself again with few file descriptors.
#[test]
fn without_a_file_descriptor_left() {
    const MARK: &str = "WEIR_TEST_FEW_FILES";
    if std::env::var_os(MARK).is_some() {
        return out_of_files();
    }
    let shell = ["-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let myself = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.args(shell).arg(myself).args(["--exact", "without_a_file_descriptor_left", "--nocapture"]);
    let output = command.env(MARK, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn out_of_files() {
    let runtime = runtime();
    let _in = runtime.enter();
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), Bind::AnyFamily).unwrap();
    let address = listener.address();
    let handler = Handler::new(|_, _| text(http::StatusCode::OK, "well"));
    let connections = Connections::limited(1000);
    let server = Server::start(listener, handler, Limits::default(), connections.clone());
    // Clients and server have one table of files: this takes it all.
    let mut hogs = Vec::new();
    let refused = loop {
        match TcpStream::connect(address) {
            Ok(hog) => hogs.push(hog),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::EMFILE), "{refused}");
    let began = cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_time() - began;
    assert!(spent < Duration::from_millis(300), "it spins: {spent:?} of CPU in a second");
    // The client's own file.
    hogs.pop();
    hogs.pop();
    until("it answers", || get(address).is_ok_and(|answer| answer.ends_with("\r\n\r\nwell\n")));
    drop(hogs);
    until("connections end", || connections.count() == 0);
    runtime.block_on(server.stop());
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn services(count: u16, local: Option<usize>) -> Vec<Change> {
    let change = |n| {
        let port = |local| HealthPort { port: 20_000 + n, local: PerFamily { v4: Some(local), v6: None } };
        (ObjectName::new("ns", format!("service-{n:05}")), local.map(port))
    };
    (0..count).map(change).collect()
}

#[test]
fn thousands_of_ports() {
    let files = raise_open_files().unwrap();
    let count = u16::try_from((files / 4).min(5000)).unwrap();
    let ip = IpAddr::V4(Ipv4Addr::new(127, 6, 3, 1));
    let addresses = PerFamily { v4: NodePortAddresses::Only([ip].into()), v6: NodePortAddresses::default() };
    let (_where, addresses) = watch::channel(addresses);
    let runtime = runtime();
    let _in = runtime.enter();
    let before = resident();
    let ports = NodePorts::start(NodePortsConfig::new("node-1", addresses, || true, |failure| panic!("{failure}")));
    let began = Instant::now();
    ports.tell(services(count, Some(1)));
    let last = SocketAddr::new(ip, 20_000 + count - 1);
    until("all are open", || get(last).is_ok());
    println!("{count} ports: open in {:?}, {} KiB", began.elapsed(), resident() - before);
    let weight = |n: u16| {
        let answer = get(SocketAddr::new(ip, 20_000 + n)).unwrap();
        let (_, rest) = answer.split_once("X-Load-Balancing-Endpoint-Weight: ").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    assert!((0..count).step_by(97).all(|n| weight(n) == "1"));
    ports.tell(services(count, Some(7)));
    until("all are told", || weight(count - 1) == "7");
    assert!((0..count).step_by(97).all(|n| weight(n) == "7"));
    let began = Instant::now();
    ports.tell(services(count / 2, None));
    until("half of them are closed", || get(SocketAddr::new(ip, 20_000 + count / 2 - 1)).is_err());
    println!("half of them closed in {:?}", began.elapsed());
    assert_eq!(weight(count / 2), "7");
    runtime.block_on(ports.stop());
    assert!((0..count).step_by(97).all(|n| get(SocketAddr::new(ip, 20_000 + n)).is_err()));
}
