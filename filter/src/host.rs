//! What the filter needs of Envoy, as small traits named by what they do. `host/wasm.rs` is Envoy,
//! `host/fake.rs` stands in for it in tests.

use std::time::Duration;

#[cfg(test)]
pub mod fake;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

/// Key and value memory shared by all VMs of one `vm_id`. It outlives every one of them but the last.
pub trait SharedMemory {
    /// The value, and the number that a compare-and-swap must name; both `None` for a new key.
    fn read(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>);
    /// Writes, if `expected` is `None` or nobody wrote since. False: somebody did.
    /// The host does not compare for keys that do not exist, so creation is not atomic.
    fn write(&self, key: &str, value: &[u8], expected: Option<u32>) -> bool;
}

/// Queues by which one VM wakes another.
pub trait Queues {
    /// Makes the calling root the one consumer of the queue with this name.
    fn register(&self, name: &str) -> u32;
    /// Wakes the queue's consumer. False: there is no such queue.
    fn wake(&self, queue: u32) -> bool;
    /// Takes everything out of the queue.
    fn drain(&self, queue: u32);
}

/// Time and the one timer that each root has.
pub trait Timer {
    /// Unix microseconds.
    fn now_us(&self) -> u64;
    /// Unix milliseconds.
    fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }
    /// Asks for a tick every `period`; zero for none.
    fn tick_every(&self, period: Duration);
}

/// Requests to the controller.
pub trait Calls {
    /// Sends a GET; the answer comes as a callback with this token. `None`: it could not be sent.
    fn get(
        &self,
        cluster: &str,
        path: &str,
        headers: &[(&str, &str)],
        timeout: Duration,
    ) -> Option<u32>;
}

/// The request that is being decided.
pub trait Exchange {
    /// Reads all request headers in the host's serialization, in place of what the buffer holds; nothing, when
    /// they cannot be read. At once, because three headers one by one cost as much.
    fn request_headers(&self, buffer: &mut Vec<u8>);
    /// Replaces a request header.
    fn set_request_header(&self, name: &str, value: &[u8]);
    /// Removes a request header.
    fn remove_request_header(&self, name: &str);
    /// Answers the request in the upstream's place.
    fn reply(&self, status: u32, headers: Vec<(&str, &str)>, body: &[u8]);
}

/// Envoy's counters and histograms.
pub trait Counters {
    /// The id of the counter with this name, to be asked for once.
    fn define(&self, name: &str) -> Option<u32>;
    /// Adds one.
    fn increment(&self, id: u32);
    /// The id of the histogram with this name, to be asked for once.
    fn define_histogram(&self, name: &str) -> Option<u32>;
    /// Adds one value to a histogram.
    fn record(&self, id: u32, value: u64);
}

/// Randomness, from the host's generator.
pub trait Entropy {
    /// Sixteen bytes that nobody can guess.
    fn entropy(&self) -> [u8; 16];
}

/// All of it, for those who need most of it.
pub trait Host: SharedMemory + Queues + Timer + Calls + Exchange + Counters + Entropy {}

impl<T: SharedMemory + Queues + Timer + Calls + Exchange + Counters + Entropy> Host for T {}
