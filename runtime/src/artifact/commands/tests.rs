//! Commands through protobuf and back, and what becomes of damaged ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use backends::clock::{Clock, RegionTime};
use backends::gpu::error::DeviceError;
use backends::gpu::executor::{Executor, Machine, host_tensors};
use compiler::program::Program;
use compiler::value::tensor::Tensor;
use prost::Message;

use super::super::plan::Plan;
use super::super::tests::{Memory, contents, forged, name_of, written};
use super::super::{Artifact, ArtifactContents, ArtifactError};
use super::*;
use crate::ahead::Ahead;

/// Numbers without a pattern (the generator of Knuth's MMIX).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let state = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = state.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) ^ (self.0 << 30)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 8) as usize % bound
    }

    fn list<T>(&mut self, one: impl Fn(&mut Random) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| one(self)).collect()
    }

    fn small(&mut self) -> usize {
        self.next() as u32 as usize
    }

    fn text(&mut self) -> String {
        ["", "x", "%é \"\n", "unet/conv.weight"][self.below(4)].to_owned()
    }

    fn window(&mut self) -> plain::Argument {
        plain::Argument {
            pool: [plain::Pool::Arena, plain::Pool::Weights][self.below(2)],
            buffer: self.small(),
            offset: self.next(),
            bytes: self.next(),
        }
    }

    fn stored(&mut self) -> plain::StoredAs {
        use plain::StoredAs::{Bf16, F16, F32, I32};
        [F32, F16, Bf16, I32][self.below(4)]
    }

    fn extents(&mut self) -> Extents {
        let dtypes = compiler::value::dtype::DTYPES;
        Extents {
            dtype: dtypes[self.below(dtypes.len())],
            shape: self.list(Random::small),
        }
    }

    fn port(&mut self) -> plain::Port {
        plain::Port {
            name: self.text(),
            extents: self.extents(),
            window: self.window(),
            stored: self.stored(),
        }
    }

    fn exchange(&mut self) -> (Buffer, plain::Port) {
        (Buffer(self.next() as u32), self.port())
    }

    fn upload(&mut self) -> plain::Upload {
        plain::Upload {
            source: match self.below(2) {
                0 => plain::Source::Weight(self.text()),
                _ => plain::Source::Constant(Buffer(self.next() as u32)),
            },
            extents: self.extents(),
            order: self.list(Random::small),
            window: self.window(),
            stored: self.stored(),
        }
    }

    fn launch(&mut self) -> plain::Launch {
        plain::Launch {
            kernel: self.small(),
            arguments: self.list(Random::window),
            grid: [0; 3].map(|_: u32| self.next() as u32),
            region: RegionId(self.next() as u32),
            flops: self.next(),
        }
    }

    fn hosted(&mut self) -> plain::Hosted {
        plain::Hosted {
            region: RegionId(self.next() as u32),
            before: self.small(),
            reads: self.list(Random::exchange),
            stores: self.list(Random::exchange),
        }
    }

    fn kernel(&mut self) -> plain::Kernel {
        let name = self.text();
        let both = [plain::Binding::Read, plain::Binding::ReadWrite];
        plain::Kernel {
            text: text_of(&name),
            name,
            bindings: self.list(|me| both[me.below(2)]),
            origin: self.text(),
        }
    }

    fn commands(&mut self) -> plain::Commands {
        plain::Commands {
            name: self.text(),
            kernels: self.list(Random::kernel),
            launches: self.list(Random::launch),
            hosted: self.list(Random::hosted),
            arena: self.list(Random::next),
            weights: self.list(Random::next),
            states: self.list(Random::port),
            copies: self.list(|me| (me.window(), me.window())),
            uploads: self.list(Random::upload),
            inputs: self.list(Random::port),
            outputs: self.list(Random::port),
            requirements: plain::Requirements {
                limits: Limits {
                    alignment: plain::ALIGNMENT,
                    binding_bytes_max: self.next(),
                    buffer_bytes_max: self.next(),
                    buffers_max: self.next() as u32,
                    shared_bytes_max: self.next() as u32,
                    invocations_max: self.next() as u32,
                    groups_max: self.next() as u32,
                    warp: 0,
                },
                shader_f16: self.below(2) == 0,
            },
        }
    }
}

/// The text of the kernel of that name.
fn text_of(name: &str) -> String {
    format!("// {name}\n")
}

