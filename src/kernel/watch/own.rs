//! Which writes are ours.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// From this many messages on, a commit to nf_tables is [`Write::Large`]. While somebody listens the kernel needs some
/// 3 µs more a message; leaving the group, joining it again and asking what was missed takes some 50 µs, and costs the
/// names of those who wrote meanwhile.
pub const LARGE: usize = 500;

/// A kind of write, by what has to be done for it to be taken for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A commit through a socket whose port is known ([`OwnWrites::port`]): it is recognised by that.
    Small,
    /// Such commits, so large that listening would slow them down: nobody listens meanwhile. What others commit at that
    /// time is found afterwards by the generations that were not [made](Writing::made) by us; by whom, is not.
    Large,
    /// Programs write in our name. Nobody listens meanwhile; all that is written at that time counts as ours.
    ByTool,
}

impl Write {
    /// The kind of a commit of so many messages through a socket whose port is known.
    pub const fn of_messages(count: usize) -> Self {
        if count < LARGE { Write::Small } else { Write::Large }
    }
}

/// What a driver tells the watcher. Cheap to clone; all clones are one. Without a watcher it does nothing.
#[derive(Clone, Debug, Default)]
pub struct OwnWrites {
    shared: Arc<Mutex<State>>,
}

impl OwnWrites {
    pub fn new() -> Self {
        OwnWrites::default()
    }

    /// A socket with this port writes for us. A socket gets another port when it is opened again, which
    /// [`Socket`](crate::kernel::netlink::Socket) does after a dump that was left before its end.
    pub fn port(&self, port: u32) {
        self.state().ports.insert(port);
    }

    /// The socket with this port was closed: the next one who gets the number may be anybody.
    pub fn forget_port(&self, port: u32) {
        self.state().ports.remove(&port);
    }

    /// A write begins. It ends when the guard is dropped.
    #[must_use = "the write is over when this is dropped"]
    pub fn begin(&self, write: Write) -> Writing {
        if write != Write::Small {
            let mut state = self.state();
            if state.covered == 0
                && let Some(eyes) = &mut state.eyes
            {
                eyes.close();
            }
            state.covered += 1;
        }
        Writing { own: self.clone(), write }
    }

    /// Whether a socket with this port writes for us.
    pub(super) fn is_ours(&self, port: u32) -> bool {
        self.state().ports.contains(&port)
    }

    /// From now on these eyes are closed during writes that they would take for others'. They are open now, unless such
    /// a write is going on.
    pub(super) fn attach(&self, mut eyes: Box<dyn Eyes>) {
        let mut state = self.state();
        if state.covered > 0 {
            eyes.close();
        }
        state.eyes = Some(eyes);
        state.unseen = None;
    }

    pub(super) fn detach(&self) {
        self.state().eyes = None;
    }

    /// What was written with closed eyes since the last call, so far: each such write is mentioned once more when it is
    /// over.
    pub(super) fn take_unseen(&self) -> Option<Unseen> {
        self.state().unseen.take()
    }

    /// Something is being written with closed eyes, or was and [`OwnWrites::take_unseen`] has not been called since.
    pub(super) fn is_unseen(&self) -> bool {
        let state = self.state();
        state.covered > 0 || state.unseen.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What sees our own writes and cannot tell them from others'.
pub(super) trait Eyes: Send {
    /// A write of ours begins.
    fn close(&mut self);
    /// All of them are over.
    fn open(&mut self);
}

/// What we wrote while nobody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    /// The generations that our commits made.
    pub(super) generations: BTreeSet<u32>,
    /// There may be more of ours than these.
    pub(super) by_tool: bool,
}

#[derive(Default)]
struct State {
    ports: BTreeSet<u32>,
    /// Writes with closed eyes that are going on.
    covered: usize,
    unseen: Option<Unseen>,
    eyes: Option<Box<dyn Eyes>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { ports, covered, unseen, eyes: _ } = self;
        f.debug_struct("State").field("ports", ports).field("covered", covered).field("unseen", unseen).finish()
    }
}

