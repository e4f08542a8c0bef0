//! Memory of a run: buffers at the places that the plan gave them.
//!
//! Takes a plan and tensors, gives reads and writes of runs of elements, widened to f32 and
//! narrowed back. Threads of one kernel write disjoint elements through it; what a kernel reads
//! while others write it is copied element by element before, never borrowed.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use compiler::DType;
use compiler::value::tensor::Tensor;

#[cfg(target_os = "linux")]
use super::pages::{LARGE_PAGE, Pages};

/// Bytes to which the arena and every buffer in it are aligned: a cache line.
pub(crate) const ALIGNMENT: usize = 64;

/// Halves that are narrowed at a time.
const HALVES: usize = 256;

/// Aligned memory that starts as zeros.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: Memory,
    /// Lines that were asked for.
    lines: usize,
}

/// Whose the memory is.
#[derive(Debug)]
enum Memory {
    /// The allocator's.
    Lines(Box<[Line]>),
    /// The system's: what fills large pages.
    #[cfg(target_os = "linux")]
    Pages(Pages),
}

/// Floats in a line.
const FLOATS: usize = ALIGNMENT / size_of::<f32>();

#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; FLOATS]);

impl Arena {
    /// As many bytes, rounded up to whole lines; `None` where the system has not so many. Pages
    /// that nobody touches take no memory.
    pub(crate) fn new(bytes: usize) -> Option<Arena> {
        let lines = bytes.div_ceil(ALIGNMENT);
        #[cfg(target_os = "linux")]
        if bytes >= LARGE_PAGE {
            let memory = Memory::Pages(Pages::new(bytes)?);
            return Some(Arena { memory, lines });
        }
        let memory = bytemuck::allocation::try_zeroed_slice_box(lines).ok()?;
        let memory = Memory::Lines(memory);
        Some(Arena { memory, lines })
    }

    fn lines(&self) -> &[Line] {
        match &self.memory {
            Memory::Lines(lines) => lines,
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => &bytemuck::cast_slice(pages.bytes())[..self.lines],
        }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        match &mut self.memory {
            Memory::Lines(lines) => lines,
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => &mut bytemuck::cast_slice_mut(pages.bytes_mut())[..self.lines],
        }
    }

    /// All of it.
    pub(crate) fn as_floats(&self) -> &[f32] {
        bytemuck::cast_slice(self.lines())
    }

    /// All of it.
    pub(crate) fn as_floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.lines_mut())
    }

    /// All of it as bits of 16-bit floats.
    pub(crate) fn as_bits(&self) -> &[u16] {
        bytemuck::cast_slice(self.lines())
    }

    /// All of it as bits of 16-bit floats.
    pub(crate) fn as_bits_mut(&mut self) -> &mut [u16] {
        bytemuck::cast_slice_mut(self.lines_mut())
    }

    /// Bytes that it has.
    pub(crate) fn bytes(&self) -> usize {
        self.lines * ALIGNMENT
    }

    fn base(&mut self) -> *mut u8 {
        self.lines_mut().as_mut_ptr().cast()
    }

    /// A buffer in it.
    ///
    /// # Panics
    /// When the buffer reaches beyond the end: plans do not.
    pub(crate) fn cells(&mut self, offset: usize, dtype: DType, elements: usize) -> Cells {
        let end = offset + elements * dtype.bytes();
        assert!(end <= self.bytes(), "the plan lies within the arena");
        assert!(offset.is_multiple_of(dtype.bytes()), "places are aligned");
        Cells {
            // The assertion keeps it inside of the allocation.
            data: self.base().wrapping_add(offset),
            dtype,
            elements,
        }
    }
}

/// The elements of one buffer, shared between threads that write disjoint parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells {
    data: *mut u8,
    pub(crate) dtype: DType,
    pub(crate) elements: usize,
}

// SAFETY: it is a pointer into an arena or a tensor that the executor holds for the whole run;
// kernels read buffers that no thread writes and write disjoint elements: the plan's property.
#[allow(unsafe_code, reason = "threads share planned memory")]
unsafe impl Send for Cells {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "threads share planned memory")]
unsafe impl Sync for Cells {}

#[allow(
    unsafe_code,
    reason = "buffers of one arena are read and written by several threads; each access is checked against its buffer"
)]
impl Cells {
    /// The elements of a tensor that outlives every use; they are only read.
    pub(crate) fn of(tensor: &Tensor) -> Cells {
        Cells {
            data: tensor.bytes().as_ptr().cast_mut(),
            dtype: tensor.dtype(),
            elements: tensor.elements(),
        }
    }

    fn check(&self, at: usize, stride: usize, count: usize) {
        let last = count.checked_sub(1).map_or(0, |last| at + last * stride);
        assert!(
            count == 0 || last < self.elements,
            "a walk stays within its buffer"
        );
    }

    /// The elements from `at`, borrowed: only for memory that nobody writes while they are in use.
    /// `None` where they are not aligned f32.
    pub(crate) fn run(&self, at: usize, count: usize) -> Option<&[f32]> {
        self.check(at, 1, count);
        let start = self.data.wrapping_add(at * size_of::<f32>()).cast::<f32>();
        if self.dtype != DType::F32 || !start.is_aligned() || cfg!(target_endian = "big") {
            return None;
        }
        // SAFETY: checked to lie within the buffer and to be aligned; nobody writes it meanwhile.
        Some(unsafe { std::slice::from_raw_parts(start, count) })
    }

