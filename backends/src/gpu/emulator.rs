//! A machine made of the interpreter of kernels: commands without a device.
//!
//! Takes commands with their kernels before they were printed, obeys them on host memory, and
//! reports what no kernel may do: races, accesses out of bounds, loads of what is undefined. It is
//! for finding faults, some thousand times slower than a device.

use std::cell::RefCell;
use std::ops::Range;

use compiler::kernel::{BufferContents, Kernel, Scalar, interpret};
use compiler::value::tensor::Tensor;

use super::commands::{Argument, Commands, Launch, Pool, Source};
use super::elements::{ElementsError, Layout, encode};
use super::error::DeviceError;
use super::executor::Machine;
use crate::clock::{Clock, RegionTime};

/// Memory of words, and the kernels that work on it.
pub struct Emulator {
    arena: RefCell<Vec<Vec<u32>>>,
    weights: RefCell<Vec<Vec<u32>>>,
    states: RefCell<Vec<Vec<u32>>>,
    kernels: Vec<Kernel>,
    launches: Vec<Launch>,
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
    ) -> Result<Emulator, DeviceError> {
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
            let tensor = tensor.ok_or_else(|| missing(&upload.source))?;
            let layout = Layout {
                extents: &upload.extents,
                order: &upload.order,
                stored: upload.stored,
            };
            let give = |offset: u64, bytes: &[u8]| {
                emulator.put(&upload.window, offset, bytes);
                Ok(())
            };
            let written: Result<(), ElementsError> = encode(&tensor, layout, give);
            written.map_err(|error| DeviceError::Elements {
                what: upload.source.to_string(),
                error,
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

    fn put(&self, window: &Argument, offset: u64, bytes: &[u8]) {
        let words = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("whole words are written")));
        let words: Vec<u32> = words.collect();
        let mut pool = self.pool(window.pool).borrow_mut();
        pool[window.buffer][range(window, offset, bytes.len() as u64)].copy_from_slice(&words);
    }

    fn words(&self, window: &Argument) -> Vec<u32> {
        let pool = self.pool(window.pool).borrow();
        pool[window.buffer][range(window, 0, window.bytes)].to_vec()
    }
}

fn missing(source: &Source) -> DeviceError {
    DeviceError::Missing {
        what: source.to_string(),
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
    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.put(window, offset, bytes);
        Ok(())
    }

    fn read(&self, window: &Argument) -> Result<Vec<u8>, DeviceError> {
        let words = self.words(window);
        Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn copy(&self, copies: &[(Argument, Argument)], to: &Emulator) -> Result<(), DeviceError> {
        let copied: Vec<Vec<u8>> = copies
            .iter()
            .map(|(from, _)| self.read(from))
            .collect::<Result<_, _>>()?;
        for ((_, window), bytes) in copies.iter().zip(copied) {
            to.put(window, 0, &bytes);
        }
        Ok(())
    }

    /// How long an interpreter takes tells nothing of its kernels.
    fn profile(&self, _: Clock<'_>) -> Result<Vec<RegionTime>, DeviceError> {
        Ok(Vec::new())
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError> {
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
                    self.put(argument, 0, &bytes);
                }
            }
        }
        Ok(())
    }
}
