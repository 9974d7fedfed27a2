//! The time of one run: what the machine's clock showed at its start, and from there on how much time
//! has passed. Whoever sets the machine's clock meanwhile moves no deadline, ends no cool-down and
//! makes no evidence old. What is kept is such a time too, so a restart may find itself before it.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use ombre_policy::duration::{Millis, Moment};

/// A clock that only ever goes on.
#[derive(Clone, Debug)]
pub struct Clock {
    begun: Moment,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The machine, and when the run began.
    Machine(Instant),
    /// A test.
    #[cfg(test)]
    Hand(hand::Hand),
}

impl Clock {
    /// Begins a run now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            begun: wall(),
            source: Source::Machine(Instant::now()),
        }
    }

    /// The time by which releases are moved: the time passed since the start, and the start.
    #[must_use]
    pub fn now(&self) -> Moment {
        let passed = match &self.source {
            Source::Machine(begun) => {
                Millis::new(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
            }
            #[cfg(test)]
            Source::Hand(hand) => hand.passed(),
        };
        self.begun.after(passed)
    }

    /// When it was that the machine's clock showed this; not after now.
    #[must_use]
    pub fn when(&self, shown: SystemTime) -> Moment {
        let ago = self.wall().since(moment(shown));
        self.now().before(ago)
    }

    /// What the machine's clock shows, to compare with those of others.
    #[must_use]
    pub fn wall(&self) -> Moment {
        match &self.source {
            Source::Machine(_) => wall(),
            #[cfg(test)]
            Source::Hand(hand) => hand.wall(),
        }
    }
}

/// What the machine's clock shows. It may be set back.
#[must_use]
pub fn wall() -> Moment {
    moment(SystemTime::now())
}

fn moment(shown: SystemTime) -> Moment {
    let since = shown.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    });
    Moment::from_unix_millis(millis)
}

/// The time of the whole program as a date: what was seen is compared with it, however the machine's
/// clock is set meanwhile.
#[must_use]
pub fn steady() -> SystemTime {
    static BEGUN: OnceLock<(SystemTime, Instant)> = OnceLock::new();
    let (shown, begun) = BEGUN.get_or_init(|| (SystemTime::now(), Instant::now()));
    *shown + begun.elapsed()
}

/// A machine's clock that a test sets.
#[cfg(test)]
pub(crate) mod hand {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Clock, Millis, Moment, Source};

    #[derive(Clone, Debug)]
    pub(crate) struct Hand {
        wall: Arc<AtomicU64>,
        passed: Arc<AtomicU64>,
    }

    impl Hand {
        /// A machine whose clock shows this.
        pub(crate) fn at(wall: Moment) -> Self {
            Self {
                wall: Arc::new(AtomicU64::new(wall.unix_millis())),
                passed: Arc::default(),
            }
        }

        /// The clock of a run on it that begins now.
        pub(crate) fn start(&self) -> Clock {
            let source = Self {
                wall: Arc::clone(&self.wall),
                passed: Arc::default(),
            };
            Clock {
                begun: self.wall(),
                source: Source::Hand(source),
            }
        }

        pub(super) fn wall(&self) -> Moment {
            Moment::from_unix_millis(self.wall.load(Ordering::Relaxed))
        }

        pub(super) fn passed(&self) -> Millis {
            Millis::new(self.passed.load(Ordering::Relaxed))
        }
    }

    impl Clock {
        fn hand(&self) -> &Hand {
            match &self.source {
                Source::Hand(hand) => hand,
                Source::Machine(_) => panic!("this clock cannot be set"),
            }
        }

        /// Time passes.
        pub(crate) fn pass(&self, span: Millis) {
            let hand = self.hand();
            hand.passed.fetch_add(span.get(), Ordering::Relaxed);
            hand.wall.fetch_add(span.get(), Ordering::Relaxed);
        }

        /// Somebody sets the machine's clock.
        pub(crate) fn set(&self, wall: Moment) {
            let hand = self.hand();
            hand.wall.store(wall.unix_millis(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::hand::Hand;
    use super::*;

    #[test]
    fn a_run_counts_the_time_passed_whatever_the_machines_clock_shows() {
        let at = Moment::from_unix_millis;
        let machine = Hand::at(at(1_000_000));
        let clock = machine.start();
        clock.pass(Millis::new(5));
        assert_eq!((clock.now(), clock.wall()), (at(1_000_005), at(1_000_005)));
        clock.set(at(400));
        clock.pass(Millis::new(5));
        assert_eq!((clock.now(), clock.wall()), (at(1_000_010), at(405)));
        clock.set(at(9_000_000));
        assert_eq!(clock.now(), at(1_000_010));
        let shown = SystemTime::UNIX_EPOCH + Duration::from_millis(8_999_993);
        assert_eq!(clock.when(shown), at(1_000_003));
        assert_eq!(clock.when(shown + Duration::from_secs(9)), clock.now());
        assert_eq!(machine.start().now(), at(9_000_000), "the next run");
    }

    #[test]
    fn the_machines_own_clock_goes_on() {
        let before = wall();
        let clock = Clock::start();
        assert!(clock.now() >= before);
        assert!(clock.now() >= clock.begun);
    }
}