    /// Every `stride`-th element from `at` as f32.
    pub(crate) fn load(&self, at: usize, stride: usize, out: &mut [f32]) {
        self.check(at, stride, out.len());
        let size = self.dtype.bytes();
        let start = self.data.wrapping_add(at * size);
        let place = |i: usize| start.wrapping_add(i * stride * size);
        match (self.dtype, stride) {
            // SAFETY: every place lies within the buffer by the check; reads are unaligned.
            (DType::F32, 1) => unsafe {
                std::ptr::copy_nonoverlapping(start, out.as_mut_ptr().cast::<u8>(), out.len() * 4);
            },
            // SAFETY: as above.
            (DType::F32, 0) if !out.is_empty() => unsafe {
                out.fill(start.cast::<f32>().read_unaligned());
            },
            (DType::F32, _) => {
                for (i, out) in out.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *out = unsafe { place(i).cast::<f32>().read_unaligned() };
                }
            }
            (DType::F16, 1) if start.cast::<f16>().is_aligned() => {
                // SAFETY: checked to lie within the buffer and to be aligned; it is copied at once.
                let halves = unsafe { std::slice::from_raw_parts(start.cast::<f16>(), out.len()) };
                halves.convert_to_f32_slice(out);
            }
            (DType::F16, _) => {
                for (i, out) in out.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let bits = unsafe { place(i).cast::<u16>().read_unaligned() };
                    *out = f16::from_bits(bits).to_f32();
                }
            }
            (DType::BF16, _) => {
                for (i, out) in out.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let bits = unsafe { place(i).cast::<u16>().read_unaligned() };
                    *out = bf16::from_bits(bits).to_f32();
                }
            }
            (DType::F64, _) => {
                for (i, out) in out.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *out = unsafe { place(i).cast::<f64>().read_unaligned() } as f32;
                }
            }
            (DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64, _) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = self.integer(at + i * stride) as f32;
                }
            }
        }
    }

    /// Whether the two are the same elements.
    pub(crate) fn is_same(&self, other: &Cells) -> bool {
        let same = |cells: &Cells| (cells.data.addr(), cells.dtype, cells.elements);
        same(self) == same(other)
    }

    /// Whether the two have memory in common.
    pub(crate) fn overlaps(&self, other: &Cells) -> bool {
        let ends = |cells: &Cells| {
            let start = cells.data.addr();
            (start, start + cells.elements * cells.dtype.bytes())
        };
        let ((start, end), (first, last)) = (ends(self), ends(other));
        start < last && first < end
    }

    /// One element of a buffer of integers or truth values.
    pub(crate) fn integer(&self, at: usize) -> i64 {
        self.check(at, 1, 1);
        let place = self.data.wrapping_add(at * self.dtype.bytes());
        // SAFETY: checked to lie within the buffer; reads are unaligned.
        unsafe {
            match self.dtype {
                DType::Bool | DType::U8 => i64::from(place.read()),
                DType::I8 => i64::from(place.cast::<i8>().read()),
                DType::I32 => i64::from(place.cast::<i32>().read_unaligned()),
                DType::I64 => place.cast::<i64>().read_unaligned(),
                DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
                    panic!("a buffer of integers is read as such")
                }
            }
        }
    }

    /// Writes `values` to every `stride`-th element from `at`, rounded to the buffer's type.
    pub(crate) fn store(&self, at: usize, stride: usize, values: &[f32]) {
        self.check(at, stride, values.len());
        let size = self.dtype.bytes();
        let start = self.data.wrapping_add(at * size);
        let place = |i: usize| start.wrapping_add(i * stride * size);
        match (self.dtype, stride) {
            // SAFETY: every place lies within the buffer by the check, no other thread touches
            // these elements, and writes are unaligned.
            (DType::F32, 1) => unsafe {
                let bytes = values.as_ptr().cast::<u8>();
                std::ptr::copy_nonoverlapping(bytes, start, values.len() * 4);
            },
            (DType::F32, _) => {
                for (i, value) in values.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { place(i).cast::<f32>().write_unaligned(*value) };
                }
            }
            (DType::F16, 1) => {
                let mut halves = [f16::ZERO; HALVES];
                for (part, values) in values.chunks(HALVES).enumerate() {
                    let halves = &mut halves[..values.len()];
                    halves.convert_from_f32_slice(values);
                    let out = place(part * HALVES);
                    // SAFETY: as above.
                    unsafe {
                        let bytes = halves.as_ptr().cast::<u8>();
                        std::ptr::copy_nonoverlapping(bytes, out, halves.len() * 2);
                    }
                }
            }
            (DType::F16, _) => {
                for (i, value) in values.iter().enumerate() {
                    let bits = f16::from_f32(*value).to_bits();
                    // SAFETY: as above.
                    unsafe { place(i).cast::<u16>().write_unaligned(bits) };
                }
            }
            (DType::BF16, _) => {
                for (i, value) in values.iter().enumerate() {
                    let bits = bf16::from_f32(*value).to_bits();
                    // SAFETY: as above.
                    unsafe { place(i).cast::<u16>().write_unaligned(bits) };
                }
            }
            (DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F64, _) => {
                panic!("kernels store f32, f16 and bf16")
            }
        }
    }

    /// All bytes, copied.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let bytes = self.elements * self.dtype.bytes();
        // SAFETY: it is the whole buffer, and no kernel runs.
        unsafe { std::slice::from_raw_parts(self.data, bytes) }.to_vec()
    }

    /// Overwrites all bytes.
    ///
    /// # Panics
    /// When they are not as many as the buffer has.
    pub(crate) fn fill(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.elements * self.dtype.bytes());
        // SAFETY: it is the whole buffer, and no kernel runs.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data, bytes.len()) };
    }
}
