//! Compiling for GPUs: a program becomes commands.
//!
//! Takes a program, gives kernels as text, launches in order, and where everything lies, within the
//! limits of a target. Regions that have no kernel are left to the host, which computes them
//! between launches, or before all of them where only inputs are needed. It needs no device.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::kernel;
use compiler::ops::Op;
use compiler::plan::{Plan, PlanError};
use compiler::program::Executable;
use compiler::region::{Anchor, Buffer, Region, RegionId, Regions};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, Choice, LowerOptions, Recut, Tiled, Tuning, lower, recut};
use thiserror::Error;

use super::buffers::{head, number};
use super::commands::{
    Argument, Binding, Commands, Hosted, Kernel, Launch, Requirements, StoredAs,
};
use super::dialect::Dialect;
use super::expand::{Expanded, Request, expand};
use super::hosted::hosted;
use super::places::Places;
use super::stored::forms;
use super::validate::{Invalid, Valid, validate};

/// Commands, and what they were made of.
#[derive(Debug)]
pub struct Compiled {
    /// What a device does.
    pub commands: Valid,
    /// The regions, with the order in which weights lie on the device.
    pub regions: Regions,
    /// Where buffers between kernels lie.
    pub plan: Plan,
    /// The kernels before they were printed, in the order of [`Commands::kernels`].
    pub kernels: Vec<kernel::Kernel>,
    /// The regions that the host computes, with the reason.
    pub hosted: Vec<(RegionId, String)>,
}

/// Why a program has no commands.
#[derive(Debug, Error)]
pub enum CompileError {
    /// What lies between kernels does not fit.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// States of 64-bit floats lie on no device.
    #[error("a state is of {dtype}, wanted a type of at most 32 bits")]
    State {
        /// The type.
        dtype: DType,
    },
    /// A kernel breaks a rule: a fault of ours.
    #[error("the kernel of {region}: {message}")]
    Kernel {
        /// The region.
        region: RegionId,
        /// What was found.
        message: String,
    },
    /// The commands break a rule: a fault of ours.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// The regions of a program with the kernel of each.
struct State<'a> {
    recut: &'a Recut,
    dialect: &'a Dialect,
    places: Places<'a>,
    limits: Limits,
    shader_f16: bool,
    kernels: Vec<kernel::Kernel>,
    texts: Vec<Kernel>,
    launches: Vec<Launch>,
    /// The kernel, or why there is none, by all that they depend on: the region's key, the forms of
    /// its buffers, which of them share memory, and where they begin.
    known: BTreeMap<String, Result<Known, String>>,
    numbers: BTreeMap<String, usize>,
}

/// A kernel of a region: its number, and for each storage buffer which of the region's buffers it
/// is.
type Known = (usize, Vec<Vec<usize>>);

/// Compiles a program.
///
/// # Errors
/// When a buffer does not fit in a binding, or no plan in numbers.
pub fn compile(
    program: &Executable,
    requirements: &Requirements,
    dialect: &Dialect,
) -> Result<Compiled, CompileError> {
    let regions = regions(program);
    for data in &regions.buffers {
        if data.is_state() && StoredAs::of(data.extents.dtype).is_none() {
            let dtype = data.extents.dtype;
            return Err(CompileError::State { dtype });
        }
    }
    let recut = recut(&regions, dialect.target);
    if let Some(compiled) = compile_recut(program, (&regions, &recut), requirements, dialect)? {
        return Ok(compiled);
    }
    let whole = Recut::none(&regions);
    let compiled = compile_recut(program, (&regions, &whole), requirements, dialect)?;
    Ok(compiled.expect("the host computes what was not cut"))
}

