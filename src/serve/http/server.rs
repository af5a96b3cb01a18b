//! Accepts connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::{converse, stopped};
use super::{Connections, Handler, Limits, Listener};

/// How long accepting rests after it failed: twice as long each time.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(2);
const SAME_TROUBLE: Duration = Duration::from_secs(60);

/// A server that runs. Dropped, it stops soon; [`Server::stop`] waits for that.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts to accept. Must be called within a runtime.
    pub fn start(listener: Listener, handler: Handler, limits: Limits, connections: Arc<Connections>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let address = listener.address();
        let accepting = tokio::spawn(accept(listener, handler, limits, connections, stopping));
        Server { address, stop, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops. The port is closed when this returns; responses in flight get [`Limits::drain_time`] more.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // An error would be a panic, with which the port is closed as well.
        let _ = self.accepting.await;
    }
}

async fn accept(
    listener: Listener,
    handler: Handler,
    limits: Limits,
    connections: Arc<Connections>,
    mut stop: watch::Receiver<bool>,
) {
    let mut trouble = Trouble::default();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                trouble.rest = Duration::ZERO;
                connections.enter(converse(stream, handler.clone(), limits, stop.clone()));
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                let rest = trouble.meet(listener.address(), &error);
                tokio::select! {
                    () = stopped(&mut stop) => return,
                    () = tokio::time::sleep(rest) => {}
                }
                // Its file descriptor is for the next. Not before the rest: the kernel takes a descriptor before it looks
                // whether anybody waits, so whoever came last may be the oldest, and not yet answered.
                connections.close_oldest();
            }
        }
    }
}

/// Accepting fails, most likely for want of file descriptors.
#[derive(Default)]
struct Trouble {
    last: Option<Instant>,
    rest: Duration,
}

impl Trouble {
    /// How long to rest. Trouble that comes back within a minute is the same, and told once.
    fn meet(&mut self, address: SocketAddr, error: &io::Error) -> Duration {
        if self.last.replace(Instant::now()).is_none_or(|last| last.elapsed() > SAME_TROUBLE) {
            tracing::error!(%address, %error, "cannot accept connections: closing the oldest and trying again");
        }
        self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
        self.rest
    }
}

/// The connection failed before it was accepted; the next one may be well (`accept(2)`, *Error handling*).
fn is_of_the_client(error: &io::Error) -> bool {
    let of_the_network = [
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| of_the_network.contains(&code))
}
