//! Envoy behind the host traits. The SDK's hostcalls are used where they return errors for what can
//! happen; its header map getter is not, since it allocates per header and panics on what is not UTF-8.

mod callbacks;

use std::ptr;
use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{MapType, MetricType};

use super::{Calls, Counters, Entropy, Exchange, Queues, SharedMemory, Timer};

/// The Envoy that runs this VM.
#[derive(Clone, Copy, Debug)]
pub struct Envoy;

#[expect(
    unsafe_code,
    reason = "the proxy-wasm ABI function that hands over all headers at once"
)]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
}

impl SharedMemory for Envoy {
    fn read(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        hostcalls::get_shared_data(key).unwrap_or_default()
    }

    fn write(&self, key: &str, value: &[u8], expected: Option<u32>) -> bool {
        hostcalls::set_shared_data(key, Some(value), expected).is_ok()
    }
}

impl Queues for Envoy {
    fn register(&self, name: &str) -> u32 {
        hostcalls::register_shared_queue(name).unwrap_or_default()
    }

    fn wake(&self, queue: u32) -> bool {
        hostcalls::enqueue_shared_queue(queue, Some(&[1])).is_ok()
    }

    fn drain(&self, queue: u32) {
        while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
    }
}

impl Timer for Envoy {
    fn now_us(&self) -> u64 {
        let since = hostcalls::get_current_time()
            .ok()
            .and_then(|now| now.duration_since(UNIX_EPOCH).ok());
        since
            .and_then(|since| u64::try_from(since.as_micros()).ok())
            .unwrap_or_default()
    }

    fn tick_every(&self, period: Duration) {
        // Fails never: the host knows one answer.
        let _ = hostcalls::set_tick_period(period);
    }
}

impl Calls for Envoy {
    fn get(
        &self,
        cluster: &str,
        path: &str,
        headers: &[(&str, &str)],
        timeout: Duration,
    ) -> Option<u32> {
        let mut all = vec![(":method", "GET"), (":path", path), (":authority", cluster)];
        all.extend_from_slice(headers);
        hostcalls::dispatch_http_call(cluster, all, None, vec![], timeout).ok()
    }
}

impl Exchange for Envoy {
    fn request_headers(&self) -> Vec<u8> {
        let (mut data, mut size) = (ptr::null_mut(), 0);
        #[expect(
            unsafe_code,
            reason = "on success the host has asked the SDK's `proxy_on_memory_allocate` for exactly `size` bytes, \
                      which leaks a boxed slice of that length: it is ours to own, and this is how the SDK takes it itself"
        )]
        unsafe {
            let status = proxy_get_header_map_pairs(
                MapType::HttpRequestHeaders as u32,
                &raw mut data,
                &raw mut size,
            );
            if status == 0 && !data.is_null() {
                return Vec::from_raw_parts(data, size, size);
            }
        }
        Vec::new()
    }

    fn set_request_header(&self, name: &str, value: &[u8]) {
        // While request headers are being decided the map is there, which is all that the host asks.
        let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, Some(value));
    }

    fn remove_request_header(&self, name: &str) {
        let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
    }

    fn reply(&self, status: u32, headers: Vec<(&str, &str)>, body: &[u8]) {
        let _ = hostcalls::send_http_response(status, headers, Some(body));
    }
}

impl Counters for Envoy {
    fn define(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Counter, name).ok()
    }

    fn increment(&self, id: u32) {
        // An unknown id would be a counter lost, nothing else.
        let _ = hostcalls::increment_metric(id, 1);
    }

    fn define_histogram(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Histogram, name).ok()
    }

    fn record(&self, id: u32, value: u64) {
        let _ = hostcalls::record_metric(id, value);
    }
}

impl Entropy for Envoy {
    fn entropy(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            // Unlike the rest of the host this may be refused: time still tells most callers apart.
            let nanoseconds = hostcalls::get_current_time()
                .ok()
                .and_then(|now| now.duration_since(UNIX_EPOCH).ok());
            bytes = nanoseconds
                .map_or(0, |since| since.as_nanos())
                .to_le_bytes();
        }
        bytes
    }
}
