//! Ends a test's life of the controller at a chosen write, before or after it reached the disk.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

/// Which side of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nothing of it is on the disk.
    Before,
    /// It is on the disk, and nobody has been told.
    After,
}

/// What is to happen at which write.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    planned: Option<Planned>,
    written: usize,
    dead: bool,
}

#[derive(Debug)]
struct Planned {
    at: usize,
    side: Side,
    reached: UnboundedSender<()>,
    release: Receiver<()>,
}

impl Faults {
    /// Says so on `reached` at write number `at`, counted from 0, and holds the thread that makes it
    /// until the sender returned is used or dropped. From then on nothing is written any more.
    pub(crate) fn plan(&self, at: usize, side: Side, reached: UnboundedSender<()>) -> Sender<()> {
        let (sender, release) = channel();
        self.state().planned = Some(Planned {
            at,
            side,
            reached,
            release,
        });
        sender
    }

    /// How many writes there were.
    pub(crate) fn written(&self) -> usize {
        self.state().written
    }

    /// Whether the write may go on.
    pub(super) fn reach(&self, side: Side) -> bool {
        let due = {
            let mut state = self.state();
            let written = state.written;
            if side == Side::After {
                state.written += 1;
            }
            let due = |planned: &mut Planned| planned.side == side && planned.at == written;
            let due = state.planned.take_if(due);
            state.dead |= due.is_some();
            due
        };
        if let Some(planned) = due {
            let _ = planned.reached.send(());
            let _ = planned.release.recv();
        }
        !self.state().dead
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
