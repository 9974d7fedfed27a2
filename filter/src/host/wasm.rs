//! Envoy behind the host traits. The SDK's hostcalls are used where they return errors for what can
//! happen; its header map getter is not, since it allocates per header and panics on what is not UTF-8.

mod callbacks;
mod lent;

use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{MapType, MetricType};

use super::{Calls, Counters, Entropy, Exchange, Queues, SharedMemory, Timer};

/// The Envoy that runs this VM.
#[derive(Clone, Copy, Debug)]
pub struct Envoy;

#[expect(
    unsafe_code,
    reason = "the proxy-wasm ABI: what every request calls, past the SDK's wrappers and allocations"
)]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
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
    fn request_headers(&self, buffer: &mut Vec<u8>) {
        lent::fill(buffer, |data, size| {
            #[expect(
                unsafe_code,
                reason = "an import of the ABI: it writes to the two places that it is given"
            )]
            // SAFETY: both point to what the caller owns.
            let status = unsafe {
                proxy_get_header_map_pairs(MapType::HttpRequestHeaders as u32, data, size)
            };
            status == 0
        });
    }

    fn set_request_header(&self, name: &str, value: &[u8]) {
        #[expect(
            unsafe_code,
            reason = "an import of the ABI: it reads the two slices that it is given"
        )]
        // SAFETY: both are borrowed until it returns. While request headers are being decided the map is
        // there, which is all that the host asks, so its answer says nothing.
        let _ = unsafe {
            proxy_replace_header_map_value(
                MapType::HttpRequestHeaders as u32,
                name.as_ptr(),
                name.len(),
                value.as_ptr(),
                value.len(),
            )
        };
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
