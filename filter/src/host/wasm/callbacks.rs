//! The callbacks that every request goes through, without the SDK's dispatcher, which keeps a boxed
//! context in a table for each request. Roots, which are few and do the rest, stay with the SDK:
//! what concerns them is handed on to its callbacks. The build exports these in place of the SDK's
//! (`filter/link`), and no others for requests, because Envoy calls whatever is exported.

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
    fn proxy_on_done(context: u32) -> bool;
    fn proxy_on_delete(context: u32);
}

thread_local! {
    /// The contexts that the SDK knows.
    static ROOTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// A root's number is zero for roots themselves.
#[unsafe(no_mangle)]
extern "C" fn ombre_on_context_create(context: u32, root: u32) {
    if root == 0 {
        ROOTS.with_borrow_mut(|roots| roots.push(context));
        // SAFETY: the SDK's function, called as the host would.
        unsafe { proxy_on_context_create(context, root) }
    }
}

#[unsafe(no_mangle)]
extern "C" fn ombre_on_request_headers(_: u32, _: u32, _: u32) -> u32 {
    match root::on_request_headers() {
        Flow::Continue => CONTINUE,
        Flow::Answered => PAUSE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn ombre_on_done(context: u32) -> bool {
    // SAFETY: as above.
    !is_root(context) || unsafe { proxy_on_done(context) }
}

#[unsafe(no_mangle)]
extern "C" fn ombre_on_delete(context: u32) {
    if is_root(context) {
        ROOTS.with_borrow_mut(|roots| roots.retain(|root| *root != context));
        // SAFETY: as above.
        unsafe { proxy_on_delete(context) }
    }
}

fn is_root(context: u32) -> bool {
    ROOTS.with_borrow(|roots| roots.contains(&context))
}
