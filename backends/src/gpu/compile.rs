//! Compiling for GPUs: a program becomes commands.
//!
//! Takes a program, gives kernels as text, launches in order, and where everything lies, within the
//! limits of a target. Regions that have no kernel are left to the host, which computes them
//! between launches, or before all of them where only inputs are needed. It needs no device.

use std::collections::BTreeMap;

use compiler::graph::Role;
use compiler::kernel;
use compiler::ops::Op;
use compiler::plan::{Lifetime, Plan, PlanError, lifetimes, plan};
use compiler::program::Executable;
use compiler::region::{Anchor, Buffer, BufferData, Content, Region, RegionId, Regions};
use compiler::target::Limits;
use compiler::tile::{Choice, LowerOptions, Tiled, Tuning, lower};
use thiserror::Error;

use super::commands::{
    ALIGNMENT, Argument, Binding, Commands, Hosted, Kernel, Launch, Pool, Port, Requirements,
    Source, StoredAs, Upload,
};
use super::dialect::Dialect;
use super::expand::{Expanded, Refusal, Request, expand};
use super::stored::{forms, is_fixed, number};
use super::validate::{Invalid, Valid, validate};

/// Commands, and what they were made of.
#[derive(Debug)]
pub struct Compiled {
    /// What a device does.
    pub commands: Valid,
    /// The regions, with the order in which weights lie on the device.
    pub regions: Regions,
    /// What computes each region.
    pub tiled: Tiled,
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
    /// States change from run to run.
    #[error("state {name:?} is kept from run to run, wanted a function without states")]
    State {
        /// The state.
        name: String,
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

/// The regions of a program with the kernels of each.
struct State<'a> {
    regions: &'a Regions,
    dialect: &'a Dialect,
    forms: Vec<StoredAs>,
    plan: Plan,
    limits: Limits,
    shader_f16: bool,
    pages: Pages,
    kernels: Vec<kernel::Kernel>,
    texts: Vec<Kernel>,
    launches: Vec<Launch>,
    /// Kernels by the region's key, the forms of its buffers and which of them share memory.
    known: BTreeMap<String, Vec<Known>>,
    numbers: BTreeMap<String, usize>,
}

/// A kernel of a region: its number, and for each storage buffer which of the region's buffers it is.
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
    if let Some((name, _)) = program.states().into_iter().next() {
        return Err(CompileError::State { name });
    }
    let limits = requirements.limits;
    let regions = regions(program);
    let mut tiled = tiled(&regions, dialect);
    let forms = forms(&regions, &tiled.choices);
    let hosted = refused(&regions, &mut tiled, &forms, requirements, limits);
    let early = early(&regions, &hosted);
    let lifetimes = on_device(&regions, &forms, &hosted, &early);
    let plan = plan(&lifetimes, &limits)?;
    let mut state = State {
        regions: &regions,
        dialect,
        forms,
        plan,
        limits,
        shader_f16: requirements.shader_f16,
        pages: Pages::new(requirements),
        kernels: Vec::new(),
        texts: Vec::new(),
        launches: Vec::new(),
        known: BTreeMap::new(),
        numbers: BTreeMap::new(),
    };
    let mut on_host = Vec::new();
    for (id, region) in regions.iter() {
        match (&tiled.choices[id.0 as usize], hosted.get(&id)) {
            (Choice::Blocks(_), None) => state.region(id, region, &tiled)?,
            (_, _) => on_host.push(state.hosted(id, region, early.contains(&id))),
        }
    }
    let commands = validate(state.commands(program, on_host, requirements), dialect)?;
    let State { kernels, plan, .. } = state;
    let compiled = Compiled {
        commands,
        tiled,
        plan,
        kernels,
        hosted: hosted.into_iter().collect(),
        regions,
    };
    Ok(compiled)
}

/// The tile programs of regions.
pub fn tiled(regions: &Regions, dialect: &Dialect) -> Tiled {
    let options = LowerOptions { exact: true };
    lower(regions, dialect.target, options, &Tuning::default())
}

