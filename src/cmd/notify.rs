//! What a service manager is told: `sd_notify(3)`, one datagram for each news. Where nobody asked (`NOTIFY_SOCKET` is
//! not set) all of this does nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A manager that does not read for so long is not waited for.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// The manager ends us when it hears nothing for so long.
    watchdog: Option<Duration>,
    /// A failure was told.
    failed: AtomicBool,
}

impl Notifier {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`). A socket that cannot be used is a
    /// warning: the service works, and its manager will say what it missed.
    pub fn from_env() -> Notifier {
        Notifier::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Notifier {
        let Some(name) = get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Notifier::default() };
        match open(&name) {
            Ok(to) => Notifier { to: Some(to), watchdog: watchdog(get), failed: AtomicBool::new(false) },
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "the service manager cannot be told anything");
                Notifier::default()
            }
        }
    }

    /// The start, or a reload, is done; and one line on what is being done now.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// A reload begins; [`ready`](Notifier::ready) ends it, whether the new configuration was taken or not.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()));
    }

    /// The end begins, and may take so long.
    pub fn stopping(&self, within: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    /// One line on what is being done now.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", line(text)));
    }

    /// Tells the watchdog that we are alive as long as `alive` says so in time, and for ever if there is none. Once
    /// `alive` says no, nothing is told any more.
    pub async fn keep_alive(&self, alive: impl AsyncFn() -> bool) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut ticks = interval(limit / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match timeout(limit / 3, alive()).await {
                Ok(true) => self.send("WATCHDOG=1"),
                Ok(false) => return std::future::pending().await,
                Err(_) => tracing::warn!(within = ?limit / 3, "the engine does not answer the watchdog"),
            }
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.to else { return };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => self.failed.store(false, Ordering::Relaxed),
            Err(error) if !self.failed.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the service manager does not take a message");
            }
            Err(_) => {}
        }
    }
}

/// A path, or `@` and a name without one.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

/// How long the manager waits for a sign of life, if it waits for one of this process.
fn watchdog(get: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name: &str| get(name)?.to_str()?.parse::<u64>().ok();
    let ours = get("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0).map(Duration::from_micros)
}

/// A message has a line for each variable.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn monotonic_microseconds() -> u128 {
    // There is no Linux without this clock.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_micros())
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
