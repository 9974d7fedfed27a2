//! The proxies that are waited for. One that was named is waited for always; one that a store told
//! of until it has told nothing of it for a minute: then it is taken for removed.

use std::collections::BTreeMap;

use ombre_policy::duration::{Millis, Moment};

use super::Reading;

/// As long as unknown evidence takes to be told to people.
const REMOVED: Millis = Millis::from_secs(60);

/// A proxy. Numbers are never given twice: another proxy's counters are another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyId(u64);

/// Every proxy that is waited for in a tick, and its answer, if it came.
pub type Readings = BTreeMap<ProxyId, Option<Reading>>;

/// All of them, by their source and their name there.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: BTreeMap<(usize, String), Seat>,
    next: u64,
}

#[derive(Debug)]
struct Seat {
    id: ProxyId,
    /// The last time that it was told of; none for one that was named.
    told: Option<Moment>,
    reading: Option<Reading>,
}

impl ProxyId {
    /// The proxy of this number.
    #[cfg(test)]
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl Roster {
    /// Waits for the one proxy of a source, always.
    pub(super) fn enlist(&mut self, source: usize) {
        self.seat(source, String::new(), None);
    }

    /// Begins a tick: nobody has answered.
    pub(super) fn open(&mut self) {
        for seat in self.seats.values_mut() {
            seat.reading = None;
        }
    }

    /// Notes what a source says of a proxy.
    pub(super) fn note(
        &mut self,
        source: usize,
        name: String,
        reading: Option<Reading>,
        now: Moment,
    ) {
        let seat = self.seat(source, name, Some(now));
        if seat.told.is_some() {
            seat.told = Some(now);
        }
        seat.reading = reading;
    }

    /// Ends a tick.
    pub(super) fn close(&mut self, now: Moment) -> Readings {
        self.seats
            .retain(|_, seat| seat.told.is_none_or(|told| now.since(told) < REMOVED));
        let seats = self.seats.values_mut();
        seats.map(|seat| (seat.id, seat.reading.take())).collect()
    }

    /// How many proxies a source has.
    pub(super) fn of_source(&self, source: usize) -> usize {
        let seats = self.seats.keys();
        seats.filter(|(number, _)| *number == source).count()
    }

    fn seat(&mut self, source: usize, name: String, told: Option<Moment>) -> &mut Seat {
        self.seats.entry((source, name)).or_insert_with(|| {
            self.next += 1;
            Seat {
                id: ProxyId(self.next),
                told,
                reading: None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Moment {
        Moment::from_unix_millis(second * 1000)
    }

    fn reading() -> Option<Reading> {
        Some(Reading {
            at: second(0),
            age: Millis::ZERO,
            uptime: None,
            clusters: BTreeMap::new(),
        })
    }

    fn answers(readings: &Readings) -> Vec<(u64, bool)> {
        let answers = readings.iter();
        answers
            .map(|(id, reading)| (id.0, reading.is_some()))
            .collect()
    }

    #[test]
    fn a_named_proxy_is_waited_for_always_and_a_told_one_for_a_minute() {
        let mut roster = Roster::default();
        roster.enlist(0);
        let mut tick = |at: u64, told: &[&str]| {
            roster.open();
            for name in told {
                roster.note(1, (*name).to_owned(), reading(), second(at));
            }
            answers(&roster.close(second(at)))
        };
        assert_eq!(tick(1, &["a", "b"]), [(1, false), (2, true), (3, true)]);
        assert_eq!(tick(2, &["b"]), [(1, false), (2, false), (3, true)]);
        assert_eq!(tick(60, &["b"]), [(1, false), (2, false), (3, true)]);
        assert_eq!(tick(61, &["b"]), [(1, false), (3, true)], "removed");
        assert_eq!(
            tick(62, &["a"]),
            [(1, false), (3, false), (4, true)],
            "anew"
        );
        assert_eq!(tick(999, &[]), [(1, false)]);
    }

    #[test]
    fn proxies_of_two_sources_are_two() {
        let mut roster = Roster::default();
        for source in [0, 1] {
            roster.note(source, "a".to_owned(), reading(), second(1));
        }
        assert_eq!((roster.of_source(0), roster.of_source(1)), (1, 1));
        assert_eq!(answers(&roster.close(second(1))).len(), 2);
    }
}