/// Compiles regions that were cut anew; `None` if a new one has no kernel, for the host computes
/// originals only.
fn compile_recut(
    program: &Executable,
    (regions, recut): (&Regions, &Recut),
    requirements: &Requirements,
    dialect: &Dialect,
) -> Result<Option<Compiled>, CompileError> {
    let tiled = tiled(&recut.regions, dialect);
    let forms = forms(&recut.regions, &tiled.choices);
    let mut hosted = hosted(&recut.regions, &tiled.choices, &forms, requirements);
    if hosted.keys().any(|&id| recut.is_new(id)) {
        return Ok(None);
    }
    let mut state = State {
        recut,
        dialect,
        places: Places::new(&recut.regions, forms, &hosted, requirements)?,
        limits: requirements.limits,
        shader_f16: requirements.shader_f16,
        kernels: Vec::new(),
        texts: Vec::new(),
        launches: Vec::new(),
        known: BTreeMap::new(),
        numbers: BTreeMap::new(),
    };
    let mut on_host = Vec::new();
    for ((id, region), choice) in recut.regions.iter().zip(&tiled.choices) {
        if let (Choice::Blocks(program), false) = (choice, hosted.contains_key(&id)) {
            match state.region(id, region, program)? {
                None => continue,
                Some(_) if recut.is_new(id) => return Ok(None),
                Some(refusal) => hosted.insert(id, refusal),
            };
        }
        let launches = state.launches.len();
        let own = state.places.hosted(id, region, launches);
        on_host.push(Hosted {
            region: recut.origin(id),
            ..own
        });
    }
    let commands = state.commands(program, on_host, requirements);
    let commands = validate(commands, dialect)?;
    let State {
        kernels, places, ..
    } = state;
    let hosted = hosted.into_iter();
    Ok(Some(Compiled {
        commands,
        plan: places.plan,
        kernels,
        hosted: hosted
            .map(|(id, reason)| (recut.origin(id), reason))
            .collect(),
        regions: regions.clone(),
    }))
}

/// The tile programs of regions.
pub fn tiled(regions: &Regions, dialect: &Dialect) -> Tiled {
    let options = LowerOptions { exact: true };
    lower(regions, dialect.target, options, &Tuning::default())
}

/// The regions of a program as kernels compute them: without side reductions, and with weights in
/// the order in which contractions walk them, their depth innermost.
pub fn regions(program: &Executable) -> Regions {
    let regions = program.regions();
    let mut ordered = regions.clone().with_direct_statistics();
    for region in &regions.regions {
        let Anchor::Op { op, .. } = &region.anchor else {
            continue;
        };
        let Some(buffer) = region.operands.get(1).and_then(|access| access.as_whole()) else {
            continue;
        };
        let data = &mut ordered.buffers[number(buffer)];
        let rank = data.extents.shape.len();
        if !data.is_fixed() || !data.is_row_major() {
            continue;
        }
        match op {
            Op::Conv(_) => data.order = [&[0][..], &(2..rank).collect::<Vec<_>>(), &[1]].concat(),
            Op::Matmul(_) if rank >= 2 => data.order.swap(rank - 2, rank - 1),
            _ => {}
        }
    }
    ordered
}

/// How the buffers of a region lie.
fn forms_of(forms: &[StoredAs], region: &Region) -> Vec<StoredAs> {
    let buffers = region.reads().into_iter().chain(region.stores());
    buffers.map(|buffer| forms[number(buffer)]).collect()
}

