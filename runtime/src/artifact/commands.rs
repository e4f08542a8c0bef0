//! Commands in the plan: protobuf messages, declared by hand, and what they say as plain data.
//!
//! Takes and gives [`Commands`]; texts of kernels are in a file of their own and are named here.
//! Reading refuses what is not a number, type or form; it checks no rules. `plan.proto` is the schema.

use backends::gpu::commands as plain;
use compiler::DType;
use compiler::region::{Buffer, RegionId};
use compiler::target::Limits;
use compiler::value::extents::Extents;

#[cfg(test)]
mod tests;

/// What an adapter does for one program.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Commands {
    /// SHA-256 of the text of the regions that they compute.
    #[prost(string, tag = "1")]
    pub(super) regions: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "3")]
    kernels: Vec<Kernel>,
    #[prost(message, repeated, tag = "4")]
    launches: Vec<Launch>,
    #[prost(message, repeated, tag = "5")]
    hosted: Vec<Hosted>,
    #[prost(uint64, repeated, tag = "6")]
    arena: Vec<u64>,
    #[prost(uint64, repeated, tag = "7")]
    weights: Vec<u64>,
    #[prost(message, repeated, tag = "8")]
    uploads: Vec<Upload>,
    #[prost(message, repeated, tag = "9")]
    inputs: Vec<Port>,
    #[prost(message, repeated, tag = "10")]
    outputs: Vec<Port>,
    #[prost(message, optional, tag = "11")]
    requirements: Option<Requirements>,
    #[prost(message, repeated, tag = "12")]
    states: Vec<Port>,
    /// What is copied after a run, from where to where in turn.
    #[prost(message, repeated, tag = "13")]
    copies: Vec<Window>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Kernel {
    /// Its name in the artifact's file of kernels.
    #[prost(string, tag = "1")]
    name: String,
    #[prost(enumeration = "Binding", repeated, tag = "2")]
    bindings: Vec<i32>,
    #[prost(string, tag = "3")]
    origin: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Launch {
    #[prost(uint32, tag = "1")]
    kernel: u32,
    #[prost(message, repeated, tag = "2")]
    arguments: Vec<Window>,
    /// Three numbers.
    #[prost(uint32, repeated, tag = "3")]
    grid: Vec<u32>,
    #[prost(uint32, tag = "4")]
    region: u32,
    #[prost(uint64, tag = "5")]
    flops: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Hosted {
    #[prost(uint32, tag = "1")]
    region: u32,
    #[prost(uint32, tag = "2")]
    before: u32,
    #[prost(message, repeated, tag = "3")]
    reads: Vec<Exchange>,
    #[prost(message, repeated, tag = "4")]
    stores: Vec<Exchange>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exchange {
    #[prost(uint32, tag = "1")]
    value: u32,
    #[prost(message, required, tag = "2")]
    port: Port,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Window {
    #[prost(enumeration = "Pool", tag = "1")]
    pool: i32,
    #[prost(uint32, tag = "2")]
    buffer: u32,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(uint64, tag = "4")]
    bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Port {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    dtype: String,
    #[prost(uint64, repeated, tag = "3")]
    shape: Vec<u64>,
    #[prost(message, required, tag = "4")]
    window: Window,
    #[prost(enumeration = "StoredAs", tag = "5")]
    stored: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Upload {
    #[prost(oneof = "Source", tags = "1, 2")]
    source: Option<Source>,
    #[prost(string, tag = "3")]
    dtype: String,
    #[prost(uint64, repeated, tag = "4")]
    shape: Vec<u64>,
    #[prost(uint32, repeated, tag = "5")]
    order: Vec<u32>,
    #[prost(message, required, tag = "6")]
    window: Window,
    #[prost(enumeration = "StoredAs", tag = "7")]
    stored: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Source {
    #[prost(string, tag = "1")]
    Weight(String),
    #[prost(uint32, tag = "2")]
    Constant(u32),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Requirements {
    #[prost(uint64, tag = "1")]
    binding_bytes_max: u64,
    #[prost(uint64, tag = "2")]
    buffer_bytes_max: u64,
    #[prost(uint32, tag = "3")]
    storage_buffers_max: u32,
    #[prost(uint32, tag = "4")]
    workgroup_bytes: u32,
    #[prost(uint32, tag = "5")]
    invocations_max: u32,
    #[prost(uint32, tag = "6")]
    workgroups_per_dimension_max: u32,
    #[prost(bool, tag = "7")]
    shader_f16: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Binding {
    Read = 0,
    ReadWrite = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Pool {
    Arena = 0,
    Weights = 1,
    States = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum StoredAs {
    F32 = 0,
    F16 = 1,
    Bf16 = 2,
    I32 = 3,
}

/// The message of commands; `None` where a number has more bits than its field, which no device
/// could obey either.
pub(super) fn message(commands: &plain::Commands, regions: &str) -> Option<Commands> {
    Some(Commands {
        regions: regions.to_owned(),
        name: commands.name.clone(),
        kernels: commands.kernels.iter().map(kernel_message).collect(),
        launches: all(&commands.launches, launch_message)?,
        hosted: all(&commands.hosted, hosted_message)?,
        arena: commands.arena.clone(),
        weights: commands.weights.clone(),
        uploads: all(&commands.uploads, upload_message)?,
        inputs: all(&commands.inputs, port_message)?,
        outputs: all(&commands.outputs, port_message)?,
        requirements: Some(requirements_message(&commands.requirements)),
        states: all(&commands.states, port_message)?,
        copies: {
            let copies = commands.copies.iter().flat_map(|(from, to)| [*from, *to]);
            all(&copies.collect::<Vec<_>>(), window_message)?
        },
    })
}

/// The commands of a message with the texts of its kernels; `Err` says what is wrong.
pub(super) fn commands<E>(
    message: &Commands,
    mut text: impl FnMut(&str) -> Result<String, E>,
) -> Result<Result<plain::Commands, &'static str>, E> {
    let mut kernels = Vec::with_capacity(message.kernels.len());
    for kernel in &message.kernels {
        let Some(bindings) = all(&kernel.bindings, |&binding| plain_binding(binding)) else {
            return Ok(Err("bindings"));
        };
        kernels.push(plain::Kernel {
            name: kernel.name.clone(),
            text: text(&kernel.name)?,
            bindings,
            origin: kernel.origin.clone(),
        });
    }
    Ok(parts(message, kernels))
}

fn parts(message: &Commands, kernels: Vec<plain::Kernel>) -> Result<plain::Commands, &'static str> {
    let requirements = message.requirements.as_ref().ok_or("requirements")?;
    Ok(plain::Commands {
        name: message.name.clone(),
        kernels,
        launches: all(&message.launches, launch).ok_or("launches")?,
        hosted: all(&message.hosted, hosted).ok_or("regions of the host")?,
        arena: message.arena.clone(),
        weights: message.weights.clone(),
        uploads: all(&message.uploads, upload).ok_or("uploads")?,
        inputs: all(&message.inputs, port).ok_or("inputs")?,
        outputs: all(&message.outputs, port).ok_or("results")?,
        requirements: plain_requirements(requirements),
        states: all(&message.states, port).ok_or("states")?,
        copies: copies(&message.copies).ok_or("copies")?,
    })
}

/// Pairs of windows that follow one another.
fn copies(windows: &[Window]) -> Option<Vec<(plain::Argument, plain::Argument)>> {
    let (pairs, []) = windows.as_chunks::<2>() else {
        return None;
    };
    all(pairs, |[from, to]| Some((window(from)?, window(to)?)))
}

/// What every item becomes, or nothing.
fn all<A, B>(items: &[A], one: impl Fn(&A) -> Option<B>) -> Option<Vec<B>> {
    items.iter().map(one).collect()
}

fn kernel_message(kernel: &plain::Kernel) -> Kernel {
    let binding = |binding: &plain::Binding| match binding {
        plain::Binding::Read => Binding::Read as i32,
        plain::Binding::ReadWrite => Binding::ReadWrite as i32,
    };
    Kernel {
        name: kernel.name.clone(),
        bindings: kernel.bindings.iter().map(binding).collect(),
        origin: kernel.origin.clone(),
    }
}

fn plain_binding(binding: i32) -> Option<plain::Binding> {
    Some(match Binding::try_from(binding).ok()? {
        Binding::Read => plain::Binding::Read,
        Binding::ReadWrite => plain::Binding::ReadWrite,
    })
}

fn launch_message(launch: &plain::Launch) -> Option<Launch> {
    Some(Launch {
        kernel: u32::try_from(launch.kernel).ok()?,
        arguments: all(&launch.arguments, window_message)?,
        grid: launch.grid.to_vec(),
        region: launch.region.0,
        flops: launch.flops,
    })
}

fn launch(message: &Launch) -> Option<plain::Launch> {
    Some(plain::Launch {
        kernel: usize::try_from(message.kernel).ok()?,
        arguments: all(&message.arguments, window)?,
        grid: message.grid.as_slice().try_into().ok()?,
        region: RegionId(message.region),
        flops: message.flops,
    })
}

fn hosted_message(hosted: &plain::Hosted) -> Option<Hosted> {
    let exchange = |(buffer, port): &(Buffer, plain::Port)| {
        Some(Exchange {
            value: buffer.0,
            port: port_message(port)?,
        })
    };
    Some(Hosted {
        region: hosted.region.0,
        before: u32::try_from(hosted.before).ok()?,
        reads: all(&hosted.reads, exchange)?,
        stores: all(&hosted.stores, exchange)?,
    })
}

fn hosted(message: &Hosted) -> Option<plain::Hosted> {
    let exchange = |exchange: &Exchange| Some((Buffer(exchange.value), port(&exchange.port)?));
    Some(plain::Hosted {
        region: RegionId(message.region),
        before: usize::try_from(message.before).ok()?,
        reads: all(&message.reads, exchange)?,
        stores: all(&message.stores, exchange)?,
    })
}

fn window_message(window: &plain::Argument) -> Option<Window> {
    let pool = match window.pool {
        plain::Pool::Arena => Pool::Arena,
        plain::Pool::Weights => Pool::Weights,
        plain::Pool::States => Pool::States,
    };
    Some(Window {
        pool: pool as i32,
        buffer: u32::try_from(window.buffer).ok()?,
        offset: window.offset,
        bytes: window.bytes,
    })
}

fn window(message: &Window) -> Option<plain::Argument> {
    Some(plain::Argument {
        pool: match Pool::try_from(message.pool).ok()? {
            Pool::Arena => plain::Pool::Arena,
            Pool::Weights => plain::Pool::Weights,
            Pool::States => plain::Pool::States,
        },
        buffer: usize::try_from(message.buffer).ok()?,
        offset: message.offset,
        bytes: message.bytes,
    })
}

fn port_message(port: &plain::Port) -> Option<Port> {
    Some(Port {
        name: port.name.clone(),
        dtype: port.extents.dtype.name().to_owned(),
        shape: port.extents.shape.iter().map(|&side| side as u64).collect(),
        window: window_message(&port.window)?,
        stored: stored_message(port.stored),
    })
}

fn port(message: &Port) -> Option<plain::Port> {
    Some(plain::Port {
        name: message.name.clone(),
        extents: extents(&message.dtype, &message.shape)?,
        window: window(&message.window)?,
        stored: stored(message.stored)?,
    })
}

fn extents(dtype: &str, shape: &[u64]) -> Option<Extents> {
    Some(Extents {
        dtype: DType::from_name(dtype)?,
        shape: all(shape, |&side| usize::try_from(side).ok())?,
    })
}

fn upload_message(upload: &plain::Upload) -> Option<Upload> {
    Some(Upload {
        source: Some(match &upload.source {
            plain::Source::Weight(name) => Source::Weight(name.clone()),
            plain::Source::Constant(buffer) => Source::Constant(buffer.0),
        }),
        dtype: upload.extents.dtype.name().to_owned(),
        shape: upload
            .extents
            .shape
            .iter()
            .map(|&side| side as u64)
            .collect(),
        order: all(&upload.order, |&axis| u32::try_from(axis).ok())?,
        window: window_message(&upload.window)?,
        stored: stored_message(upload.stored),
    })
}

fn upload(message: &Upload) -> Option<plain::Upload> {
    Some(plain::Upload {
        source: match message.source.as_ref()? {
            Source::Weight(name) => plain::Source::Weight(name.clone()),
            Source::Constant(buffer) => plain::Source::Constant(Buffer(*buffer)),
        },
        extents: extents(&message.dtype, &message.shape)?,
        order: all(&message.order, |&axis| usize::try_from(axis).ok())?,
        window: window(&message.window)?,
        stored: stored(message.stored)?,
    })
}

fn stored_message(stored: plain::StoredAs) -> i32 {
    match stored {
        plain::StoredAs::F32 => StoredAs::F32 as i32,
        plain::StoredAs::F16 => StoredAs::F16 as i32,
        plain::StoredAs::Bf16 => StoredAs::Bf16 as i32,
        plain::StoredAs::I32 => StoredAs::I32 as i32,
    }
}

fn stored(message: i32) -> Option<plain::StoredAs> {
    Some(match StoredAs::try_from(message).ok()? {
        StoredAs::F32 => plain::StoredAs::F32,
        StoredAs::F16 => plain::StoredAs::F16,
        StoredAs::Bf16 => plain::StoredAs::Bf16,
        StoredAs::I32 => plain::StoredAs::I32,
    })
}

fn requirements_message(requirements: &plain::Requirements) -> Requirements {
    let limits = &requirements.limits;
    Requirements {
        binding_bytes_max: limits.binding_bytes_max,
        buffer_bytes_max: limits.buffer_bytes_max,
        storage_buffers_max: limits.buffers_max,
        workgroup_bytes: limits.shared_bytes_max,
        invocations_max: limits.invocations_max,
        workgroups_per_dimension_max: limits.groups_max,
        shader_f16: requirements.shader_f16,
    }
}

fn plain_requirements(message: &Requirements) -> plain::Requirements {
    plain::Requirements {
        limits: Limits {
            alignment: plain::ALIGNMENT,
            binding_bytes_max: message.binding_bytes_max,
            buffer_bytes_max: message.buffer_bytes_max,
            buffers_max: message.storage_buffers_max,
            shared_bytes_max: message.workgroup_bytes,
            invocations_max: message.invocations_max,
            groups_max: message.workgroups_per_dimension_max,
            // Kernels are texts here, which no longer ask for it.
            warp: 0,
        },
        shader_f16: message.shader_f16,
    }
}
