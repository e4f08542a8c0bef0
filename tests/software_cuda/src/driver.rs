//! The functions of the driver API, by their names there.
//!
//! Every call is done when it returns. A result is 0, or the number of an error.

#![expect(
    unsafe_code,
    reason = "the functions are called from another language's view: by name, with addresses"
)]
#![expect(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "what an address must be, the documentation of the driver API says"
)]
#![allow(missing_docs, reason = "see the driver API")]

use std::env;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::{Memory, Text};

/// A number of `CUresult`.
type CUresult = c_uint;

const SUCCESS: CUresult = 0;
const INVALID_VALUE: CUresult = 1;
const OUT_OF_MEMORY: CUresult = 2;
const NO_DEVICE: CUresult = 100;
const INVALID_PTX: CUresult = 218;
const LAUNCH_FAILED: CUresult = 719;

/// Bytes of the processor, unless the environment names others.
const MEMORY_BYTES: u64 = 1 << 30;

/// What a capture recorded, and what is replayed.
type Recorded = Vec<(usize, [u32; 3], Vec<u64>)>;

#[derive(Default)]
struct State {
    memory: Memory,
    modules: Vec<Option<Text>>,
    /// The launches of a stream that is being captured.
    capture: Option<Recorded>,
    graphs: Vec<Recorded>,
    events: usize,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    act(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A number that a test sets in the environment.
fn set(name: &str, otherwise: u64) -> u64 {
    let found = env::var(name).ok();
    found
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn memory_bytes() -> u64 {
    set("SOFTWARE_CUDA_MEMORY", MEMORY_BYTES)
}

/// A handle that is not null.
fn handle(number: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(number + 1)
}

fn number(handle: *mut c_void) -> usize {
    handle.addr() - 1
}

/// Writes a result where the caller wants it.
fn give<T>(to: *mut T, value: T) -> CUresult {
    // SAFETY: callers of the driver pass addresses of variables of the type.
    unsafe { to.write(value) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_: c_uint) -> CUresult {
    match set("SOFTWARE_CUDA_DEVICES", 1) {
        0 => NO_DEVICE,
        _ => SUCCESS,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: *mut c_int) -> CUresult {
    give(version, set("SOFTWARE_CUDA_VERSION", 12_080) as c_int)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    give(count, set("SOFTWARE_CUDA_DEVICES", 1) as c_int)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> CUresult {
    give(device, ordinal)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _: c_int) -> CUresult {
    let own = b"Software Processor\0";
    let count = own.len().min(length as usize);
    // SAFETY: the caller provides room for as many characters.
    unsafe { std::ptr::copy_nonoverlapping(own.as_ptr().cast(), name, count) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(to: *mut c_int, attribute: c_uint, _: c_int) -> CUresult {
    let capability = set("SOFTWARE_CUDA_CAPABILITY", 80) as c_int;
    give(
        to,
        match attribute {
            // COMPUTE_CAPABILITY_MAJOR and _MINOR.
            75 => capability / 10,
            76 => capability % 10,
            // No pools of memory.
            _ => 0,
        },
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> CUresult {
    give(bytes, memory_bytes() as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> CUresult {
    give(context, handle(device as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_: c_int) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(_: *mut c_void) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(context: *mut *mut c_void) -> CUresult {
    give(context, handle(0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) -> CUresult {
    let taken = with(|state| state.memory.bytes());
    give(free, memory_bytes().saturating_sub(taken) as usize);
    give(all, memory_bytes() as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: *mut *mut c_void, _: c_uint) -> CUresult {
    give(stream, handle(0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(_: *mut c_void) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(_: *mut c_void) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> CUresult {
    if bytes == 0 {
        return INVALID_VALUE;
    }
    let reserved = with(|state| {
        let fits = state.memory.bytes() + bytes as u64 <= memory_bytes();
        // What nobody has written is not 0.
        fits.then(|| state.memory.reserve(vec![0xEE; bytes]))
    });
    reserved.map_or(OUT_OF_MEMORY, |found| give(address, found))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> CUresult {
    match with(|state| state.memory.free(address)) {
        Some(_) => SUCCESS,
        None => INVALID_VALUE,
    }
}

/// What `act` does with some bytes of the processor.
fn at(address: u64, count: usize, act: impl FnOnce(&mut [u8])) -> CUresult {
    with(|state| match state.memory.at(address, count) {
        Some(bytes) => {
            act(bytes);
            SUCCESS
        }
        None => INVALID_VALUE,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, byte: u8, count: usize, _: *mut c_void) -> CUresult {
    at(to, count, |bytes| bytes.fill(byte))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    count: usize,
    _: *mut c_void,
) -> CUresult {
    // SAFETY: the caller owns as many bytes there.
    let host = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) };
    at(to, count, |bytes| bytes.copy_from_slice(host))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    count: usize,
    _: *mut c_void,
) -> CUresult {
    // SAFETY: the caller owns as many bytes there.
    let host = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), count) };
    at(from, count, |bytes| host.copy_from_slice(bytes))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(
    to: u64,
    from: u64,
    count: usize,
    _: *mut c_void,
) -> CUresult {
    let mut copied = Vec::new();
    match at(from, count, |bytes| copied = bytes.to_vec()) {
        SUCCESS => at(to, count, |bytes| bytes.copy_from_slice(&copied)),
        refused => refused,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> CUresult {
    // SAFETY: an image in words ends in a zero.
    let text = unsafe { CStr::from_ptr(image.cast()) };
    let Ok(text) = text.to_str() else {
        return INVALID_PTX;
    };
    let read = catch_unwind(|| Text::read(text));
    let Ok(read) = read else {
        return INVALID_PTX;
    };
    let place = with(|state| {
        state.modules.push(Some(read));
        state.modules.len() - 1
    });
    give(module, handle(place))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(
    function: *mut *mut c_void,
    module: *mut c_void,
    _: *const c_char,
) -> CUresult {
    give(function, module)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: *mut c_void) -> CUresult {
    with(|state| state.modules[number(module)] = None);
    SUCCESS
}

fn launch(
    state: &mut State,
    (function, grid, arguments): &(usize, [u32; 3], Vec<u64>),
) -> CUresult {
    let State {
        memory, modules, ..
    } = state;
    let Some(text) = modules.get(*function).and_then(Option::as_ref) else {
        return INVALID_VALUE;
    };
    let run = AssertUnwindSafe(|| text.run(*grid, arguments, memory));
    catch_unwind(run).map_or(LAUNCH_FAILED, |()| SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    function: *mut c_void,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    _: c_uint,
    _: c_uint,
    _: c_uint,
    _: c_uint,
    _: *mut c_void,
    arguments: *mut *mut c_void,
    _: *mut *mut c_void,
) -> CUresult {
    with(|state| {
        let function = number(function);
        let Some(Some(text)) = state.modules.get(function) else {
            return INVALID_VALUE;
        };
        // SAFETY: the caller passes one address for each parameter, of a value of its type.
        let argument = |place: usize| unsafe { (*arguments.add(place)).cast::<u64>().read() };
        let given = (0..text.parameters()).map(argument).collect();
        let start = (function, [x, y, z], given);
        if let Some(recorded) = &mut state.capture {
            recorded.push(start);
            return SUCCESS;
        }
        launch(state, &start)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(_: *mut c_void, _: c_uint) -> CUresult {
    with(|state| state.capture = Some(Vec::new()));
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(_: *mut c_void, graph: *mut *mut c_void) -> CUresult {
    let place = with(|state| {
        let recorded = state.capture.take()?;
        state.graphs.push(recorded);
        Some(state.graphs.len() - 1)
    });
    place.map_or(INVALID_VALUE, |place| give(graph, handle(place)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(
    executable: *mut *mut c_void,
    graph: *mut c_void,
    _: c_ulonglong,
) -> CUresult {
    give(executable, graph)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(graph: *mut c_void, _: *mut c_void) -> CUresult {
    with(|state| {
        let recorded = state.graphs[number(graph)].clone();
        let results = recorded.iter().map(|start| launch(state, start));
        results
            .into_iter()
            .find(|result| *result != SUCCESS)
            .unwrap_or(SUCCESS)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(_: *mut c_void) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: *mut c_void) -> CUresult {
    with(|state| state.graphs[number(graph)].clear());
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: *mut *mut c_void, _: c_uint) -> CUresult {
    let place = with(|state| {
        state.events += 1;
        state.events
    });
    give(event, handle(place))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(_: *mut c_void, _: *mut c_void) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(_: *mut c_void) -> CUresult {
    SUCCESS
}

/// A millisecond from each event to the next.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(
    milliseconds: *mut f32,
    from: *mut c_void,
    to: *mut c_void,
) -> CUresult {
    give(milliseconds, (number(to) - number(from)) as f32)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(_: *mut c_void) -> CUresult {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: CUresult, text: *mut *const c_char) -> CUresult {
    let name: &CStr = match error {
        INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        NO_DEVICE => c"CUDA_ERROR_NO_DEVICE",
        INVALID_PTX => c"CUDA_ERROR_INVALID_PTX",
        LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
        _ => c"CUDA_ERROR_UNKNOWN",
    };
    give(text, name.as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: CUresult, text: *mut *const c_char) -> CUresult {
    let sentence: &CStr = match error {
        INVALID_VALUE => c"invalid argument",
        OUT_OF_MEMORY => c"out of memory",
        NO_DEVICE => c"no CUDA-capable device is detected",
        INVALID_PTX => c"a PTX JIT compilation failed",
        LAUNCH_FAILED => c"unspecified launch failure",
        _ => c"unknown error",
    };
    give(text, sentence.as_ptr())
}