impl State<'_> {
    /// Adds the launch of one region; returns why it has none, if it has none.
    fn region(
        &mut self,
        id: RegionId,
        region: &Region,
        program: &BlockProgram,
    ) -> Result<Option<String>, CompileError> {
        let shared = self.places.shared(region);
        let buffers = [region.reads(), region.stores()].concat();
        let place = |buffer: &Buffer| buffers.iter().position(|own| own == buffer);
        let pattern: Vec<_> = shared.iter().map(|(a, c)| (place(a), place(c))).collect();
        let mut windows: BTreeMap<Buffer, Argument> = BTreeMap::new();
        for &buffer in &buffers {
            windows.insert(buffer, self.places.window(buffer));
        }
        let key = {
            let forms = forms_of(&self.places.forms, region);
            let heads: Vec<usize> = buffers
                .iter()
                .map(|&b| head(&self.recut.regions, b))
                .collect();
            let far = self.far(&buffers, &windows);
            let bound: Vec<Binding> = buffers.iter().map(|b| windows[b].pool.binding()).collect();
            format!(
                "{:?}",
                (
                    self.recut.regions.key(region),
                    forms,
                    pattern,
                    heads,
                    bound,
                    far
                )
            )
        };
        if !self.known.contains_key(&key) {
            let request = Request {
                regions: &self.recut.regions,
                region,
                program,
                forms: &self.places.forms,
                shared: &shared,
                limits: self.limits,
                shader_f16: self.shader_f16,
                windows: &|buffer| windows[&buffer],
            };
            let kernel = match expand(request) {
                Err(refusal) => Err(refusal.to_string()),
                Ok(expanded) => {
                    let arguments = expanded.arguments.iter();
                    let places = |members: &Vec<Buffer>| members.iter().filter_map(place).collect();
                    let arguments: Vec<Vec<usize>> = arguments.map(places).collect();
                    Ok((self.kernel(id, region, expanded)?, arguments))
                }
            };
            self.known.insert(key.clone(), kernel);
        }
        let (kernel, arguments) = match &self.known[&key] {
            Ok(known) => known,
            Err(refusal) => return Ok(Some(refusal.clone())),
        };
        let arguments = arguments.iter().map(|members| {
            let windows = members.iter().map(|&place| windows[&buffers[place]]);
            spanned(windows)
        });
        self.launches.push(Launch {
            kernel: *kernel,
            arguments: arguments.collect(),
            grid: self.kernels[*kernel].grid,
            region: self.recut.origin(id),
            flops: self.recut.regions.flops(region),
        });
        Ok(None)
    }

    /// The windows of a region where several buffers share a binding, for there are too many or
    /// some overlap: then its kernel depends on how far they are from one another.
    fn far(&self, buffers: &[Buffer], windows: &BTreeMap<Buffer, Argument>) -> Vec<Argument> {
        let parts = buffers
            .iter()
            .filter(|&&buffer| self.recut.regions.part_of(buffer).is_some());
        match buffers.len() > self.limits.buffers_max as usize || parts.count() > 1 {
            true => windows.values().copied().collect(),
            false => Vec::new(),
        }
    }

    /// The number of a kernel among those that differ.
    fn kernel(
        &mut self,
        id: RegionId,
        region: &Region,
        expanded: Expanded,
    ) -> Result<usize, CompileError> {
        let failed = |message: String| CompileError::Kernel {
            region: id,
            message,
        };
        let mut kernel = kernel::optimize(expanded.kernel);
        kernel::verify(&kernel, &self.limits).map_err(|e| failed(e.to_string()))?;
        let bindings: Vec<Binding> = expanded
            .arguments
            .iter()
            .map(
                |members| match self.recut.regions.buffer(members[0]).is_fixed() {
                    true => Binding::Read,
                    false => Binding::ReadWrite,
                },
            )
            .collect();
        // Kernels that differ in nothing but what they are for are one.
        let key = format!("{:?} {}", bindings, (self.dialect.emit)(&kernel, &bindings));
        if let Some(&number) = self.numbers.get(&key) {
            return Ok(number);
        }
        let number = self.kernels.len();
        self.numbers.insert(key, number);
        let printed = self.recut.regions.print(id, region);
        kernel.comment = printed
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        kernel.name = format!("{}_{number}", kernel.name);
        let text = (self.dialect.emit)(&kernel, &bindings);
        self.texts.push(Kernel {
            name: kernel.name.clone(),
            text,
            bindings,
            origin: region.origin.clone(),
        });
        self.kernels.push(kernel);
        Ok(number)
    }

    fn commands(
        &mut self,
        program: &Executable,
        hosted: Vec<Hosted>,
        requirements: &Requirements,
    ) -> Commands {
        let places = &mut self.places;
        let (inputs, outputs) = (places.inputs(), places.outputs());
        let (states, copies) = (places.states(), places.copies());
        let (weights, uploads) = places.uploads();
        Commands {
            name: program.name().to_owned(),
            uploads,
            kernels: std::mem::take(&mut self.texts),
            launches: std::mem::take(&mut self.launches),
            hosted,
            arena: places.plan.slabs.clone(),
            weights,
            states,
            copies,
            inputs,
            outputs,
            requirements: *requirements,
        }
    }
}

/// The window from the first of some to the last; they lie in one buffer.
fn spanned(windows: impl Iterator<Item = Argument>) -> Argument {
    let span = windows.reduce(|span, window| {
        let offset = span.offset.min(window.offset);
        let end = (span.offset + span.bytes).max(window.offset + window.bytes);
        Argument {
            offset,
            bytes: end - offset,
            ..span
        }
    });
    span.expect("a storage buffer is one buffer or more")
}
