//! Waking the thread, and stopping it.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The side of those who wake. There is one byte in the pipe at most, so that writing never blocks.
#[derive(Debug)]
pub(super) struct Signal {
    pipe: PipeWriter,
    sent: AtomicBool,
    stop: AtomicBool,
}

impl Signal {
    pub(super) fn new() -> io::Result<(Arc<Signal>, Sleep)> {
        let (reader, pipe) = io::pipe()?;
        let signal = Arc::new(Signal { pipe, sent: AtomicBool::new(false), stop: AtomicBool::new(false) });
        let sleep = Sleep { pipe: reader, signal: signal.clone() };
        Ok((signal, sleep))
    }

    pub(super) fn wake(&self) {
        if !self.sent.swap(true, Ordering::SeqCst) && (&self.pipe).write_all(&[0]).is_err() {
            // The thread is gone.
            self.sent.store(false, Ordering::SeqCst);
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }
}

/// The side of the thread: readable when it was woken.
#[derive(Debug)]
pub(super) struct Sleep {
    pipe: PipeReader,
    signal: Arc<Signal>,
}

impl Sleep {
    /// Once the pipe is readable, makes it sleep again. Who wakes from now on is heard.
    pub(super) fn reset(&mut self) {
        // A pipe that cannot be read is as good as one that was.
        let _ = self.pipe.read(&mut [0]);
        self.signal.sent.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.signal.stop.load(Ordering::SeqCst)
    }
}

impl AsFd for Sleep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
