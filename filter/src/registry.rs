//! Which workers there are, in shared memory: each with the queue by which it is woken, and under a
//! key of its own what it holds. A worker whose VM died cannot sign off; the poller strikes it off
//! when its beat stands still, and a living worker that was struck off signs on again.

use ombre_policy::document::Revision;

use crate::host::{Queues, SharedMemory};
use crate::shelf::{bytes, numbers};

const WORKERS: &str = "ombre/workers";
/// Workers write here rarely and shortly; whoever loses this often waits for its next tick.
const ATTEMPTS: usize = 100;

/// One worker on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Given out once, never again: a queue's name is made of it, and a queue has one consumer.
    pub id: u64,
    /// The queue that wakes it.
    pub queue: u32,
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Grows while the worker lives.
    pub beat: u64,
    /// The policy it decides by.
    pub policy: Revision,
    /// The decisions it decides by.
    pub decisions: Revision,
    /// How many documents it could not take.
    pub rejected: u64,
}

#[derive(Clone, Debug, Default)]
struct List {
    next_id: u64,
    entries: Vec<Entry>,
}

/// Makes sure that the list exists. To be called while Envoy configures, on its main thread: the
/// host creates keys without comparing, so two workers could otherwise create it over each other.
pub fn prepare(memory: &impl SharedMemory) {
    if memory.read(WORKERS).0.is_none() {
        memory.write(WORKERS, &List::default().encode(), None);
    }
}

/// Signs the calling root on with a new queue. `None`: too many tried at once, try again later.
pub fn sign_on<H: SharedMemory + Queues>(host: &H) -> Option<Entry> {
    // Two steps, so that nobody is told of a queue that has no consumer yet.
    let id = change(host, |list| {
        // Wraps rather than ends, should the memory ever hold noise.
        list.next_id = list.next_id.wrapping_add(1);
        list.next_id
    })?;
    let queue = host.register(&format!("ombre/{id}"));
    let entry = Entry { id, queue };
    change(host, |list| list.entries.push(entry))?;
    Some(entry)
}

/// Strikes a worker off.
pub fn strike_off(memory: &impl SharedMemory, id: u64) {
    // When that fails now, its beat stands still all the same.
    let _ = change(memory, |list| list.entries.retain(|entry| entry.id != id));
    memory.write(&report_key(id), &[], None);
}

/// All workers on the list.
pub fn entries(memory: &impl SharedMemory) -> Vec<Entry> {
    List::decode(&memory.read(WORKERS).0.unwrap_or_default()).entries
}

/// Publishes what a worker says of itself.
pub fn publish(memory: &impl SharedMemory, id: u64, report: Report) {
    let numbers = [
        report.beat,
        report.policy.get(),
        report.decisions.get(),
        report.rejected,
    ];
    memory.write(&report_key(id), &bytes(&numbers), None);
}

/// What a worker said of itself last.
pub fn report(memory: &impl SharedMemory, id: u64) -> Report {
    let value = memory.read(&report_key(id)).0.unwrap_or_default();
    let mut numbers = numbers(&value);
    let mut next = || numbers.next().unwrap_or_default();
    Report {
        beat: next(),
        policy: Revision::new(next()),
        decisions: Revision::new(next()),
        rejected: next(),
    }
}

fn report_key(id: u64) -> String {
    format!("ombre/worker/{id}")
}

fn change<T>(memory: &impl SharedMemory, mut apply: impl FnMut(&mut List) -> T) -> Option<T> {
    for _ in 0..ATTEMPTS {
        let (value, seen) = memory.read(WORKERS);
        let mut list = List::decode(&value.unwrap_or_default());
        let result = apply(&mut list);
        if memory.write(WORKERS, &list.encode(), seen) {
            return Some(result);
        }
    }
    None
}

impl List {
    fn encode(&self) -> Vec<u8> {
        let mut all = vec![self.next_id];
        all.extend(
            self.entries
                .iter()
                .flat_map(|entry| [entry.id, u64::from(entry.queue)]),
        );
        bytes(&all)
    }

    fn decode(value: &[u8]) -> Self {
        let mut numbers = numbers(value);
        let next_id = numbers.next().unwrap_or_default();
        let mut entries = Vec::new();
        while let (Some(id), Some(queue)) = (numbers.next(), numbers.next()) {
            entries.extend(u32::try_from(queue).map(|queue| Entry { id, queue }));
        }
        Self { next_id, entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn each_worker_gets_an_id_and_a_queue_of_its_own() {
        let fake = Fake::default();
        prepare(&fake);
        let (one, two) = (sign_on(&fake).expect("on"), sign_on(&fake).expect("on"));
        assert_ne!(one.id, two.id);
        assert_ne!(one.queue, two.queue);
        assert_eq!(entries(&fake), [one, two]);
        prepare(&fake);
        assert_eq!(entries(&fake), [one, two], "preparing again keeps the list");
    }

    #[test]
    fn an_id_is_never_given_out_twice() {
        let fake = Fake::default();
        prepare(&fake);
        let one = sign_on(&fake).expect("on");
        strike_off(&fake, one.id);
        assert!(entries(&fake).is_empty());
        assert_ne!(sign_on(&fake).expect("on").id, one.id);
    }

    #[test]
    fn a_report_reads_as_it_was_published() {
        let fake = Fake::default();
        let published = Report {
            beat: 3,
            policy: Revision::new(4),
            decisions: Revision::new(5),
            rejected: 6,
        };
        publish(&fake, 1, published);
        assert_eq!(report(&fake, 1), published);
        assert_eq!(report(&fake, 2), Report::default());
    }

    #[test]
    fn a_write_between_reading_and_writing_is_not_lost() {
        let fake = Fake::default();
        prepare(&fake);
        let mut first = true;
        let seen = change(&fake, |list| {
            if std::mem::take(&mut first) {
                sign_on(&fake).expect("another worker comes between");
            }
            list.entries.len()
        });
        assert_eq!(
            seen,
            Some(1),
            "the change was made again on what the other wrote"
        );
    }
}
