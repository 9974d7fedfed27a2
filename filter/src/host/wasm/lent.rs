//! The memory into which the host copies the headers of a request. The host asks the module for it in
//! the middle of a call (`proxy_on_memory_allocate`); the SDK allocates each time, here one buffer serves
//! the requests as long as they fit. All other answers of the host are the SDK's to own.

use std::cell::Cell;
use std::ptr;

thread_local! {
    /// Start and size of the buffer for the next question; size zero for none.
    static OFFERED: Cell<(*mut u8, usize)> = const { Cell::new((ptr::null_mut(), 0)) };
}

#[expect(unsafe_code, reason = "the SDK's own callback")]
unsafe extern "C" {
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
}

#[expect(unsafe_code, reason = "the host calls it by its name")]
#[unsafe(no_mangle)]
extern "C" fn ombre_on_memory_allocate(size: usize) -> *mut u8 {
    let (start, capacity) = OFFERED.replace((ptr::null_mut(), 0));
    if size <= capacity {
        return start;
    }
    #[expect(unsafe_code, reason = "the SDK's own callback")]
    // SAFETY: called as the host would.
    unsafe {
        proxy_on_memory_allocate(size)
    }
}

/// Lets one call of the host write into this buffer, or a larger one; it is empty when the call fails.
/// `call` gets the places of the start and the size, and tells whether the host has answered.
pub(super) fn fill(buffer: &mut Vec<u8>, call: impl FnOnce(*mut *mut u8, *mut usize) -> bool) {
    let (mut start, mut size) = (ptr::null_mut(), 0);
    buffer.clear();
    OFFERED.set((buffer.as_mut_ptr(), buffer.capacity()));
    let answered = call(&raw mut start, &raw mut size);
    OFFERED.set((ptr::null_mut(), 0));
    if !answered || start.is_null() {
        return;
    }
    #[expect(
        unsafe_code,
        reason = "only the host knows how much it wrote, and where"
    )]
    // SAFETY: the host was given either this buffer, when `size` fits, or a boxed slice of `size` bytes that
    // the SDK leaked for whoever takes the answer; it has written all of them.
    unsafe {
        if start == buffer.as_mut_ptr() {
            buffer.set_len(size);
        } else {
            *buffer = Vec::from_raw_parts(start, size, size);
        }
    }
}
