//! An Envoy for tests: memory, queues, clock, calls, request and counters that can be looked into.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ombre_policy::headers::HeaderMap;

use super::{Calls, Counters, Entropy, Exchange, Queues, SharedMemory, Timer};

/// A call that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its token.
    pub token: u32,
    /// The path with its query.
    pub path: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
}

/// What lies under a key, and the number of its last write.
pub type Value = (Vec<u8>, u32);

/// An answer that was given.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u32,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// Clones share everything, as the roots of one Envoy do, but for the tick period and the request.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    /// Shared memory: value and the number of its last write.
    pub memory: Rc<RefCell<HashMap<String, Value>>>,
    /// Keys that were read, in order.
    pub reads: Rc<RefCell<Vec<String>>>,
    /// Queue names; a queue's number is its place, from one.
    pub queues: Rc<RefCell<Vec<String>>>,
    /// Queues that were woken, in order.
    pub woken: Rc<RefCell<Vec<u32>>>,
    /// The clock.
    pub now: Rc<Cell<u64>>,
    /// Calls that were sent.
    pub sent: Rc<RefCell<Vec<Sent>>>,
    /// Whether calls cannot be sent.
    pub unreachable: Rc<Cell<bool>>,
    /// Names of counters and histograms; the id is the place, the number how often it was counted.
    pub counters: Rc<RefCell<Vec<(String, u64)>>>,
    /// The last period asked for.
    pub period: Cell<Option<Duration>>,
    /// The request's headers, serialized.
    pub request: RefCell<Vec<u8>>,
    /// Request headers that were set, and `None` for those that were removed.
    pub edits: RefCell<Vec<(String, Option<Vec<u8>>)>>,
    /// The answers given.
    pub replies: RefCell<Vec<Reply>>,
}

impl Fake {
    /// A fake with a request in it.
    pub fn with_request(headers: &[(&str, &str)]) -> Self {
        let fake = Self::default();
        fake.request.replace(HeaderMap::encode(headers));
        fake
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        self.now.set(self.now.get() + ms);
    }

    /// A counter's value.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters
            .borrow()
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .sum()
    }
}

impl SharedMemory for Fake {
    fn read(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        self.reads.borrow_mut().push(key.to_owned());
        self.memory
            .borrow()
            .get(key)
            .map_or((None, None), |(value, cas)| {
                (Some(value.clone()), Some(*cas))
            })
    }

    fn write(&self, key: &str, value: &[u8], expected: Option<u32>) -> bool {
        let mut memory = self.memory.borrow_mut();
        let last = memory.get(key).map(|(_, cas)| *cas);
        if last.is_some() && expected.is_some() && last != expected {
            return false;
        }
        memory.insert(key.to_owned(), (value.to_vec(), last.unwrap_or(0) + 1));
        true
    }
}

impl Queues for Fake {
    fn register(&self, name: &str) -> u32 {
        let mut queues = self.queues.borrow_mut();
        queues.push(name.to_owned());
        queues.len() as u32
    }

    fn wake(&self, queue: u32) -> bool {
        self.woken.borrow_mut().push(queue);
        queue as usize <= self.queues.borrow().len()
    }

    fn drain(&self, _: u32) {}
}

impl Timer for Fake {
    fn now_us(&self) -> u64 {
        self.now.get() * 1000
    }

    fn tick_every(&self, period: Duration) {
        self.period.set(Some(period));
    }
}

impl Calls for Fake {
    fn get(&self, _: &str, path: &str, headers: &[(&str, &str)], _: Duration) -> Option<u32> {
        if self.unreachable.get() {
            return None;
        }
        let mut sent = self.sent.borrow_mut();
        let token = sent.len() as u32 + 1;
        sent.push(Sent {
            token,
            path: path.to_owned(),
            headers: owned(headers),
        });
        Some(token)
    }
}

impl Exchange for Fake {
    fn request_headers(&self, buffer: &mut Vec<u8>) {
        buffer.clone_from(&self.request.borrow());
    }

    fn set_request_header(&self, name: &str, value: &[u8]) {
        self.edits
            .borrow_mut()
            .push((name.to_owned(), Some(value.to_vec())));
    }

    fn remove_request_header(&self, name: &str) {
        self.edits.borrow_mut().push((name.to_owned(), None));
    }

    fn reply(&self, status: u32, headers: Vec<(&str, &str)>, body: &[u8]) {
        self.replies.borrow_mut().push(Reply {
            status,
            headers: owned(&headers),
            body: String::from_utf8_lossy(body).into_owned(),
        });
    }
}

impl Counters for Fake {
    fn define(&self, name: &str) -> Option<u32> {
        let mut counters = self.counters.borrow_mut();
        counters.push((name.to_owned(), 0));
        Some(counters.len() as u32 - 1)
    }

    fn increment(&self, id: u32) {
        self.counters.borrow_mut()[id as usize].1 += 1;
    }

    fn define_histogram(&self, name: &str) -> Option<u32> {
        self.define(name)
    }

    fn record(&self, id: u32, _: u64) {
        // How often is all that tests can know: the clock stands while a test runs.
        self.increment(id);
    }
}

impl Entropy for Fake {
    fn entropy(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    headers.iter().map(owned).collect()
}
