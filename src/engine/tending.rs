//! When the kernel thread does what is due by time alone.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::backend::RepairError;

/// After failures it is tried again this much later, doubling.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What comes next.
pub(super) enum Next<T> {
    Command(T),
    Tend,
    /// Nobody can send commands any more.
    End,
}

/// When [`Backend::tend`](super::Backend::tend) is to be called.
#[derive(Debug, Default)]
pub(super) struct Tending {
    due: Option<Instant>,
    /// How long to wait after a failure; `None` after a success.
    retry: Option<Duration>,
}

impl Tending {
    /// Waits for a command, or until it is time.
    pub(super) fn next<T>(&self, inbox: &Receiver<T>) -> Next<T> {
        let Some(due) = self.due else { return inbox.recv().map_or(Next::End, Next::Command) };
        match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(command) => Next::Command(command),
            Err(RecvTimeoutError::Timeout) => Next::Tend,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// There may be something to tend, or no longer. What is due already stays due.
    pub(super) fn due_in(&mut self, rest: Option<Duration>) {
        let rest = rest.map(|rest| rest.max(self.retry.unwrap_or_default()));
        self.due = rest.map(|rest| {
            let next = Instant::now() + rest;
            self.due.map_or(next, |due| due.min(next))
        });
    }

    /// It was done. A failure is told once, for as long as it lasts.
    pub(super) fn tended(&mut self, result: Result<(), RepairError>, rest: Option<Duration>) {
        self.due = None;
        self.retry = match (result, self.retry) {
            (Ok(()), None) => None,
            (Ok(()), Some(_)) => {
                tracing::info!("what is kept for its last connections is looked after again");
                None
            }
            (Err(error), None) => {
                tracing::error!(%error, "cannot look after what is kept for its last connections; it is tried again");
                Some(FIRST_RETRY)
            }
            (Err(_), Some(retry)) => Some((retry * 2).min(LONGEST_RETRY)),
        };
        self.due_in(rest.or(self.retry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ObserveError;
    use std::sync::mpsc;

    fn failure() -> Result<(), RepairError> {
        Err(ObserveError { message: "no".to_owned() }.into())
    }

    #[test]
    fn commands_come_whether_something_is_due_or_not() {
        let (sender, inbox) = mpsc::channel();
        let mut tending = Tending::default();
        sender.send(1).unwrap();
        assert!(matches!(tending.next(&inbox), Next::Command(1)));
        tending.due_in(Some(Duration::from_millis(1)));
        assert!(matches!(tending.next(&inbox), Next::Tend));
        tending.tended(Ok(()), Some(Duration::from_secs(3_600)));
        sender.send(2).unwrap();
        assert!(matches!(tending.next(&inbox), Next::Command(2)));
        tending.due_in(None);
        drop(sender);
        assert!(matches!(tending.next(&inbox), Next::End));
    }

    #[test]
    fn commands_do_not_put_off_what_is_due() {
        let mut tending = Tending::default();
        tending.due_in(Some(Duration::from_secs(10)));
        let due = tending.due.unwrap();
        tending.due_in(Some(Duration::from_secs(10)));
        assert_eq!(tending.due, Some(due));
    }

    #[test]
    fn failures_are_tried_again_with_growing_waits_whatever_the_backend_says() {
        let mut tending = Tending::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            tending.tended(failure(), None);
            assert_eq!(tending.retry, Some(Duration::from_secs(seconds)));
            assert!(tending.due.is_some());
        }
        tending.tended(Ok(()), None);
        assert_eq!((tending.retry, tending.due), (None, None));
    }
}
