//! How much is sent to the kernel: counted where it is sent, read by whoever wants to know.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was sent about one family of objects, questions included. Clones count into the same figures.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl Traffic {
    /// So much was sent.
    pub fn add(&self, bytes: usize, messages: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Bytes sent so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Messages sent so far; a line is one where a tool reads them.
    pub fn messages(&self) -> u64 {
        self.0.messages.load(Ordering::Relaxed)
    }

    /// A writer that counts what goes through it: its bytes, and its lines as messages.
    pub fn lines<'a>(&'a self, to: &'a mut dyn Write) -> impl Write + 'a {
        CountingLines { traffic: self, to }
    }
}

struct CountingLines<'a> {
    traffic: &'a Traffic,
    to: &'a mut dyn Write,
}

impl Write for CountingLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        let lines = bytes.iter().take(written).filter(|byte| **byte == b'\n').count();
        self.traffic.add(written, lines);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The figures of every family of objects that rules are made of.
#[derive(Clone, Debug, Default)]
pub struct KernelTraffic {
    /// Chains and rules.
    pub rules: Traffic,
    /// ipsets.
    pub sets: Traffic,
    /// Virtual and real servers of IPVS.
    pub servers: Traffic,
    /// The service device and its addresses.
    pub links: Traffic,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together_and_lines_are_messages() {
        let traffic = Traffic::default();
        traffic.clone().add(10, 2);
        let mut out = Vec::new();
        traffic.lines(&mut out).write_all(b"*nat\n:A - [0:0]\nCOMMIT\n").unwrap();
        assert_eq!(out.len(), 23);
        assert_eq!((traffic.bytes(), traffic.messages()), (33, 5));
    }
}
