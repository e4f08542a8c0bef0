//! A machine made of the interpreter of kernels: commands without a device.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use compiler::kernel::{BufferContents, Fault, Kernel, interpret};
use compiler::program::Program;
use compiler::region::{Content, Regions};
use compiler::tensor::Tensor;

use super::super::commands::{Argument, Commands, Launch, Pool, Requirements, Source};
use super::super::compile::{Compiled, compile};
use super::super::elements::{ElementsError, Layout, encode};
use super::super::executor::{Executor, Machine};

/// Memory of words, and the kernels that work on it.
pub(crate) struct Emulator {
    arena: RefCell<Vec<Vec<u32>>>,
    weights: RefCell<Vec<Vec<u32>>>,
    kernels: Vec<Kernel>,
    launches: Vec<Launch>,
}

impl Emulator {
    fn new(commands: &Commands, kernels: Vec<Kernel>) -> Emulator {
        let memory = |sizes: &[u64]| {
            let words = sizes.iter().map(|&bytes| vec![0; (bytes / 4) as usize]);
            RefCell::new(words.collect())
        };
        Emulator {
            arena: memory(&commands.arena),
            weights: memory(&commands.weights),
            kernels,
            launches: commands.launches.clone(),
        }
    }

    fn pool(&self, pool: Pool) -> &RefCell<Vec<Vec<u32>>> {
        match pool {
            Pool::Arena => &self.arena,
            Pool::Weights => &self.weights,
        }
    }

    fn words(&self, window: &Argument) -> Vec<u32> {
        let pool = self.pool(window.pool).borrow();
        pool[window.buffer][range(window, 0, window.bytes)].to_vec()
    }
}

fn range(window: &Argument, offset: u64, bytes: u64) -> Range<usize> {
    let first = ((window.offset + offset) / 4) as usize;
    first..first + (bytes / 4) as usize
}

impl Machine for Emulator {
    type Error = Fault;

    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let words = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("whole words are written")));
        let words: Vec<u32> = words.collect();
        let mut pool = self.pool(window.pool).borrow_mut();
        pool[window.buffer][range(window, offset, bytes.len() as u64)].copy_from_slice(&words);
        Ok(())
    }

    fn read(&self, window: &Argument) -> Result<Vec<u8>, Fault> {
        let words = self.words(window);
        Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), Fault> {
        for launch in &self.launches[launches] {
            let kernel = &self.kernels[launch.kernel];
            let mut contents = Vec::new();
            for (argument, buffer) in launch.arguments.iter().zip(&kernel.buffers) {
                let lanes = buffer.elements as usize * usize::from(buffer.element.lanes);
                let mut words = self.words(argument);
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
                    let bytes: Vec<u8> = contents
                        .words()
                        .iter()
                        .flat_map(|word| word.to_le_bytes())
                        .collect();
                    self.write(argument, 0, &bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// The tensor of a source.
pub(crate) fn source(
    regions: &Regions,
    weights: &BTreeMap<String, Tensor>,
    source: &Source,
) -> Option<Tensor> {
    match source {
        Source::Weight(name) => weights.get(name).cloned(),
        Source::Constant(buffer) => match &regions.buffer(*buffer).content {
            Content::Constant(tensor) => Some(tensor.clone()),
            Content::Param(_) | Content::Computed => None,
        },
    }
}

/// Results of a program on the interpreter.
pub(crate) fn run(
    program: &Program,
    [inputs, weights]: [&BTreeMap<String, Tensor>; 2],
) -> Vec<(String, Tensor)> {
    let compiled = compile(program, &Requirements::DEFAULT).expect("the program compiles");
    let Compiled {
        commands,
        regions,
        kernels,
        ..
    } = compiled;
    let emulator = Emulator::new(commands.commands(), kernels);
    for upload in &commands.commands().uploads {
        let tensor = source(&regions, weights, &upload.source).expect("a weight");
        let layout = Layout {
            extents: &upload.extents,
            order: &upload.order,
            stored: upload.stored,
        };
        encode(&tensor, layout, |offset, bytes| {
            emulator
                .write(&upload.window, offset, bytes)
                .expect("memory");
            Ok::<(), ElementsError>(())
        })
        .expect("weights lie on a device");
    }
    let executor = Executor::new(emulator, commands, regions, weights).expect("weights");
    let results = executor.run(inputs);
    results.unwrap_or_else(|error| panic!("{error}"))
}