#[test]
fn commands_come_back() {
    let mut random = Random(1);
    for round in 0..2000 {
        let wanted = random.commands();
        let stored = message(&wanted, "hash").expect("no number is too long");
        let read = Commands::decode(&stored.encode_to_vec()[..]).expect("a message");
        assert_eq!(read, stored, "round {round}");
        let found = commands(&read, |name| Ok::<_, Infallible>(text_of(name)));
        assert_eq!(found, Ok(Ok(wanted)), "round {round}");
    }
}

/// A launch, a sum that has no kernel, and a launch that reads it; the weight is read by both.
const PROGRAM: &str = r#"
func small {
  %0 = input "x" : f32[2, 8]
  %1 = weight "w" : f32[8, 8]
  %2 = linear(%0, %1)
  %3 = cumsum(%2) {axis = 1, exclusive = false, reverse = false}
  %4 = linear(%3, %1)
  return "y" %4
}
"#;

fn program() -> Program {
    Program::parse(PROGRAM).expect("the text is a program")
}

fn compiled() -> ArtifactContents {
    let mut ahead = Ahead::new(&backends::webgpu::WGSL, false);
    let small = ahead.add(&program()).expect("a small program");
    assert_eq!(small.hosted.len(), 1, "a sum has no kernel");
    let mut compiled = contents();
    compiled.about.target = "wgsl".to_owned();
    compiled.commands = ahead.finish().expect("good commands").commands;
    compiled
}

/// Memory without a processor.
struct Memories {
    pools: RefCell<BTreeMap<plain::Pool, Vec<Vec<u8>>>>,
    launches: usize,
}

impl Machine for Memories {
    fn write(
        &self,
        window: &plain::Argument,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        let first = (window.offset + offset) as usize;
        assert!(offset as usize + bytes.len() <= window.bytes as usize);
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&window.pool).expect("a pool");
        pool[window.buffer][first..first + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, window: &plain::Argument) -> Result<Vec<u8>, DeviceError> {
        let first = window.offset as usize;
        let pools = self.pools.borrow();
        Ok(pools[&window.pool][window.buffer][first..first + window.bytes as usize].to_vec())
    }

    fn copy(
        &self,
        copies: &[(plain::Argument, plain::Argument)],
        to: &Memories,
    ) -> Result<(), DeviceError> {
        for (from, window) in copies {
            let bytes = self.read(from)?;
            to.write(window, 0, &bytes)?;
        }
        Ok(())
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError> {
        assert!(launches.end <= self.launches);
        Ok(())
    }

    fn profile(&self, _: Clock<'_>) -> Result<Vec<RegionTime>, DeviceError> {
        Ok(Vec::new())
    }
}

/// Loads the commands for the program and runs all that is the host's.
fn execute(artifact: &Artifact) -> Result<(), ArtifactError> {
    let (commands, regions) = artifact.commands(&program())?;
    let own = commands.commands();
    if own.bytes() > 1 << 20 {
        return Ok(());
    }
    let memory = |sizes: &[u64]| sizes.iter().map(|&bytes| vec![0; bytes as usize]).collect();
    let pools = BTreeMap::from([
        (plain::Pool::Arena, memory(&own.arena)),
        (plain::Pool::Weights, memory(&own.weights)),
        (plain::Pool::States, memory(&own.states_bytes())),
    ]);
    let machine = Memories {
        pools: RefCell::new(pools),
        launches: own.launches.len(),
    };
    let weight = Tensor::from_f32(&[8, 8], &[0.5; 64]);
    let kept = host_tensors(own, &regions).into_iter();
    let kept = kept.map(|name| (name, weight.clone())).collect();
    let executor = Executor::new(machine, commands, regions, &kept).expect("all that is kept");
    let inputs = BTreeMap::from([("x".to_owned(), Tensor::from_f32(&[2, 8], &[1.0; 16]))]);
    let _either = executor.run(&inputs);
    Ok(())
}

#[test]
fn an_artifact_gives_the_commands_that_it_was_given() {
    let contents = compiled();
    let artifact = Artifact::open(Memory::of(written(&contents))).expect("a good artifact");
    assert_eq!(artifact.contents().expect("whole"), contents);
    let (found, _) = artifact.commands(&program()).expect("its commands");
    let own = contents.commands.values().next().expect("one program");
    assert_eq!(found.commands(), own);
    execute(&artifact).expect("it runs");
    let other = PROGRAM.replace("[2, 8]", "[3, 8]");
    let other = Program::parse(&other).expect("the text is a program");
    let refused = artifact.commands(&other);
    assert!(matches!(refused, Err(ArtifactError::NoCommands { .. })));
}

/// Whatever a plan says of commands, loading them gives what runs, or an error.
#[test]
fn damaged_commands_never_panic() {
    let files = written(&compiled());
    let plan = files[&name_of(&files, "plan.pb")].to_vec();
    let mut random = Random(2);
    let (mut opened, mut accepted) = (0, 0);
    for _ in 0..4000 {
        let mut content = plan.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(content.len());
            match random.below(3) {
                0 => content[place] = random.next() as u8,
                1 => content[place] ^= 1 << random.below(8),
                _ => content[place] = plan[random.below(plan.len())],
            }
        }
        let artifact = Artifact::open(Memory::of(forged(&files, "plan.pb", content)));
        if let Ok(artifact) = artifact {
            opened += 1;
            accepted += usize::from(execute(&artifact).is_ok());
        }
    }
    assert!(
        opened > 500 && accepted > 50,
        "{opened} opened, {accepted} ran"
    );
}

