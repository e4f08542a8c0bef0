//! NVIDIA's driver: the only file that calls it.
//!
//! Takes texts, numbers of bytes and windows that rules have checked, gives modules, memory and
//! launches as types that free themselves. Everything runs in the order of one stream; what the
//! driver says stands in errors word for word.

#![expect(
    unsafe_code,
    reason = "the driver takes addresses: each call states what makes its addresses valid"
)]

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    self, CUdeviceptr, CUevent_flags, CUfunction, CUgraphInstantiate_flags, CUmodule, CUresult,
    CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaSlice, CudaStream, DevicePtr};

use crate::gpu::commands::ENTRY_POINT;

/// What the driver refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Its name and sentence.
    pub(super) reason: String,
    /// What kind of failure it is.
    pub(super) kind: RefusalKind,
}

/// What a refusal means for what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// There is no memory left.
    Memory,
    /// The context is of no use any more.
    Lost,
    /// Only this call failed.
    Other,
}

impl From<DriverError> for Refusal {
    fn from(error: DriverError) -> Refusal {
        let text = |found: Result<&std::ffi::CStr, DriverError>| {
            found.map_or(String::new(), |text| text.to_string_lossy().into_owned())
        };
        let (name, sentence) = (text(error.error_name()), text(error.error_string()));
        let kind = match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => RefusalKind::Memory,
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_DEINITIALIZED => RefusalKind::Lost,
            _ => RefusalKind::Other,
        };
        Refusal {
            reason: format!("{name} ({sentence})"),
            kind,
        }
    }
}

/// Whether this machine has a driver.
pub(super) fn is_present() -> bool {
    // SAFETY: it loads the library of the driver by its well-known names, whose start-up code is
    // the vendor's, and calls nothing.
    unsafe { sys::is_culib_present() }
}

/// The version of CUDA that the driver implements: 1000 for each major one, 10 for each minor one.
pub(super) fn version() -> Result<u32, Refusal> {
    let mut version = 0;
    // SAFETY: the driver is present, and the number is written to an integer of its type.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version.unsigned_abs())
}

/// How many devices there are.
pub(super) fn count() -> Result<usize, Refusal> {
    result::init()?;
    let count = CudaContext::device_count()?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// A device with its context, and the stream in whose order everything runs.
#[derive(Debug, Clone)]
pub(super) struct Context {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

/// Memory of a device; zero at first.
#[derive(Debug)]
pub(super) struct Memory {
    /// It owns the memory.
    _slice: CudaSlice<u8>,
    address: CUdeviceptr,
    bytes: u64,
}

/// Where a window begins, with its bytes: checked against its memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    address: CUdeviceptr,
    bytes: u64,
}

/// An assembled kernel.
#[derive(Debug)]
pub(super) struct Function {
    module: CUmodule,
    function: CUfunction,
    context: Arc<CudaContext>,
}

// SAFETY: modules and functions may be used from any thread that has their context, which every
// call makes current.
unsafe impl Send for Function {}
// SAFETY: as above; launching does not change a function.
unsafe impl Sync for Function {}

/// One start of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) function: &'a Function,
    pub(super) grid: [u32; 3],
    pub(super) invocations: u32,
    pub(super) windows: &'a [Window],
}

/// Starts that the driver replays as one.
pub(super) struct Graph(CudaGraph);

impl Context {
    /// Opens a device.
    pub(super) fn open(ordinal: usize) -> Result<Context, Refusal> {
        let context = CudaContext::new(ordinal)?;
        // SAFETY: events order several streams; there is one alone.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        Ok(Context { context, stream })
    }

    pub(super) fn name(&self) -> Result<String, Refusal> {
        Ok(self.context.name()?)
    }

    /// Compute capability.
    pub(super) fn capability(&self) -> Result<(i32, i32), Refusal> {
        Ok(self.context.compute_capability()?)
    }

    /// Bytes that are free, and all.
    pub(super) fn memory(&self) -> Result<(u64, u64), Refusal> {
        let (free, all) = self.context.mem_get_info()?;
        Ok((free as u64, all as u64))
    }

    /// Assembles a text.
    pub(super) fn assemble(&self, text: &str) -> Result<Function, Refusal> {
        self.context.bind_to_thread()?;
        let c_string = |text: &str| {
            CString::new(text).map_err(|error| Refusal {
                reason: error.to_string(),
                kind: RefusalKind::Other,
            })
        };
        let (text, entry) = (c_string(text)?, c_string(ENTRY_POINT)?);
        // SAFETY: the text ends in a zero and lives until the call returns.
        let module = unsafe { result::module::load_data(text.as_ptr().cast::<c_void>()) }?;
        // SAFETY: the module was loaded just now.
        let function = unsafe { result::module::get_function(module, entry) };
        match function {
            Ok(function) => Ok(Function {
                module,
                function,
                context: self.context.clone(),
            }),
            Err(error) => {
                // SAFETY: the module was loaded just now, and nothing of it is kept.
                let _ = unsafe { result::module::unload(module) };
                Err(error.into())
            }
        }
    }