/// The regions of a program, joined buffers copied together, with weights in the order in which contractions walk them: their depth
/// innermost.
pub fn regions(program: &Executable) -> Regions {
    let regions = &program.regions().with_copies();
    let mut ordered = regions.clone();
    for region in &regions.regions {
        let Anchor::Op { op, .. } = &region.anchor else {
            continue;
        };
        let Some(buffer) = region.operands.get(1).and_then(|access| access.as_whole()) else {
            continue;
        };
        let data = &mut ordered.buffers[number(buffer)];
        let rank = data.extents.shape.len();
        if !is_fixed(data) || !data.is_row_major() {
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

/// The regions without a kernel, with the reason: what no program computes here, what no
/// expansion takes, and what reads a weight that no binding holds.
fn refused(
    regions: &Regions,
    tiled: &mut Tiled,
    forms: &[StoredAs],
    requirements: &Requirements,
    limits: Limits,
) -> BTreeMap<RegionId, String> {
    let mut hosted = BTreeMap::new();
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (id, region) in regions.iter() {
        let choice = &tiled.choices[id.0 as usize];
        let reason = match choice {
            Choice::Plain(reasons) => Some(
                reasons
                    .first()
                    .map_or_else(String::new, |(_, reason)| reason.clone()),
            ),
            Choice::Blocks(program) => {
                let key = format!("{:?}", (regions.key(region), forms_of(forms, region)));
                let trial = || {
                    let request = Request {
                        regions,
                        region,
                        program,
                        forms,
                        shared: &[],
                        limits,
                        shader_f16: requirements.shader_f16,
                        windows: None,
                    };
                    large(regions, region, forms, requirements).or_else(|| {
                        expand(request)
                            .err()
                            .map(|refusal: Refusal| refusal.to_string())
                    })
                };
                known.entry(key).or_insert_with(trial).clone()
            }
        };
        if let Some(reason) = reason {
            hosted.insert(id, reason);
        }
    }
    hosted
}

/// How the buffers of a region lie.
fn forms_of(forms: &[StoredAs], region: &Region) -> Vec<StoredAs> {
    let buffers = region.reads().into_iter().chain(region.stores());
    buffers.map(|buffer| forms[number(buffer)]).collect()
}

/// Why a weight cannot be bound, if one cannot.
fn large(
    regions: &Regions,
    region: &Region,
    forms: &[StoredAs],
    requirements: &Requirements,
) -> Option<String> {
    region.reads().into_iter().find_map(|buffer| {
        let data = regions.buffer(buffer);
        let bytes = window_bytes(data, forms[number(buffer)]);
        let most = requirements.limits.binding_bytes_max;
        (is_fixed(data) && bytes > most)
            .then(|| format!("{buffer} has {bytes} bytes, wanted at most {most} in one binding"))
    })
}

/// The regions that the host can compute before anything runs.
fn early(regions: &Regions, hosted: &BTreeMap<RegionId, String>) -> Vec<RegionId> {
    let mut given = vec![false; regions.buffers.len()];
    for (given, data) in given.iter_mut().zip(&regions.buffers) {
        *given = data.content != Content::Computed;
    }
    let mut early = Vec::new();
    for (id, region) in regions.iter() {
        let ready = region.reads().iter().all(|buffer| given[number(*buffer)]);
        if hosted.contains_key(&id) && ready {
            early.push(id);
            for buffer in region.stores() {
                given[number(buffer)] = true;
            }
        }
    }
    early
}

/// The lifetimes of what lies on the device, in its forms: what only the host reads and stores
/// does not, and what it computes early is there from the beginning.
fn on_device(
    regions: &Regions,
    forms: &[StoredAs],
    hosted: &BTreeMap<RegionId, String>,
    early: &[RegionId],
) -> Vec<Lifetime> {
    let mut touched = vec![false; regions.buffers.len()];
    let mut first = vec![None; regions.buffers.len()];
    for (id, region) in regions.iter() {
        for buffer in region.reads().into_iter().chain(region.stores()) {
            touched[number(buffer)] |= !hosted.contains_key(&id);
        }
        for buffer in region.stores() {
            first[number(buffer)] = Some(id);
        }
    }
    let mut found = lifetimes(regions);
    found.retain(|lifetime| touched[number(lifetime.buffer)]);
    for lifetime in &mut found {
        let buffer = number(lifetime.buffer);
        lifetime.bytes = window_bytes(&regions.buffers[buffer], forms[buffer]);
        if first[buffer].is_some_and(|id| early.contains(&id)) {
            lifetime.birth = 0;
        }
        let on_host = first[buffer].is_some_and(|id| hosted.contains_key(&id));
        lifetime.overwrites.retain(|other| {
            !on_host && forms[number(*other)] == forms[buffer] && touched[number(*other)]
        });
    }
    found.sort_by_key(|lifetime| lifetime.birth);
    let births: BTreeMap<Buffer, usize> = found
        .iter()
        .enumerate()
        .map(|(place, lifetime)| (lifetime.buffer, place))
        .collect();
    for (place, lifetime) in found.iter_mut().enumerate() {
        lifetime.overwrites.retain(|other| births[other] < place);
    }
    found
}

/// Bytes of a window, in whole elements of any kernel.
fn window_bytes(data: &BufferData, form: StoredAs) -> u64 {
    let bytes = form.bytes(data.extents.elements()).unwrap_or(u64::MAX);
    bytes
        .checked_next_multiple_of(16)
        .unwrap_or(u64::MAX)
        .max(16)
}

impl State<'_> {
    /// The launches of one region.
    fn region(&mut self, id: RegionId, region: &Region, tiled: &Tiled) -> Result<(), CompileError> {
        let Choice::Blocks(program) = &tiled.choices[id.0 as usize] else {
            return Ok(());
        };
        let shared = self.shared(region);
        let buffers = [region.reads(), region.stores()].concat();
        let place = |buffer: &Buffer| buffers.iter().position(|own| own == buffer);
        let pattern: Vec<_> = shared.iter().map(|(a, c)| (place(a), place(c))).collect();
        let windows: BTreeMap<Buffer, Argument> = buffers
            .iter()
            .map(|&buffer| (buffer, self.window(buffer)))
            .collect();
        // Where many buffers share bindings, a kernel knows how far they are from one another.
        let far: Vec<Argument> = match buffers.len() > self.limits.buffers_max as usize {
            true => windows.values().copied().collect(),
            false => Vec::new(),
        };
        let forms = forms_of(&self.forms, region);
        let key = format!("{:?}", (self.regions.key(region), forms, pattern, far));
        if !self.known.contains_key(&key) {
            let request = Request {
                regions: self.regions,
                region,
                program,
                forms: &self.forms,
                shared: &shared,
                limits: self.limits,
                shader_f16: self.shader_f16,
                windows: Some(&|buffer| windows[&buffer]),
            };
            let failed = |message: String| CompileError::Kernel {
                region: id,
                message,
            };
            let expanded = expand(request).map_err(|refusal| failed(refusal.to_string()))?;
            let mut kernels = Vec::new();
            for expanded in expanded {
                let arguments = expanded.arguments.iter();
                let places = |members: &Vec<Buffer>| members.iter().filter_map(place).collect();
                let arguments: Vec<Vec<usize>> = arguments.map(places).collect();
                kernels.push((self.kernel(id, region, expanded)?, arguments));
            }
            self.known.insert(key.clone(), kernels);
        }
        for (kernel, arguments) in self.known[&key].clone() {
            let arguments = arguments.iter().map(|members| {
                let windows = members.iter().map(|&place| windows[&buffers[place]]);
                spanned(windows)
            });
            let arguments = arguments.collect();
            self.launches.push(Launch {
                kernel,
                arguments,
                grid: self.kernels[kernel].grid,
                region: id,
                flops: self.regions.flops(region),
            });
        }
        Ok(())
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
            .map(|members| match is_fixed(self.regions.buffer(members[0])) {
                true => Binding::Read,
                false => Binding::ReadWrite,
            })
            .collect();
        // Kernels that differ in nothing but what they are for are one.
        let key = format!("{:?} {}", bindings, (self.dialect.emit)(&kernel, &bindings));
        if let Some(&number) = self.numbers.get(&key) {
            return Ok(number);
        }
        let number = self.kernels.len();
        self.numbers.insert(key, number);
        let printed = self.regions.print(id, region);
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

    /// What a region reads where it stores.
    fn shared(&self, region: &Region) -> Vec<(Buffer, Buffer)> {
        let storage = |buffer: Buffer| self.plan.place(buffer).map(|place| place.storage);
        let mut shared = Vec::new();
        for stored in region.outputs.iter().map(|output| output.buffer) {
            for read in region.reads() {
                if storage(read).is_some() && storage(read) == storage(stored) {
                    shared.push((read, stored));
                }
            }
        }
        shared
    }

    fn window(&mut self, buffer: Buffer) -> Argument {
        let data = self.regions.buffer(buffer);
        let bytes = window_bytes(data, self.forms[number(buffer)]);
        if is_fixed(data) {
            return self.pages.window(buffer, bytes);
        }
        let place = self
            .plan
            .place(buffer)
            .expect("what a kernel touches has a place");
        let (slab, offset) = self.plan.address(place);
        Argument {
            pool: Pool::Arena,
            buffer: slab,
            offset,
            bytes,
        }
    }

    /// A region that the host computes.
    fn hosted(&mut self, id: RegionId, region: &Region, early: bool) -> Hosted {
        let windows = |me: &mut Self, buffers: Vec<Buffer>| {
            let on_device = buffers.into_iter().filter(|buffer| {
                let fixed = is_fixed(me.regions.buffer(*buffer));
                !fixed && me.plan.place(*buffer).is_some()
            });
            let on_device: Vec<Buffer> = on_device.collect();
            on_device
                .into_iter()
                .map(|buffer| (buffer, me.port(&buffer.to_string(), buffer)))
                .collect()
        };
        Hosted {
            region: id,
            before: match early {
                true => 0,
                false => self.launches.len(),
            },
            reads: windows(self, region.reads()),
            stores: windows(self, region.stores()),
        }
    }

    /// A buffer as the host writes and reads it.
    fn port(&mut self, name: &str, buffer: Buffer) -> Port {
        let form = self.forms[number(buffer)];
        let data = self.regions.buffer(buffer);
        let (slab, offset) = self
            .plan
            .place(buffer)
            .map_or((0, 0), |place| self.plan.address(place));
        let mut extents = data.extents.clone();
        extents.shape = data
            .order
            .iter()
            .map(|&axis| data.extents.shape[axis])
            .collect();
        Port {
            name: name.to_owned(),
            bytes: form.bytes(extents.elements()).unwrap_or(u64::MAX),
            extents,
            buffer: slab,
            offset,
            stored: form,
        }
    }

    fn commands(
        &mut self,
        program: &Executable,
        hosted: Vec<Hosted>,
        requirements: &Requirements,
    ) -> Commands {
        let mut inputs = Vec::new();
        for (place, data) in self.regions.buffers.iter().enumerate() {
            let buffer = Buffer(place as u32);
            if let Content::Param(param) = &data.content
                && param.role == Role::Input
                && self.plan.place(buffer).is_some()
            {
                inputs.push(self.port(&param.name, buffer));
            }
        }
        let mut outputs = Vec::new();
        for (name, buffer) in &self.regions.results {
            if self.plan.place(*buffer).is_some() {
                outputs.push(self.port(name, *buffer));
            }
        }
        let pages = std::mem::replace(&mut self.pages, Pages::new(requirements));
        let uploads = pages.windows.iter().map(|(&buffer, &window)| {
            let data = self.regions.buffer(buffer);
            Upload {
                source: match &data.content {
                    Content::Param(param) => Source::Weight(param.name.clone()),
                    Content::Constant(_) | Content::Computed => Source::Constant(buffer),
                },
                extents: data.extents.clone(),
                order: data.order.clone(),
                window: Argument {
                    bytes: self.forms[number(buffer)]
                        .bytes(data.extents.elements())
                        .unwrap_or(0),
                    ..window
                },
                stored: self.forms[number(buffer)],
            }
        });
        Commands {
            name: program.name().to_owned(),
            uploads: uploads.collect(),
            kernels: std::mem::take(&mut self.texts),
            launches: std::mem::take(&mut self.launches),
            hosted,
            arena: self.plan.slabs.clone(),
            weights: pages.pages,
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

/// Pages of weights, filled one after another in the order in which weights are first read.
struct Pages {
    bytes_max: u64,
    pages: Vec<u64>,
    windows: BTreeMap<Buffer, Argument>,
}

impl Pages {
    fn new(requirements: &Requirements) -> Pages {
        Pages {
            bytes_max: requirements
                .limits
                .binding_bytes_max
                .min(requirements.limits.buffer_bytes_max),
            pages: Vec::new(),
            windows: BTreeMap::new(),
        }
    }

    fn window(&mut self, buffer: Buffer, bytes: u64) -> Argument {
        if let Some(window) = self.windows.get(&buffer) {
            return *window;
        }
        let room = bytes.next_multiple_of(ALIGNMENT);
        let full = self
            .pages
            .last()
            .is_none_or(|page| page + room > self.bytes_max);
        if full {
            self.pages.push(0);
        }
        let page = self.pages.len() - 1;
        let window = Argument {
            pool: Pool::Weights,
            buffer: page,
            offset: self.pages[page],
            bytes,
        };
        self.pages[page] += room;
        self.windows.insert(buffer, window);
        window
    }
}
