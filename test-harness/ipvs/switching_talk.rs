//! Connections that stay open while something happens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use weir::lab::{Flow, Host, Probe};

/// TCP connections that stay open, and exchange data all the time.
pub struct Talk {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Talked, String>>>,
}

/// How a connection fared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Talked {
    pub questions: usize,
    /// The longest that an answer took.
    pub longest: Duration,
}

/// Between two questions of one connection: a conversation, not a benchmark.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an answer may take: a broken connection is one that nobody answers any more, or that is reset.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Talk {
    /// Opens a connection for each of these clients.
    pub fn start(clients: &[(&Host, SocketAddr)]) -> Talk {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = clients.iter().map(|(host, to)| {
            let name = format!("{} to {to}", host.name());
            let flow =
                Flow::open(host, &Probe::tcp(*to).timeout(TIMEOUT)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let stop = stop.clone();
            thread::spawn(move || talk(flow, &stop).map_err(|error| format!("{name}: {error}")))
        });
        Talk { threads: threads.collect(), stop }
    }

    /// Ends all connections, and fails if one of them broke before. Returns how they fared together.
    #[track_caller]
    pub fn end(self) -> Talked {
        self.stop.store(true, Ordering::Relaxed);
        let (talked, broken): (Vec<_>, Vec<_>) =
            self.threads.into_iter().map(|thread| thread.join().unwrap()).partition(Result::is_ok);
        let broken: Vec<String> = broken.into_iter().filter_map(Result::err).collect();
        assert!(broken.is_empty(), "{} long-lived connections broke:\n{}", broken.len(), broken.join("\n"));
        talked.into_iter().flatten().fold(Talked::default(), |all, one| Talked {
            questions: all.questions + one.questions,
            longest: all.longest.max(one.longest),
        })
    }
}

fn talk(mut flow: Flow, stop: &AtomicBool) -> Result<Talked, String> {
    let begin = Instant::now();
    let server = flow.ask().map_err(|error| error.to_string())?.server;
    let mut talked = Talked::default();
    while !stop.load(Ordering::Relaxed) {
        let reply = flow.ask().map_err(|error| format!("after {:?}: {error}", begin.elapsed()))?;
        if reply.server != server {
            return Err(format!("{} answers instead of {server}", reply.server));
        }
        talked = Talked { questions: talked.questions + 1, longest: talked.longest.max(reply.elapsed) };
        thread::sleep(PAUSE);
    }
    Ok(talked)
}