    /// Reserves memory and fills it with zeros.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Memory, Refusal> {
        let slice = self.stream.alloc_zeros::<u8>(bytes as usize)?;
        let (address, _) = slice.device_ptr(&self.stream);
        Ok(Memory {
            address,
            bytes,
            _slice: slice,
        })
    }

    /// Writes bytes to a window; the bytes may be dropped once it returns.
    pub(super) fn write(&self, to: Window, bytes: &[u8]) -> Result<(), Refusal> {
        assert!(bytes.len() as u64 <= to.bytes, "bytes fit in the window");
        self.context.bind_to_thread()?;
        let stream = self.stream.cu_stream();
        // SAFETY: the window lies in memory that a program owns until all its work is done. The
        // driver copies from pageable memory before the call returns.
        unsafe { result::memcpy_htod_async(to.address, bytes, stream) }?;
        Ok(())
    }

    /// The bytes of a window, once all that came before is done.
    pub(super) fn read(&self, from: Window) -> Result<Vec<u8>, Refusal> {
        self.context.bind_to_thread()?;
        let mut bytes = vec![0u8; from.bytes as usize];
        if !bytes.is_empty() {
            let stream = self.stream.cu_stream();
            // SAFETY: the window lies in memory that a program owns; the bytes live until the
            // stream has been waited for.
            unsafe { result::memcpy_dtoh_async(&mut bytes, from.address, stream) }?;
        }
        self.wait()?;
        Ok(bytes)
    }

    /// Copies a window to another one.
    pub(super) fn copy(&self, from: Window, to: Window) -> Result<(), Refusal> {
        assert!(from.bytes <= to.bytes, "the target holds what is copied");
        self.context.bind_to_thread()?;
        let (stream, bytes) = (self.stream.cu_stream(), from.bytes as usize);
        // SAFETY: both windows lie in memory that programs own, and do not overlap.
        unsafe { result::memcpy_dtod_async(to.address, from.address, bytes, stream) }?;
        Ok(())
    }

    /// Starts a kernel.
    pub(super) fn start(&self, start: Start<'_>) -> Result<(), Refusal> {
        self.context.bind_to_thread()?;
        let [x, y, z] = start.grid;
        if 0 == x.min(y).min(z) {
            return Ok(());
        }
        let mut addresses: Vec<CUdeviceptr> = start.windows.iter().map(|w| w.address).collect();
        let mut arguments: Vec<*mut c_void> = addresses
            .iter_mut()
            .map(|address| std::ptr::from_mut(address).cast())
            .collect();
        let block = (start.invocations, 1, 1);
        let (function, stream) = (start.function.function, self.stream.cu_stream());
        // SAFETY: rules have checked that the kernel has as many parameters, each an address, and
        // that the windows hold what it declares; the driver copies the arguments before it
        // returns. The kernel was verified to stay within its buffers.
        unsafe { result::launch_kernel(function, (x, y, z), block, 0, stream, &mut arguments) }?;
        Ok(())
    }

    /// Records starts, which can then be replayed.
    pub(super) fn record<'a>(
        &self,
        starts: impl Iterator<Item = Start<'a>>,
    ) -> Result<Option<Graph>, Refusal> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode)?;
        let mut recorded = Ok(());
        for start in starts {
            recorded = recorded.and_then(|()| self.start(start));
        }
        // The capture ends in any case, so that the stream can be used.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        recorded?;
        Ok(graph?.map(Graph))
    }

    /// Starts what was recorded.
    pub(super) fn replay(&self, graph: &Graph) -> Result<(), Refusal> {
        Ok(graph.0.launch()?)
    }

    /// Notes when the stream comes here.
    pub(super) fn mark(&self) -> Result<CudaEvent, Refusal> {
        let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
        Ok(self.stream.record_event(flags)?)
    }

    /// Waits until all is done.
    pub(super) fn wait(&self) -> Result<(), Refusal> {
        Ok(self.stream.synchronize()?)
    }
}

/// Seconds from one mark to another.
pub(super) fn seconds(from: &CudaEvent, to: &CudaEvent) -> Result<f64, Refusal> {
    // The function of that name in CUDA 12.8 is one that older drivers do not have.
    let mut milliseconds = 0.0;
    let (from, to) = (from.cu_event(), to.cu_event());
    // SAFETY: both events exist, and the number is written to a float of its type.
    unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, from, to) }.result()?;
    Ok(f64::from(milliseconds) * 1e-3)
}

impl Memory {
    /// A window of the memory; `None` where it leaves it.
    pub(super) fn window(&self, offset: u64, bytes: u64) -> Option<Window> {
        let end = offset.checked_add(bytes)?;
        (end <= self.bytes).then_some(Window {
            address: self.address + offset,
            bytes,
        })
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Nobody can be told of a failure here; a context that is gone has no modules.
        let _ = self.context.bind_to_thread();
        // SAFETY: the module was loaded by this function's maker, and is unloaded once.
        let _ = unsafe { result::module::unload(self.module) };
    }
}
