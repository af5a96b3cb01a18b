//! Notices at once what somebody else changes: our rules in the kernel, and the addresses of this host.
//!
//! | what | how | found within |
//! |---|---|---|
//! | rules in nf_tables | [`nft`]: the kernel tells which chains each commit touched, and who made it | a millisecond |
//! | rules in legacy tables | [`legacy`]: the tables' sizes, every 75 ms | 75 ms |
//! | addresses and links | the kernel tells | 50 ms, in which bursts are gathered |
//!
//! What is noticed is a [`Suspicion`]: which chains to compare. It is no proof of a difference, and none that all others
//! are right; the engine's periodic compare stays. Chains that are neither ours nor built in are nobody's business here.
//!
//! A driver tells its own writes by [`OwnWrites`], so that they cost nothing and are not suspected.

mod addresses;
mod legacy;
mod nft;
mod own;
mod pace;
mod signal;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use self::addresses::AddressWatch;
use self::legacy::LegacyWatch;
use self::nft::NftWatch;
use self::signal::Signal;
use self::thread::{Rules, Thread};
use super::xtables::Suspicion;
use super::xtables::variant::Variant;
use crate::net::Family;
pub use own::{LARGE, OwnWrites, Write, Writing};

/// Called with what somebody else seems to have changed.
pub type OnDrift = Box<dyn FnMut(Suspicion) + Send>;
/// Called when addresses or links of this host may have changed.
pub type OnAddresses = Box<dyn FnMut() + Send>;

/// What to watch, and whom to tell.
pub struct WatchConfig {
    /// The kind of tables that hold our rules.
    pub variant: Variant,
    /// The families that we write to.
    pub families: Vec<Family>,
    /// What the driver tells of its own writes. One watcher a value.
    pub own: OwnWrites,
    /// Both are called on the watcher's thread, and should not take long.
    pub on_drift: OnDrift,
    pub on_addresses: OnAddresses,
}

/// The running watcher. It ends when this is dropped: from then on nobody is told anything.
#[derive(Debug)]
pub struct Watch {
    own: OwnWrites,
    signal: Arc<Signal>,
    /// Disconnected when the thread has stopped.
    stopped: Receiver<()>,
}

impl Watch {
    /// Starts to watch the network namespace of the calling thread: what happens from the return of this on is noticed.
    ///
    /// Where the kernel gives no socket for one of the things to watch, a warning is logged and the others are watched.
    ///
    /// # Errors
    /// The system has no thread or no pipe to give.
    pub fn spawn(config: WatchConfig) -> io::Result<Watch> {
        let WatchConfig { variant, families, own, on_drift, on_addresses } = config;
        let (signal, sleep) = Signal::new()?;
        let rules = match variant {
            Variant::Nft => NftWatch::open(own.clone(), &families, signal.clone())
                .map(|nft| Rules::Nft(Box::new(nft)))
                .inspect_err(|error| warn_rules(&error.to_string()))
                .ok(),
            Variant::Legacy => LegacyWatch::open(&own, &families)
                .map(Rules::Legacy)
                .inspect_err(|errno| warn_rules(&format!("cannot ask for the size of a legacy table: {errno}")))
                .ok(),
        };
        let addresses = AddressWatch::open().inspect_err(|error| warn_addresses(&error.to_string())).ok();
        let mut thread = Thread::new(sleep, rules, addresses, on_drift, on_addresses);
        let (running, stopped) = channel();
        let work = move || {
            thread.run();
            drop(running);
            // Nobody waits for this: to close a socket of netfilter, the kernel waits for whoever is committing.
            drop(thread);
        };
        std::thread::Builder::new().name("weir-watch".into()).spawn(work).inspect_err(|_| own.detach())?;
        Ok(Watch { own, signal, stopped })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.own.detach();
        self.signal.stop();
        // Nothing is ever sent: it ends when the thread stops, or panics in what it calls.
        let _ = self.stopped.recv();
    }
}

fn warn_rules(reason: &str) {
    tracing::warn!(reason, "changes of rules by others are not noticed at once; the periodic compare still finds them");
}

fn warn_addresses(reason: &str) {
    tracing::warn!(reason, "changes of addresses are not noticed at once; they are still read periodically");
}
