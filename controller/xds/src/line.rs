//! Whether the other end of a connection closed it: then the Envoy there has ended, or comes back at
//! once. One that is lost in another way may be cut off, and goes on serving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of one connection's end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<AtomicBool>);

impl Line {
    pub(crate) fn hang_up(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the other end closed it.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
