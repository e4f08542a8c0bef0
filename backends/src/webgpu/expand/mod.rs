//! Expansion: block programs become kernels of scalars, quads and workgroup memory.
//!
//! Takes the program of one region and how its buffers lie, gives one kernel, or two where moments
//! of what is stored are wanted. All decisions fall here: what is printed later is what was
//! verified. It knows no driver and no text.

use compiler::kernel::{Builder, Kernel, Limits};
use compiler::region::{Buffer, Output, Region, Regions};
use compiler::tile::{BlockProgram, OutputViews, Step, View};
use thiserror::Error;

use self::address::{Argument, Arguments};
use self::quads::Along;
use super::commands::StoredAs;
use super::stored::{is_fixed, number};

mod address;
mod blocks;
mod elements;
mod epilogue;
mod fragment;
mod functions;
pub(crate) mod quads;
mod rows;

/// Why a program has no kernel here; the host computes its region.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The grid is larger than the target's.
    #[error("found {found} workgroups along an axis, wanted at most {most}")]
    Grid {
        /// Workgroups.
        found: usize,
        /// The limit.
        most: u32,
    },
    /// Tiles do not fit near a workgroup.
    #[error("the tiles do not fit in {bytes_max} bytes of workgroup memory")]
    Shared {
        /// The limit.
        bytes_max: u32,
    },
    /// An accumulator is too large for the registers.
    #[error("the accumulators do not fit in registers")]
    Registers,
    /// More storage buffers than the target binds.
    #[error("found {found} storage buffers, wanted at most {most}")]
    Buffers {
        /// Buffers.
        found: usize,
        /// The limit.
        most: u32,
    },
    /// An operator without expressions.
    #[error("the operator {name} has no kernel")]
    Operator {
        /// Its name.
        name: &'static str,
    },
    /// Steps that no expansion knows.
    #[error("the steps of the program have no kernel")]
    Steps,
}

/// A kernel with what its storage buffers are.
#[derive(Debug, Clone)]
pub(crate) struct Expanded {
    pub(crate) kernel: Kernel,
    pub(crate) arguments: Vec<Buffer>,
}

/// What an expansion is made of.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) regions: &'a Regions,
    pub(crate) region: &'a Region,
    pub(crate) program: &'a BlockProgram,
    /// How each buffer lies, by number.
    pub(crate) forms: &'a [StoredAs],
    /// Buffers that are read and lie where another one is stored: `(read, stored)`.
    pub(crate) shared: &'a [(Buffer, Buffer)],
    pub(crate) limits: Limits,
}

/// The kernels of one program.
///
/// # Errors
/// With the reason, when there is none.
pub(crate) fn expand(request: Request<'_>) -> Result<Vec<Expanded>, Refusal> {
    let Request {
        region, program, ..
    } = request;
    for output in &region.outputs {
        for node in &output.nodes {
            if let compiler::region::Node::Apply(op, _) = node
                && !functions::has(op)
            {
                return Err(Refusal::Operator { name: op.name() });
            }
        }
    }
    let mut x = Expansion::new(request);
    match &program.body {
        body if contains(body, |step| matches!(step, Step::Mma { .. })) => {
            blocks::expand(&mut x, program)?;
        }
        body if contains(body, |step| matches!(step, Step::Rows { .. })) => {
            rows::expand(&mut x, program)?;
        }
        _ => elements::expand(&mut x, program)?,
    }
    let mut expanded = vec![x.finish()];
    for (output, views) in region.outputs.iter().zip(&program.outputs) {
        if output.moments.is_some() {
            let mut x = Expansion::new(request);
            rows::expand_moments(&mut x, program, (output, views))?;
            expanded.push(x.finish());
        }
    }
    Ok(expanded)
}

/// Whether a step, or one within it, is such.
fn contains(steps: &[Step], is: fn(&Step) -> bool) -> bool {
    steps.iter().any(|step| {
        is(step)
            || match step {
                Step::Loop { body, .. } => contains(body, is),
                Step::Zero { .. }
                | Step::Copy { .. }
                | Step::Mma { .. }
                | Step::Online { .. }
                | Step::Normalize { .. }
                | Step::Rows { .. }
                | Step::Gather { .. }
                | Step::Store { .. } => false,
            }
    })
}

/// A kernel that is being expanded.
pub(crate) struct Expansion<'a> {
    pub(crate) b: Builder,
    pub(crate) arguments: Arguments<'a>,
    pub(crate) regions: &'a Regions,
    pub(crate) region: &'a Region,
    pub(crate) limits: Limits,
    /// Workgroups of the grid.
    pub(crate) groups: [u32; 3],
    forms: &'a [StoredAs],
    shared: &'a [(Buffer, Buffer)],
}