/// Edits the commands of an artifact, keeps all hashes true, and holds the message of loading
/// against what is wanted.
fn check(edit: impl Fn(&mut plain::Commands), wanted: &str) {
    let mut contents = compiled();
    contents.commands.values_mut().for_each(edit);
    let artifact = Artifact::open(Memory::of(written(&contents))).expect("hashes are good");
    let refused = artifact.commands(&program()).map(|_| ());
    let refused = refused.expect_err("a lie").to_string();
    assert!(refused.contains(wanted), "{refused} lacks {wanted}");
}

#[test]
fn lies_in_commands_are_named() {
    let source =
        |source: plain::Source| move |c: &mut plain::Commands| c.uploads[0].source = source.clone();
    check(
        |c| c.launches[0].region = RegionId(9),
        "found r9 of 3 regions (B1)",
    );
    check(
        |c| c.inputs[0].name = "z".to_owned(),
        "input \"z\" is none of the program's",
    );
    check(
        |c| c.outputs[0].name = "z".to_owned(),
        "result \"z\" is none of the program's",
    );
    check(
        |c| c.inputs[0].extents.shape = vec![4, 4],
        "input \"x\" is f32 [4, 4], wanted f32 [2, 8]",
    );
    check(
        source(plain::Source::Weight("v".to_owned())),
        "weight \"v\" is none of the program's",
    );
    check(
        source(plain::Source::Constant(Buffer(77))),
        "constant b77 is none of the program's",
    );
    check(
        |c| c.uploads[0].order.reverse(),
        "lies with its axes in order",
    );
    check(|c| c.hosted[0].reads.clear(), "which nothing gives it (B5)");
    check(
        |c| c.hosted[0].reads[0].0 = Buffer(0),
        "b0 of r1 of the host is none",
    );
    check(|c| c.hosted[0].before = 99, "(W1)");
    check(|c| c.requirements.limits.buffers_max = 1, "(W6)");
}

#[test]
fn texts_that_are_no_kernels_are_refused() {
    check(
        |c| c.kernels[0].text.push_str("fn f( {}"),
        "naga refuses line",
    );
    check(|c| c.kernels[0].text.clear(), "found entry points []");
    let mut contents = compiled();
    let mut other = contents
        .commands
        .values()
        .next()
        .expect("one program")
        .clone();
    other.kernels[0].text.push('\n');
    contents.commands.insert("other".to_owned(), other);
    let refused = super::super::write(&Memory::default(), &contents);
    assert!(matches!(refused, Err(ArtifactError::Twice { .. })));
}

#[test]
fn plans_without_requirements_are_damaged() {
    let files = written(&compiled());
    let plan = files[&name_of(&files, "plan.pb")].clone();
    let mut plan = Plan::decode(plan).expect("the plan is good");
    plan.commands[0].requirements = None;
    let files = forged(&files, "plan.pb", plan.encode_to_vec());
    let artifact = Artifact::open(Memory::of(files)).expect("hashes are good");
    let refused = artifact.commands(&program()).map(|_| ());
    assert_eq!(
        refused.expect_err("damage").to_string(),
        "\"small\" of the artifact holds damaged requirements"
    );
}
