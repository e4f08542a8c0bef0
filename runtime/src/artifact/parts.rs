//! Programs in the plan: parts and constants as messages, and as what devices are given.
//!
//! Takes executables and their texts, returns messages; takes messages of hostile plans, returns
//! executables that keep every rule, and whose inputs and results are those of the program. Nothing
//! is formed or compiled: text is read and checked.

use std::collections::BTreeMap;

use backends::gpu::commands::Commands;
use backends::gpu::compile;
use compiler::DType;
use compiler::graph::TensorType;
use compiler::program::{Counts, Executable, Program};
use compiler::region::Content;
use compiler::value::tensor::Tensor;

use super::plan::{self, Constant, Part, Plan, Taken};
use super::stored::key;
use super::{ArtifactError, ArtifactPart, ArtifactProgram, Port};

#[cfg(test)]
mod tests;

/// The constants of a plan that is written, each once.
#[derive(Default)]
pub(super) struct Constants {
    messages: Vec<Constant>,
    /// Where each is, by type and elements.
    known: BTreeMap<(String, Vec<u64>, Vec<u8>), u32>,
}

impl Constants {
    /// The constants in the order in which they were first asked for.
    pub(super) fn into_messages(self) -> Vec<Constant> {
        self.messages
    }

    fn place(&mut self, tensor: &Tensor) -> u32 {
        let dtype = tensor.dtype().name().to_owned();
        let shape: Vec<u64> = tensor.shape().iter().map(|&side| side as u64).collect();
        let key = (dtype.clone(), shape.clone(), tensor.bytes().to_vec());
        *self.known.entry(key).or_insert_with(|| {
            self.messages.push(Constant {
                dtype,
                shape,
                elements: tensor.bytes().clone(),
            });
            self.messages.len() as u32 - 1
        })
    }
}

/// Where the plan has the commands of regions.
pub(super) struct Links<'a> {
    commands: &'a BTreeMap<String, Commands>,
}

impl<'a> Links<'a> {
    pub(super) fn new(commands: &'a BTreeMap<String, Commands>) -> Links<'a> {
        Links { commands }
    }

    /// The message with the place of its commands, if the plan has any for it.
    fn apply(&self, part: &ArtifactPart, message: Part) -> Part {
        if self.commands.is_empty() {
            return message;
        }
        // A text that is not a program has no commands either; whoever reads it reports that.
        let read = Executable::parse(&part.regions, &part.constants, part.counts);
        let Ok(regions) = read.map(|executable| compile::regions(&executable)) else {
            return message;
        };
        let own = key(&regions);
        let commands = self.commands.keys().position(|known| *known == own);
        let buffers = (0u32..).zip(&regions.buffers);
        let constants = buffers.filter_map(|(number, data)| match data.content {
            Content::Constant(_) => Some(number),
            Content::Param(_) | Content::Computed => None,
        });
        Part {
            commands: commands.and_then(|place| u32::try_from(place).ok()),
            constant_buffers: constants.collect(),
            ..message
        }
    }
}

/// The message of a program.
pub(super) fn program_message(
    program: &ArtifactProgram,
    constants: &mut Constants,
    links: &Links,
) -> plan::Program {
    let mut part = |part: &ArtifactPart| {
        links.apply(
            part,
            Part {
                stage: part.stage.clone().unwrap_or_default(),
                regions: part.regions.clone(),
                constants: part
                    .constants
                    .iter()
                    .map(|own| constants.place(own))
                    .collect(),
                nodes: part.counts.nodes,
                flops: part.counts.flops,
                taken: part.taken.iter().map(taken_message).collect(),
                commands: None,
                constant_buffers: Vec::new(),
            },
        )
    };
    plan::Program {
        name: program.name.clone(),
        component: program.component.clone(),
        text: program.text.clone(),
        peak_bytes: program.peak_bytes,
        whole: part(&program.whole),
        parts: program.parts.iter().map(part).collect(),
        weight_program: String::new(),
    }
}

fn taken_message((part, name): &(u32, String)) -> Taken {
    Taken {
        part: *part,
        name: name.clone(),
    }
}

/// The constants of a plan; `None` where elements do not fill a tensor.
pub(super) fn constants(plan: &Plan) -> Option<Vec<Tensor>> {
    let tensor = |constant: &Constant| {
        let sides = constant.shape.iter();
        let shape: Option<Vec<usize>> = sides.map(|&side| usize::try_from(side).ok()).collect();
        let dtype = DType::from_name(&constant.dtype)?;
        Tensor::new(dtype, shape?, constant.elements.clone()).ok()
    };
    plan.constants.iter().map(tensor).collect()
}

/// A part of a message; `None` where it names a constant that is not there.
pub(super) fn part(message: Part, constants: &[Tensor]) -> Option<ArtifactPart> {
    let named = message.constants.iter();
    let named = named.map(|&place| constants.get(usize::try_from(place).ok()?).cloned());
    let taken = message.taken.into_iter();
    Some(ArtifactPart {
        stage: (!message.stage.is_empty()).then_some(message.stage),
        regions: message.regions,
        constants: named.collect::<Option<_>>()?,
        counts: Counts {
            nodes: message.nodes,
            flops: message.flops,
        },
        taken: taken.map(|own| (own.part, own.name)).collect(),
    })
}

impl ArtifactPart {
    /// What an artifact stores of a whole program, or of a part of one that takes nothing.
    pub fn whole(executable: &Executable) -> ArtifactPart {
        let constants = executable.regions().constants().into_iter();
        ArtifactPart {
            stage: None,
            regions: executable.regions().to_string(),
            constants: constants.cloned().collect(),
            counts: executable.counts(),
            taken: Vec::new(),
        }
    }