impl<'a> Expansion<'a> {
    fn new(request: Request<'a>) -> Expansion<'a> {
        Expansion {
            b: Builder::new("", Vec::new(), 1, [1; 3]),
            arguments: Arguments {
                regions: request.regions,
                list: Vec::new(),
            },
            regions: request.regions,
            region: request.region,
            limits: request.limits,
            groups: [1; 3],
            forms: request.forms,
            shared: request.shared,
        }
    }

    fn finish(self) -> Expanded {
        let mut arguments: Vec<(u32, Buffer)> = Vec::new();
        for argument in &self.arguments.list {
            if !arguments.iter().any(|(id, _)| *id == argument.id.0) {
                arguments.push((argument.id.0, argument.buffer));
            }
        }
        arguments.sort_unstable();
        Expanded {
            kernel: self.b.finish(),
            arguments: arguments.into_iter().map(|(_, buffer)| buffer).collect(),
        }
    }

    /// Opens a kernel of so many workgroups along each axis, with all buffers of the region.
    pub(crate) fn begin(
        &mut self,
        program: &BlockProgram,
        invocations: u32,
        groups: [usize; 3],
    ) -> Result<(), Refusal> {
        self.open(program.program, invocations, groups)?;
        let region = self.region;
        let views: Vec<&View> = program
            .views
            .iter()
            .chain(
                program
                    .outputs
                    .iter()
                    .flat_map(|views| views.reads.iter().flatten()),
            )
            .collect();
        // What is stored comes first: what lies in the same memory takes over its argument.
        for (output, views) in region.outputs.iter().zip(&program.outputs) {
            let in_quads = quads::is_in_quads(region, output, views, self.regions);
            self.bind(output.buffer, in_quads, true);
        }
        for buffer in region.reads() {
            let place = self.shared.iter().find(|(read, _)| *read == buffer);
            if let Some((_, stored)) = place {
                let mut argument = self.arguments.of(*stored);
                argument.buffer = buffer;
                self.arguments.list.push(argument);
                continue;
            }
            let mut own = views.iter().filter(|view| {
                let mut pieces = view.access.pieces.iter();
                pieces.any(|piece| piece.buffer == buffer)
            });
            let in_quads = own.any(|view| {
                quads::shows(view, Along::Columns, self.regions)
                    || quads::shows(view, Along::Rows, self.regions)
            });
            self.bind(buffer, in_quads, false);
        }
        self.check_buffers()
    }

    /// Opens a kernel of so many invocations in one list.
    pub(crate) fn begin_list(
        &mut self,
        program: &BlockProgram,
        invocations: u32,
        places: usize,
    ) -> Result<(), Refusal> {
        let groups = places.div_ceil(invocations as usize).max(1);
        let lines = groups.div_ceil(self.limits.groups_max as usize);
        self.begin(program, invocations, [groups.div_ceil(lines), lines, 1])
    }

    /// Opens a kernel that reads what an output stored and stores its moments; gives whether it is
    /// read in quads.
    pub(crate) fn begin_moments(
        &mut self,
        program: &BlockProgram,
        (output, views): (&Output, &OutputViews),
        invocations: u32,
    ) -> Result<bool, Refusal> {
        let quads = quads::shows(&views.store, Along::Columns, self.regions);
        let columns = views.columns / if quads { 4 } else { 1 };
        let groups = columns.div_ceil(moments_columns(columns));
        self.open("moments", invocations, [groups, program.batch, 1])?;
        self.bind(output.buffer, quads, false);
        if let Some(moments) = output.moments {
            self.bind(moments, false, true);
        }
        self.check_buffers()?;
        Ok(quads)
    }

    fn open(&mut self, name: &str, invocations: u32, groups: [usize; 3]) -> Result<(), Refusal> {
        let most = self.limits.groups_max;
        for found in groups {
            if found > most as usize {
                return Err(Refusal::Grid { found, most });
            }
        }
        self.groups = groups.map(|count| count as u32);
        self.b = Builder::new(name, Vec::new(), invocations, self.groups);
        Ok(())
    }

    fn bind(&mut self, buffer: Buffer, in_quads: bool, written: bool) {
        let stored = self.forms[number(buffer)];
        let argument = address::argument(
            &mut self.b,
            (buffer, self.regions),
            (stored, in_quads),
            written,
        );
        self.arguments.list.push(argument);
    }

    fn check_buffers(&self) -> Result<(), Refusal> {
        let most = self.limits.buffers_max;
        match self.b.buffers() {
            found if found > most as usize => Err(Refusal::Buffers { found, most }),
            _ => Ok(()),
        }
    }
}

/// Neighbouring columns, or quads, of a workgroup that sums moments: a power of two.
fn moments_columns(columns: usize) -> usize {
    columns.next_power_of_two().min(16)
}

/// Whether the buffer of an argument is given once.
pub(crate) fn is_weight(regions: &Regions, argument: &Argument) -> bool {
    is_fixed(regions.buffer(argument.buffer))
}
