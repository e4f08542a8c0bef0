//! A machine made of the interpreter of kernels: commands without a device.
//!
//! Takes commands with their kernels before they were printed, obeys them on host memory, and
//! reports what no kernel may do: races, accesses out of bounds, loads of what is undefined. It is
//! for finding faults, some thousand times slower than a device.

use std::cell::RefCell;
use std::ops::Range;

use compiler::kernel::{BufferContents, Fault, Kernel, Scalar, interpret};
use compiler::value::tensor::Tensor;
use thiserror::Error;

use super::commands::{Argument, Commands, Launch, Pool, Source};
use super::elements::{ElementsError, Layout, encode};
use super::executor::Machine;

/// Memory of words, and the kernels that work on it.
pub struct Emulator {
    arena: RefCell<Vec<Vec<u32>>>,
    weights: RefCell<Vec<Vec<u32>>>,
    states: RefCell<Vec<Vec<u32>>>,
    kernels: Vec<Kernel>,
    launches: Vec<Launch>,
}

/// Why commands are not obeyed.
#[derive(Debug, Error)]
pub enum EmulatorError {
    /// A kernel does what none may do.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A weight is not given.
    #[error("found no {0:?}")]
    Missing(Source),
    /// A weight does not lie on a device.
    #[error(transparent)]
    Elements(#[from] ElementsError),
}

impl Emulator {
    /// Memory for `commands`, whose kernels are these, filled with weights.
    ///
    /// # Errors
    /// When a weight is missing or of another type.
    pub fn new(
        commands: &Commands,
        kernels: Vec<Kernel>,
        weights: &mut dyn FnMut(&Source) -> Option<Tensor>,
    ) -> Result<Emulator, EmulatorError> {
        let memory = |sizes: &[u64]| {
            let words = sizes.iter().map(|&bytes| vec![0; (bytes / 4) as usize]);
            RefCell::new(words.collect())
        };
        let emulator = Emulator {
            arena: memory(&commands.arena),
            weights: memory(&commands.weights),
            states: memory(&commands.states_bytes()),
            kernels,
            launches: commands.launches.clone(),
        };
        for upload in &commands.uploads {
            let tensor = weights(&upload.source);
            let tensor = tensor.ok_or_else(|| EmulatorError::Missing(upload.source.clone()))?;
            let layout = Layout {
                extents: &upload.extents,
                order: &upload.order,
                stored: upload.stored,
            };
            encode(&tensor, layout, |offset, bytes| {
                emulator.write(&upload.window, offset, bytes)
            })?;
        }
        Ok(emulator)
    }

    fn pool(&self, pool: Pool) -> &RefCell<Vec<Vec<u32>>> {
        match pool {
            Pool::Arena => &self.arena,
            Pool::Weights => &self.weights,
            Pool::States => &self.states,
        }
    }

    fn words(&self, window: &Argument) -> Vec<u32> {
        let pool = self.pool(window.pool).borrow();
        pool[window.buffer][range(window, 0, window.bytes)].to_vec()
    }
}

/// The halves of words, each in a word of its own.
fn halves(words: &[u32]) -> Vec<u32> {
    let halves = words.iter().flat_map(|word| [word & 0xffff, word >> 16]);
    halves.collect()
}

fn range(window: &Argument, offset: u64, bytes: u64) -> Range<usize> {
    let first = ((window.offset + offset) / 4) as usize;
    first..first + (bytes / 4) as usize
}

impl Machine for Emulator {
    type Error = EmulatorError;

    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), EmulatorError> {
        let words = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("whole words are written")));
        let words: Vec<u32> = words.collect();
        let mut pool = self.pool(window.pool).borrow_mut();
        pool[window.buffer][range(window, offset, bytes.len() as u64)].copy_from_slice(&words);
        Ok(())
    }

    fn read(&self, window: &Argument) -> Result<Vec<u8>, EmulatorError> {
        let words = self.words(window);
        Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn copy(&self, copies: &[(Argument, Argument)]) -> Result<(), EmulatorError> {
        let copied = copies.iter().map(|(from, _)| self.read(from));
        let copied: Vec<Vec<u8>> = copied.collect::<Result<_, _>>()?;
        let mut pairs = copies.iter().zip(copied);
        pairs.try_for_each(|((_, to), bytes)| self.write(to, 0, &bytes))
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), EmulatorError> {
        for launch in &self.launches[launches] {
            let kernel = &self.kernels[launch.kernel];
            let mut contents = Vec::new();
            for (argument, buffer) in launch.arguments.iter().zip(&kernel.buffers) {
                let lanes = buffer.elements as usize * usize::from(buffer.element.lanes);
                let mut words = match buffer.element.scalar {
                    Scalar::F16 => halves(&self.words(argument)),
                    Scalar::Bool | Scalar::I32 | Scalar::U32 | Scalar::F32 => self.words(argument),
                };
                assert!(
                    words.len() >= lanes,
                    "{}: {argument:?} for {buffer:?}",
                    kernel.name
                );
                words.truncate(lanes);
                contents.push(BufferContents::from_words(words));
            }
            interpret(kernel, &mut contents, None)?;
            for ((argument, buffer), contents) in
                launch.arguments.iter().zip(&kernel.buffers).zip(&contents)
            {
                if buffer.written {
                    let each = buffer.element.bytes() / u32::from(buffer.element.lanes);
                    let lanes = contents.words().iter();
                    let lanes = lanes.flat_map(|lane| lane.to_le_bytes()[..each as usize].to_vec());
                    let bytes: Vec<u8> = lanes.collect();
                    self.write(argument, 0, &bytes)?;
                }
            }
        }
        Ok(())
    }
}
