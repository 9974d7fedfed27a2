//! The memory into which the host copies the headers of a request. The host asks the module for it in
//! the middle of a call (`proxy_on_memory_allocate`); the SDK allocates each time, here the same buffer
//! serves every request. All other answers of the host are the SDK's to own.

use std::cell::Cell;
use std::{mem, ptr};

thread_local! {
    /// A buffer for the next question, and the one that was given away.
    static OFFERED: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    static GIVEN: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

#[expect(unsafe_code, reason = "the SDK's own callback")]
unsafe extern "C" {
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
}

#[expect(unsafe_code, reason = "the host calls it by its name")]
#[unsafe(no_mangle)]
extern "C" fn ombre_on_memory_allocate(size: usize) -> *mut u8 {
    let Some(mut buffer) = OFFERED.take() else {
        #[expect(unsafe_code, reason = "the SDK's own callback")]
        // SAFETY: called as the host would.
        return unsafe { proxy_on_memory_allocate(size) };
    };
    buffer.clear();
    buffer.reserve(size);
    let start = buffer.as_mut_ptr();
    GIVEN.set(Some(buffer));
    start
}

/// Lets one call of the host write into this buffer; it is empty when the call fails. `call` gets the
/// places of the start and the size, and tells whether the host has answered.
pub(super) fn fill(buffer: &mut Vec<u8>, call: impl FnOnce(*mut *mut u8, *mut usize) -> bool) {
    let (mut start, mut size) = (ptr::null_mut(), 0);
    OFFERED.set(Some(mem::take(buffer)));
    let answered = call(&raw mut start, &raw mut size);
    *buffer = GIVEN.take().or_else(|| OFFERED.take()).unwrap_or_default();
    buffer.clear();
    if answered && start == buffer.as_mut_ptr() && size <= buffer.capacity() {
        #[expect(unsafe_code, reason = "only the host knows how much it wrote")]
        // SAFETY: the host was given this buffer with at least `size` bytes, and has written them all.
        unsafe {
            buffer.set_len(size);
        }
    }
}