/// A write of ours that is going on.
#[derive(Debug)]
pub struct Writing {
    own: OwnWrites,
    write: Write,
}

impl Writing {
    /// A commit of ours made this generation. The kernel takes a commit only while the generation is the one that it
    /// names, so that its own is the next one.
    pub fn made(&self, generation: u32) {
        let mut state = self.own.state();
        // A small commit is unseen as well while a large write is going on around it.
        if state.covered > 0 && state.eyes.is_some() {
            state.unseen.get_or_insert_default().generations.insert(generation);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.write == Write::Small {
            return;
        }
        let mut state = self.own.state();
        state.covered = state.covered.saturating_sub(1);
        let over = state.covered == 0;
        let State { eyes: Some(eyes), unseen, .. } = &mut *state else { return };
        unseen.get_or_insert_default().by_tool |= self.write == Write::ByTool;
        if over {
            eyes.open();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Lid(Arc<AtomicBool>);

    impl Eyes for Lid {
        fn close(&mut self) {
            assert!(!self.0.swap(true, Ordering::Relaxed), "closed twice");
        }

        fn open(&mut self) {
            assert!(self.0.swap(false, Ordering::Relaxed), "opened twice");
        }
    }

    fn watched() -> (OwnWrites, Arc<AtomicBool>) {
        let (own, closed) = (OwnWrites::new(), Arc::new(AtomicBool::new(false)));
        own.attach(Box::new(Lid(closed.clone())));
        (own, closed)
    }

    #[test]
    fn eyes_are_closed_from_the_first_write_to_the_last() {
        let (own, closed) = watched();
        let small = own.begin(Write::Small);
        assert!(!closed.load(Ordering::Relaxed));
        let large = own.begin(Write::of_messages(LARGE));
        let tool = own.clone().begin(Write::ByTool);
        large.made(7);
        large.made(8);
        drop(large);
        assert!(closed.load(Ordering::Relaxed) && own.is_unseen());
        assert_eq!(own.take_unseen(), Some(Unseen { generations: BTreeSet::from([7, 8]), by_tool: false }));
        assert!(own.is_unseen(), "it goes on");
        drop(tool);
        assert!(!closed.load(Ordering::Relaxed));
        assert_eq!(own.take_unseen(), Some(Unseen { generations: BTreeSet::new(), by_tool: true }));
        assert!(!own.is_unseen());
        small.made(9);
        drop(small);
        assert_eq!(own.take_unseen(), None);
    }

    #[test]
    fn a_small_commit_inside_a_large_write_is_unseen_as_well() {
        let (own, _) = watched();
        let all = own.begin(Write::Large);
        own.begin(Write::Small).made(7);
        drop(all);
        assert_eq!(own.take_unseen(), Some(Unseen { generations: BTreeSet::from([7]), by_tool: false }));
    }

    #[test]
    fn eyes_that_come_late_are_closed_at_once() {
        let own = OwnWrites::new();
        let writing = own.begin(Write::Large);
        let closed = Arc::new(AtomicBool::new(false));
        own.attach(Box::new(Lid(closed.clone())));
        assert!(closed.load(Ordering::Relaxed));
        drop(writing);
        assert!(!closed.load(Ordering::Relaxed));
        own.detach();
        drop(own.begin(Write::Large));
        assert!(!closed.load(Ordering::Relaxed));
        own.attach(Box::new(Lid(closed)));
        assert_eq!(own.take_unseen(), None, "who comes later begins with what is there");
    }

    #[test]
    fn without_a_watcher_nothing_is_kept() {
        let own = OwnWrites::new();
        let writing = own.begin(Write::Large);
        (0..100).for_each(|generation| writing.made(generation));
        drop(writing);
        assert_eq!(own.take_unseen(), None);
    }

    #[test]
    fn ports_come_and_go() {
        let own = OwnWrites::new();
        own.clone().port(5);
        assert!(own.is_ours(5) && !own.is_ours(6));
        own.forget_port(5);
        assert!(!own.is_ours(5));
    }
}
