//! Clients: a question to an echo server, and what became of it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Host, socket};
use crate::net::Protocol;

/// How long an answer may take. Refusals come at once; only a dropped packet takes all of it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// For [`Probe::timeout`] where a drop is expected: long enough for any answer on an idle machine.
pub const DROP_TIMEOUT: Duration = Duration::from_millis(300);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Name of the server.
    pub server: String,
    /// The source address that the server saw.
    pub peer: SocketAddr,
    /// Time from the first packet to the answer.
    pub elapsed: Duration,
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A REJECT rule, or the address is there and the port is not.
    #[error("refused: port unreachable, or reset")]
    Refused,
    /// A DROP rule.
    #[error("no answer")]
    TimedOut,
    /// Host or network unreachable: in the lab, no rule has touched the packet and the gateway has sent it back.
    #[error("host or network unreachable")]
    Unreachable,
    /// The connection was there and is no more.
    #[error("the connection was closed or reset")]
    Closed,
    /// The test is at fault: an address that is not the host's, a protocol that the kernel lacks.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Failure::Unreachable,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Failure::Closed,
            _ => Failure::Other(error.to_string()),
        }
    }
}

/// What to ask, from where and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    to: SocketAddr,
    protocol: Protocol,
    from: Option<SocketAddr>,
    timeout: Duration,
}

impl Probe {
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        Probe { to, protocol, from: None, timeout: TIMEOUT }
    }

    pub fn tcp(to: SocketAddr) -> Self {
        Probe::new(Protocol::Tcp, to)
    }

    pub fn udp(to: SocketAddr) -> Self {
        Probe::new(Protocol::Udp, to)
    }

    /// From this address and port; port 0 is any.
    #[must_use]
    pub fn from(mut self, from: SocketAddr) -> Self {
        self.from = Some(from);
        self
    }

    /// From this port of whatever address the route says.
    #[must_use]
    pub fn from_port(self, port: u16) -> Self {
        let any = any_address(&self.to);
        self.from(SocketAddr::new(any, port))
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks once, on a flow of its own.
    pub fn run(&self, host: &Host) -> Result<Reply, Failure> {
        let start = Instant::now();
        let reply = Flow::open(host, self)?.ask()?;
        Ok(Reply { elapsed: start.elapsed(), ..reply })
    }
}

/// Asks once. The timeout is two seconds; see [`Probe`] for another.
pub fn connect(host: &Host, to: SocketAddr, protocol: Protocol, from: Option<SocketAddr>) -> Result<Reply, Failure> {
    Probe { from, ..Probe::new(protocol, to) }.run(host)
}

fn any_address(like: &SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[derive(Debug)]
enum Socket {
    Stream(BufReader<TcpStream>),
    Datagram(UdpSocket),
}

/// A flow that stays: a TCP or SCTP connection, or a UDP socket that keeps its port.
#[derive(Debug)]
pub struct Flow {
    socket: Socket,
    questions: u64,
    timeout: Duration,
}

impl Flow {
    /// Connects. A UDP flow sends its first packet with the first question.
    pub fn open(host: &Host, probe: &Probe) -> Result<Flow, Failure> {
        let socket = host.run(|| open(probe)).map_err(|error| Failure::Other(error.to_string()))??;
        Ok(Flow { socket, questions: 0, timeout: probe.timeout })
    }

    /// Our end of the flow.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Stream(stream) => stream.get_ref().local_addr(),
            Socket::Datagram(socket) => socket.local_addr(),
        }
    }

    /// Asks over this flow.
    pub fn ask(&mut self) -> Result<Reply, Failure> {
        self.questions += 1;
        let start = Instant::now();
        let question = format!("{}\n", self.questions);
        self.send(question.as_bytes())?;
        loop {
            // Only late answers to earlier questions come in between, so this does not wait much longer than it should.
            if start.elapsed() > self.timeout {
                return Err(Failure::TimedOut);
            }
            let answer = self.receive()?;
            let (number, server, peer) = parse(&answer)
                .ok_or_else(|| Failure::Other(format!("the answer is not from an echo server: {answer:?}")))?;
            if number == self.questions {
                return Ok(Reply { server, peer, elapsed: start.elapsed() });
            }
        }
    }

    fn send(&mut self, question: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Stream(stream) => stream.get_mut().write_all(question),
            Socket::Datagram(socket) => match socket.send(question) {
                // A rule for locally made packets refused it. If that was a REJECT, a message follows.
                Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
                result => result.map(drop),
            },
        }
    }

    fn receive(&mut self) -> io::Result<String> {
        match &mut self.socket {
            Socket::Stream(stream) => {
                let mut line = String::new();
                if stream.read_line(&mut line)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(line)
            }
            Socket::Datagram(socket) => {
                let mut buffer = [0; 256];
                let length = socket.recv(&mut buffer)?;
                Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
            }
        }
    }
}

fn open(probe: &Probe) -> io::Result<Socket> {
    if probe.protocol != Protocol::Udp {
        let stream = socket::connect_stream(probe.to, probe.protocol, probe.from, probe.timeout)?;
        return Ok(Socket::Stream(BufReader::new(stream)));
    }
    let from = probe.from.unwrap_or_else(|| SocketAddr::new(any_address(&probe.to), 0));
    let socket = socket::connect_datagram(from, probe.to)?;
    socket.set_read_timeout(Some(probe.timeout))?;
    Ok(Socket::Datagram(socket))
}

fn parse(answer: &str) -> Option<(u64, String, SocketAddr)> {
    let mut words = answer.split_whitespace();
    let parsed = (words.next()?.parse().ok()?, words.next()?.to_owned(), words.next()?.parse().ok()?);
    words.next().is_none().then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_three_words() {
        let peer = "[fd00::1]:80".parse().unwrap();
        assert_eq!(parse("7 pod1 [fd00::1]:80\n"), Some((7, "pod1".to_owned(), peer)));
        for wrong in ["", "7 pod1", "x pod1 1.2.3.4:5", "7 pod1 1.2.3.4", "7 pod1 1.2.3.4:5 more"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn failures_tell_reject_drop_and_none_apart() {
        let of = |errno: Errno| Failure::from(io::Error::from(errno));
        assert_eq!(of(Errno::ECONNREFUSED), Failure::Refused);
        assert_eq!(of(Errno::ETIMEDOUT), Failure::TimedOut);
        assert_eq!(of(Errno::EAGAIN), Failure::TimedOut, "a read that timed out");
        assert_eq!(of(Errno::EHOSTUNREACH), Failure::Unreachable);
        assert_eq!(of(Errno::ENETUNREACH), Failure::Unreachable);
        assert_eq!(of(Errno::ECONNRESET), Failure::Closed);
        assert!(matches!(of(Errno::EADDRNOTAVAIL), Failure::Other(_)));
    }
}
