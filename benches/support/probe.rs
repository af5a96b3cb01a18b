//! Connections: who answers, and how long it takes. Every connection is reset when it was used, so that neither host
//! nor connection tracking keeps much of it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use weir::lab::Host;

/// How long one connection may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A sleep is longer by so much.
const TIMER_SLACK: Duration = Duration::from_micros(50);

/// Says to everyone who connects by which address it was reached, then hangs up.
pub struct Mirror {
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl Mirror {
    /// Listens on all addresses of a host.
    pub fn start(host: &Host, ports: &[u16]) -> Mirror {
        let open = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).expect("a free port");
        let listeners: Vec<TcpListener> = host.run(|| ports.iter().map(open).collect()).expect("the host");
        let threads = listeners
            .iter()
            .map(|listener| {
                let listener = listener.try_clone().expect("a file descriptor");
                std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(mirror))
            })
            .collect();
        Mirror { listeners, threads }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for listener in &self.listeners {
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Who hangs up before it has read is of no interest.
fn mirror(mut stream: TcpStream) {
    if let Ok(SocketAddr::V4(address)) = stream.local_addr() {
        let _ = stream.write_all(&address.ip().octets());
    }
}

/// Connects, and resets the connection; how long connecting took.
pub fn connect(to: SocketAddr) -> io::Result<Duration> {
    let begin = Instant::now();
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    let took = begin.elapsed();
    reset_on_close(&stream)?;
    Ok(took)
}

/// Connects, and asks by which address the connection arrived.
pub fn who(to: SocketAddr) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    reset_on_close(&stream)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut address = [0; 4];
    stream.read_exact(&mut address)?;
    Ok(IpAddr::from(address))
}

fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).map_err(io::Error::from)
}

/// Connects until this endpoint answers; how long that took since `since`, or `None` if it never did.
///
/// The pause between two tries is a thousandth of the time that it has waited. So what is short is measured in a tight loop, and what
/// is long neither takes the processor from the proxy nor fills the table of connections.
pub fn until(to: SocketAddr, endpoint: IpAddr, since: Instant, patience: Duration) -> Option<Duration> {
    let begin = Instant::now();
    loop {
        if who(to).is_ok_and(|answered| answered == endpoint) {
            return Some(since.elapsed());
        }
        if since.elapsed() > patience {
            return None;
        }
        let pause = begin.elapsed() / 1000;
        if pause > TIMER_SLACK {
            std::thread::sleep(pause);
        }
    }
}

/// Connects every millisecond until all of these answered once, or there is no one left to wait for; how long each took
/// since `since`.
pub fn until_all(
    to: &[SocketAddr],
    since: Instant,
    patience: Duration,
    alive: &dyn Fn() -> bool,
) -> Vec<Option<Duration>> {
    let mut answered = vec![None; to.len()];
    while answered.contains(&None) && since.elapsed() < patience && alive() {
        for (address, at) in to.iter().zip(&mut answered).filter(|(_, at)| at.is_none()) {
            *at = who(*address).ok().map(|_| since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    answered
}
