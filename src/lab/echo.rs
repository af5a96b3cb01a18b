//! A server that answers with its name and the address that it was asked from.
//!
//! Question and answer are one line each: `NUMBER` and `NUMBER NAME ADDRESS:PORT`. The number tells a late answer
//! to an earlier datagram from the answer to this one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Host, LabError, socket};
use crate::net::Protocol;

/// Longer than any question.
const QUESTION: usize = 64;

/// An echo server on a host, with any number of ports, in one thread. It stops when this is dropped.
#[derive(Debug)]
pub struct EchoServer {
    /// Closing it stops the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens on these ports of the host's addresses, under the host's name.
    pub fn start(host: &Host, ports: &[(Protocol, u16)]) -> Result<EchoServer, LabError> {
        let sockets: Vec<_> = host
            .addresses()
            .flat_map(|address| ports.iter().map(move |(protocol, port)| (*protocol, SocketAddr::new(address, *port))))
            .collect();
        EchoServer::start_on(host, host.name(), &sockets)
    }

    /// Listens on these sockets of the host and answers with this name.
    pub fn start_on(host: &Host, name: &str, sockets: &[(Protocol, SocketAddr)]) -> Result<EchoServer, LabError> {
        let open = || sockets.iter().map(|(protocol, address)| Source::open(*protocol, *address)).collect();
        let opened: io::Result<Vec<Source>> = host.run(open)?;
        let sources = opened.map_err(LabError::io(host.name(), format!("listen on {sockets:?}")))?;
        let (stop, stopped) = UnixStream::pair().map_err(LabError::io(host.name(), "make a pair of sockets"))?;
        let server = Server { name: name.to_owned(), stopped, sources };
        let thread = thread::Builder::new()
            .name(format!("echo {name}"))
            .spawn(move || server.serve())
            .map_err(LabError::io(host.name(), "start a thread"))?;
        Ok(EchoServer { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread runs only the loop below, which does not panic.
            let _ = thread.join();
        }
    }
}

enum Source {
    Listener(TcpListener),
    Stream { stream: TcpStream, peer: SocketAddr, line: Vec<u8> },
    Datagrams(UdpSocket),
}

/// What a source has to say after it was looked at.
enum Next {
    Keep,
    Add(Source),
    Close,
}

impl Source {
    fn open(protocol: Protocol, address: SocketAddr) -> io::Result<Source> {
        if protocol == Protocol::Udp {
            let socket = socket::datagram(address)?;
            socket.set_nonblocking(true)?;
            return Ok(Source::Datagrams(socket));
        }
        socket::listen(address, protocol).map(Source::Listener)
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let fd = match self {
            Source::Listener(listener) => listener.as_fd(),
            Source::Stream { stream, .. } => stream.as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
        };
        PollFd::new(fd, PollFlags::POLLIN)
    }

    fn handle(&mut self, name: &str) -> Next {
        let result = match self {
            Source::Listener(listener) => accept(listener).map(Next::Add),
            Source::Stream { stream, peer, line } => converse(stream, *peer, line, name),
            Source::Datagrams(socket) => answer_datagram(socket, name).map(|()| Next::Keep),
        };
        match (result, &self) {
            (Ok(next), _) => next,
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => Next::Keep,
            (Err(_), Source::Stream { .. }) => Next::Close,
            // A client that went away again: the next one is welcome.
            (Err(_), _) => Next::Keep,
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<Source> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok(Source::Stream { stream, peer, line: Vec::new() })
}

fn converse(stream: &mut TcpStream, peer: SocketAddr, line: &mut Vec<u8>, name: &str) -> io::Result<Next> {
    let mut buffer = [0; QUESTION];
    let length = stream.read(&mut buffer)?;
    if length == 0 || line.len() > QUESTION {
        return Ok(Next::Close);
    }
    for byte in buffer.iter().take(length) {
        if *byte == b'\n' {
            stream.write_all(&answer(line, name, peer))?;
            line.clear();
        } else {
            line.push(*byte);
        }
    }
    Ok(Next::Keep)
}

fn answer_datagram(socket: &UdpSocket, name: &str) -> io::Result<()> {
    let mut buffer = [0; QUESTION];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    let question = buffer.get(..length).unwrap_or_default();
    socket.send_to(&answer(question.trim_ascii_end(), name, peer), peer)?;
    Ok(())
}

fn answer(question: &[u8], name: &str, peer: SocketAddr) -> Vec<u8> {
    let mut text = question.to_vec();
    text.extend_from_slice(format!(" {name} {peer}\n").as_bytes());
    text
}

struct Server {
    name: String,
    stopped: UnixStream,
    sources: Vec<Source>,
}

impl Server {
    fn serve(mut self) {
        while let Some(ready) = self.wait() {
            let mut kept = Vec::with_capacity(self.sources.len());
            for (mut source, ready) in std::mem::take(&mut self.sources).into_iter().zip(ready) {
                let next = if ready { source.handle(&self.name) } else { Next::Keep };
                match next {
                    Next::Keep => kept.push(source),
                    Next::Add(new) => kept.extend([source, new]),
                    Next::Close => {}
                }
            }
            self.sources = kept;
        }
    }

    /// Which sources have something; `None` when it is time to stop.
    fn wait(&self) -> Option<Vec<bool>> {
        let stop = PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN);
        let mut waiting: Vec<PollFd<'_>> =
            std::iter::once(stop).chain(self.sources.iter().map(Source::poll_fd)).collect();
        while let Err(errno) = poll(&mut waiting, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                tracing::error!(server = self.name, error = %errno, "the echo server stops: poll failed");
                return None;
            }
        }
        let mut ready = waiting.iter().map(|fd| fd.any() != Some(false));
        if ready.next() == Some(true) { None } else { Some(ready.collect()) }
    }
}
