//! Large pages: memory whose addresses a processor finds without looking most of them up.
//!
//! Takes a number of bytes, gives zeros from the system itself, beside the allocator's: large pages
//! begin at multiples of their size. It gives none where the system has no such advice.
#![allow(
    unsafe_code,
    reason = "memory from the system is a pointer until it is a slice"
)]

use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Bytes of a large page.
pub(crate) const LARGE_PAGE: usize = 2 << 20;

/// Zeros in large pages as far as they fill them; only what is touched takes memory.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    /// A multiple of [`LARGE_PAGE`].
    bytes: usize,
}

// SAFETY: it owns its memory, as a vector does.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least so many bytes; `None` where the system has not so many.
    pub(crate) fn new(wanted: usize) -> Option<Pages> {
        // The system aligns what is a whole number of large pages.
        let bytes = wanted.max(1).checked_next_multiple_of(LARGE_PAGE)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at a place of the system's choice.
        let start = unsafe { mmap_anonymous(null_mut(), bytes, access, MapFlags::PRIVATE) };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        // A page that is not filled stays small.
        let filled = wanted / LARGE_PAGE * LARGE_PAGE;
        // SAFETY: it lies within the memory above; the advice changes no byte, and may be refused.
        let _ = unsafe { madvise(start.as_ptr().cast(), filled, Advice::LinuxHugepage) };
        Some(Pages { start, bytes })
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `bytes` readable bytes, which are zeros until they are written.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// All of it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and they are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the memory is ours, and no slice of it lives on. It cannot fail for a whole map.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeros_that_keep_what_is_written() {
        for wanted in [0, 1, LARGE_PAGE, 2 * LARGE_PAGE + 12] {
            let mut pages = Pages::new(wanted).expect("a few pages");
            assert!(pages.bytes().len() >= wanted);
            assert!(pages.bytes().iter().all(|&byte| byte == 0));
            let last = pages.bytes().len() - 1;
            pages.bytes_mut()[last] = 7;
            assert_eq!(pages.bytes()[last], 7);
        }
        assert!(Pages::new(usize::MAX).is_none());
    }
}
