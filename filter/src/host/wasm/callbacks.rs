//! The callback that every request makes, without the SDK's dispatcher, which keeps a boxed context in
//! a table for each request. Roots, which are few and do the rest, stay with the SDK. The build exports
//! these in place of the SDK's (`filter/link`), and no others for requests, because Envoy calls whatever
//! is exported, at 0.3 to 0.5 µs each: also not those by which contexts begin and end, so that a root is
//! made known to the SDK when it starts, and never leaves it.

#![expect(
    unsafe_code,
    reason = "the proxy-wasm ABI: functions that the host calls by name, and the SDK's own, whose signatures are repeated here"
)]

use std::cell::RefCell;

use crate::root;
use crate::stream::Flow;

const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, root: u32);
    fn proxy_on_vm_start(root: u32, size: usize) -> bool;
    fn proxy_on_configure(root: u32, size: usize) -> bool;
}

thread_local! {
    /// The roots that the SDK knows.
    static ROOTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[unsafe(no_mangle)]
extern "C" fn ombre_on_vm_start(root: u32, size: usize) -> bool {
    introduce(root);
    // SAFETY: the SDK's function, called as the host would.
    unsafe { proxy_on_vm_start(root, size) }
}

#[unsafe(no_mangle)]
extern "C" fn ombre_on_configure(root: u32, size: usize) -> bool {
    introduce(root);
    // SAFETY: as above.
    unsafe { proxy_on_configure(root, size) }
}

/// The SDK knows the root's context from now on; the root of a root is zero.
fn introduce(root: u32) {
    let is_new = ROOTS.with_borrow_mut(|roots| {
        let is_new = !roots.contains(&root);
        if is_new {
            roots.push(root);
        }
        is_new
    });
    if is_new {
        // SAFETY: as above.
        unsafe { proxy_on_context_create(root, 0) }
    }
}

#[unsafe(no_mangle)]
extern "C" fn ombre_on_request_headers(_: u32, _: u32, _: u32) -> u32 {
    match root::on_request_headers() {
        Flow::Continue => CONTINUE,
        Flow::Answered => PAUSE,
    }
}
