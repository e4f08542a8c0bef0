//! What a page calls.
//!
//! Takes numbers and what the page wrote to the buffer that [`reserve`] gave it; leaves results in
//! the buffer of which [`result`] gives the first byte. A page has one thread for each core.
#![allow(
    unsafe_code,
    reason = "names that a page can call are declared with an unsafe attribute"
)]

use std::cell::RefCell;

use compiler::program::sampler::Guidance;
use graphs::samplers;
use runtime::noise::Generator;

use crate::fault::Fault;
use crate::run::{Run, embedding};

/// Where arguments and results are.
struct Core {
    given: Vec<u8>,
    result: Vec<u8>,
    run: Option<Run>,
}

thread_local! {
    static CORE: RefCell<Core> = const {
        RefCell::new(Core {
            given: Vec::new(),
            result: Vec::new(),
            run: None,
        })
    };
}

/// Calls a function with the core; returns 0, or the number of what is wrong.
fn call(act: impl FnOnce(&mut Core) -> Result<(), Fault>) -> u32 {
    CORE.with_borrow_mut(|core| act(core).map_or_else(|fault| fault as u32, |()| 0))
}

fn run(core: &mut Core) -> Result<&mut Run, Fault> {
    core.run.as_mut().ok_or(Fault::Call)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Makes room for arguments; returns where the page writes them before the next call.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(length: usize) -> *mut u8 {
    CORE.with_borrow_mut(|core| {
        core.given.clear();
        core.given.resize(length, 0);
        core.given.as_mut_ptr()
    })
}

/// Where the last result begins.
#[unsafe(no_mangle)]
pub extern "C" fn result() -> *const u8 {
    CORE.with_borrow(|core| core.result.as_ptr())
}

/// Bytes of the last result.
#[unsafe(no_mangle)]
pub extern "C" fn result_length() -> usize {
    CORE.with_borrow(|core| core.result.len())
}

/// Reads the configuration that was given; the result is the sampler's name.
#[unsafe(no_mangle)]
pub extern "C" fn configure() -> u32 {
    call(|core| {
        let run = Run::configure(&core.given)?;
        core.result = run.sampler()?.into();
        core.run = Some(run);
        Ok(())
    })
}

/// The names of all samplers, one a line, are the result.
#[unsafe(no_mangle)]
pub extern "C" fn samplers() -> u32 {
    call(|core| {
        let names: Vec<&str> = samplers::names().collect();
        core.result = names.join("\n").into();
        Ok(())
    })
}

/// Makes the table for a number of steps; the result is the timestep of each call (f64).
#[unsafe(no_mangle)]
pub extern "C" fn tabulate(steps: usize) -> u32 {
    call(|core| {
        let run = run(core)?;
        let calls = run.tabulate(steps)?;
        let timesteps = (0..calls).map(|call| run.timestep(call));
        let timesteps = timesteps.collect::<Result<Vec<f64>, Fault>>()?;
        let all = timesteps.iter().flat_map(|timestep| timestep.to_le_bytes());
        core.result = all.collect();
        Ok(())
    })
}

/// Draws the first latents of a seed: by Philox, or as torch does on a CPU.
#[unsafe(no_mangle)]
pub extern "C" fn begin(
    torch_cpu: bool,
    seed: u64,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
) -> u32 {
    let generator = match torch_cpu {
        true => Generator::TorchCpu,
        false => Generator::Philox,
    };
    call(|core| run(core)?.begin(generator, seed, [batch, channels, height, width]))
}

/// What the network sees at a call is the result (f32).
#[unsafe(no_mangle)]
pub extern "C" fn network_input(call_number: usize) -> u32 {
    call(|core| {
        core.result = bytes(&run(core)?.network_input(call_number)?);
        Ok(())
    })
}

/// Takes a step with the answer that was given (f32); with guidance it has two halves, the negative
/// one first. The result is the latents (f32).
#[unsafe(no_mangle)]
pub extern "C" fn advance(call_number: usize, is_guided: bool, scale: f64, rescale: f64) -> u32 {
    call(|core| {
        let given = std::mem::take(&mut core.given);
        let (numbers, _) = given.as_chunks();
        let answer: Vec<f32> = numbers.iter().copied().map(f32::from_le_bytes).collect();
        let guidance = is_guided.then_some(Guidance { scale, rescale });
        let run = run(core)?;
        run.advance(call_number, &answer, guidance)?;
        core.result = bytes(run.latents()?);
        Ok(())
    })
}

/// The last step's estimate of the clean latents is the result (f32).
#[unsafe(no_mangle)]
pub extern "C" fn estimate() -> u32 {
    call(|core| {
        core.result = bytes(run(core)?.estimate()?);
        Ok(())
    })
}

/// The embedding of a guidance scale is the result (f32).
#[unsafe(no_mangle)]
pub extern "C" fn embed_guidance(scale: f64, width: usize) -> u32 {
    call(|core| {
        core.result = bytes(&embedding(scale, width));
        Ok(())
    })
}