    /// What an artifact stores of the parts of a program, in the order in which they run, with
    /// their stages: an input that the program does not have is taken from the part whose result it
    /// is.
    pub fn parts<'a>(
        program: &Executable,
        parts: impl Iterator<Item = (Option<&'a str>, &'a Executable)>,
    ) -> Vec<ArtifactPart> {
        let inputs = program.inputs();
        let mut results: Vec<Vec<(String, TensorType)>> = Vec::new();
        let stored = parts.map(|(stage, part)| {
            let own = part.inputs().into_iter();
            let others = own.filter(|(name, _)| inputs.iter().all(|(own, _)| own != name));
            let taken = others.filter_map(|(name, _)| {
                let has = |results: &Vec<(String, TensorType)>| {
                    results.iter().any(|(result, _)| *result == name)
                };
                let part = results.iter().position(has)?;
                Some((part as u32, name))
            });
            let stored = ArtifactPart {
                stage: stage.map(ToOwned::to_owned),
                taken: taken.collect(),
                ..ArtifactPart::whole(part)
            };
            results.push(part.outputs());
            stored
        });
        stored.collect()
    }

    fn read(&self, program: &ArtifactProgram) -> Result<Executable, ArtifactError> {
        let read = Executable::parse(&self.regions, &self.constants, self.counts);
        read.map_err(|source| ArtifactError::Regions {
            program: format!("{}/{}", program.component, program.name),
            source: Box::new(source),
        })
    }
}

impl ArtifactProgram {
    /// The whole program, as devices are given it.
    ///
    /// # Errors
    /// When its regions break a rule, or have other inputs or results than the manifest says.
    pub fn executable(&self) -> Result<Executable, ArtifactError> {
        let whole = self.whole.read(self)?;
        let inputs = same(&whole.inputs(), &self.inputs);
        match inputs && same(&whole.outputs(), &self.outputs) {
            true => Ok(whole),
            false => Err(self.damaged("inputs or results")),
        }
    }

    /// The whole program with its graph.
    ///
    /// # Errors
    /// As [`ArtifactProgram::executable`], and when the graph does not parse, breaks a rule or is
    /// of another program.
    pub fn program(&self) -> Result<Program, ArtifactError> {
        let stored = Program::stored(&self.text, self.executable()?);
        stored.map_err(|source| ArtifactError::Graph {
            program: format!("{}/{}", self.component, self.name),
            source: Box::new(source),
        })
    }

    /// The parts in which the program runs, in order, with their stages; one without a stage where
    /// it runs whole.
    ///
    /// # Errors
    /// When the regions of a part break a rule, an input of a part is none of the program and no
    /// result of an earlier part, or the last part has other results than the program.
    pub fn executables(&self) -> Result<Vec<(Option<String>, Executable)>, ArtifactError> {
        if self.parts.is_empty() {
            return Ok(vec![(None, self.executable()?)]);
        }
        let mut read: Vec<(Option<String>, Executable)> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let executable = part.read(self)?;
            for (name, ty) in executable.inputs() {
                let given = self.inputs.iter().any(|port| port.is(&name, &ty));
                let mut taken = part.taken.iter().filter(|(_, own)| *own == name);
                let found = taken.next().is_some_and(|(from, _)| {
                    let earlier = read.get(*from as usize);
                    let results = earlier.map(|(_, part)| part.outputs()).unwrap_or_default();
                    results.contains(&(name.clone(), ty))
                });
                if given == found || taken.next().is_some() {
                    return Err(self.damaged("inputs of a part"));
                }
            }
            read.push((part.stage.clone(), executable));
        }
        let last = read.last().map(|(_, part)| part.outputs());
        match last.is_some_and(|results| same(&results, &self.outputs)) {
            true => Ok(read),
            false => Err(self.damaged("results of its parts")),
        }
    }

    fn damaged(&self, what: &'static str) -> ArtifactError {
        let program = format!("{}/{}", self.component, self.name);
        ArtifactError::Damaged { program, what }
    }
}

impl Port {
    /// The name and the type.
    pub(crate) fn named(&self) -> (String, TensorType) {
        // What does not fit in memory is no tensor: [`ArtifactProgram::executables`] refuses it.
        let shape = self.shape.iter().map(|&side| usize::try_from(side));
        let shape = shape.map(|side| side.unwrap_or(usize::MAX));
        (self.name.clone(), TensorType::new(self.dtype, shape))
    }

    fn is(&self, name: &str, ty: &TensorType) -> bool {
        let shape = self.shape.iter().map(|&side| usize::try_from(side).ok());
        let shape: Option<Vec<usize>> = shape.collect();
        self.name == name && self.dtype == ty.dtype && shape == ty.extents()
    }
}

fn same(found: &[(String, TensorType)], ports: &[Port]) -> bool {
    let mut pairs = found.iter().zip(ports);
    found.len() == ports.len() && pairs.all(|((name, ty), port)| port.is(name, ty))
}
