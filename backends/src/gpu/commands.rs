//! Commands: what a GPU does for one run of a program, as plain data.
//!
//! The compiling half makes it, [`super::validate`] checks it, a device obeys it; a page in a
//! browser can obey the same. It holds kernels as text, windows of memory as numbers, and no
//! weight. Nothing here knows a driver or an operator.
//!
//! Commands are well formed when
//! * W1: every index names something: kernels of launches, buffers of arguments, ports, uploads;
//! * W2: every window is of whole words, and lies in its buffer; those of arguments start at a
//!   multiple of [`ALIGNMENT`] and are not empty;
//! * W3: a launch has one argument for each binding of its kernel; arguments in the arena are bound
//!   for reading and writing, weights for reading;
//! * W4: no two arguments of one launch that may be written overlap, for WebGPU refuses aliases of
//!   what may be written: values that lie in the same bytes are one argument;
//! * W5: a kernel's text is one that the reader of its dialect accepts, with the entry point
//!   [`ENTRY_POINT`], a workgroup along one axis, and the bindings declared, in order, as
//!   `@group(0) @binding(0)`, …; windows are as large as the text says;
//! * W6: nothing exceeds the requirements;
//! * W7: ports, states and uploads have names of their own, windows of the size that their elements
//!   take, and an order that names each axis once;
//! * W8: each state is the whole of its buffer; inputs lie in the arena; what is copied after a run
//!   has as many bytes as where it goes, and goes nowhere else.

use std::fmt;

use thiserror::Error;

use compiler::DType;
use compiler::region::{Buffer, RegionId};
use compiler::target::Limits;
use compiler::value::extents::Extents;

/// The name of every kernel's entry point.
pub const ENTRY_POINT: &str = "main";

/// Every window starts at a multiple of so many bytes: the default of
/// `minStorageBufferOffsetAlignment`.
pub const ALIGNMENT: u64 = Limits::WEBGPU.alignment;

/// The feature of 16-bit floats.
const SHADER_F16: &str = "shader-f16";

/// What a device does for one run, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// The program's name, for messages.
    pub name: String,
    /// Kernels, each once however often it is launched.
    pub kernels: Vec<Kernel>,
    /// What runs, in order; each sees what those before it have stored.
    pub launches: Vec<Launch>,
    /// What the host computes, in order.
    pub hosted: Vec<Hosted>,
    /// Bytes of each slab of the arena. All are zero at first and live from run to run.
    pub arena: Vec<u64>,
    /// Bytes of each page of weights.
    pub weights: Vec<u64>,
    /// What lives from run to run and changes, each in a buffer of its own.
    pub states: Vec<Port>,
    /// What is copied after a run, from where to where; all is read before the first is written.
    pub copies: Vec<(Argument, Argument)>,
    /// What is written to the pages once, and to slabs where it is a constant.
    pub uploads: Vec<Upload>,
    /// Where inputs are written before a run.
    pub inputs: Vec<Port>,
    /// Where results are read after a run.
    pub outputs: Vec<Port>,
    /// What the device must grant.
    pub requirements: Requirements,
}

/// A kernel's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The name, for files and messages.
    pub name: String,
    /// The text in the language of the device; it names the size of the workgroup.
    pub text: String,
    /// Its storage buffers, in the order of `@binding`.
    pub bindings: Vec<Binding>,
    /// What it computes, and where in the source model that comes from.
    pub origin: String,
}

/// How a kernel sees a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// One start of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Index of the kernel.
    pub kernel: usize,
    /// What it is given, in the order of its bindings.
    pub arguments: Vec<Argument>,
    /// Workgroups along each axis.
    pub grid: [u32; 3],
    /// The region that it computes, alone or with other launches.
    pub region: RegionId,
    /// About how many floating-point operations that takes: devices submit little at a time.
    pub flops: u64,
}

/// A region that the host computes, for it has no kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosted {
    /// The region.
    pub region: RegionId,
    /// The number of launches that come before it; those without any need inputs only.
    pub before: usize,
    /// What it reads of the device, with its axes as they lie there.
    pub reads: Vec<(Buffer, Port)>,
    /// What it stores for the device, with its axes as they lie there.
    pub stores: Vec<(Buffer, Port)>,
}

/// A window of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Argument {
    /// What the buffer is one of.
    pub pool: Pool,
    /// Which one.
    pub buffer: usize,
    /// The first byte, a multiple of 4; of a kernel's argument a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Bytes, a multiple of 4.
    pub bytes: u64,
}

impl Argument {
    /// Whether two windows have bytes in common.
    pub fn overlaps(&self, other: &Argument) -> bool {
        let end = |window: &Argument| window.offset.saturating_add(window.bytes);
        (self.pool, self.buffer) == (other.pool, other.buffer)
            && self.offset < end(other)
            && other.offset < end(self)
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.offset.saturating_add(self.bytes);
        let kind = match self.pool {
            Pool::Arena => "slab",
            Pool::Weights => "page",
            Pool::States => "state",
        };
        let (offset, buffer) = (self.offset, self.buffer);
        write!(f, "bytes {offset} to {end} of {kind} {buffer}")
    }
}

/// A kind of buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Slabs: inputs, results and what lies between kernels.
    Arena,
    /// Pages: what is written once.
    Weights,
    /// What lives from run to run and changes; buffers are shared by programs that know it by name.
    States,
}

impl Pool {
    /// How kernels see its buffers: WebGPU forbids a launch to see one buffer both ways, so that
    /// everything in the arena may be written.
    pub fn binding(self) -> Binding {
        match self {
            Pool::Arena | Pool::States => Binding::ReadWrite,
            Pool::Weights => Binding::Read,
        }
    }
}

/// A tensor that is written once, when the commands are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Where its elements come from.
    pub source: Source,
    /// The type and the extents as the program declares them; the source may have another float
    /// type.
    pub extents: Extents,
    /// The axes as they lie on the device, outermost first.
    pub order: Vec<usize>,
    /// Where it goes.
    pub window: Argument,
    /// How its elements lie there.
    pub stored: StoredAs,
}

/// Where elements come from that are always the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The weight of that name.
    Weight(String),
    /// A constant of the program.
    Constant(Buffer),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Weight(name) => write!(f, "weight {name:?}"),
            Source::Constant(buffer) => write!(f, "constant {buffer}"),
        }
    }
}

/// An input or a result; its axes lie as they are numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name by which users know it.
    pub name: String,
    /// The type and the extents as users know them.
    pub extents: Extents,
    /// Where it lies.
    pub window: Argument,
    /// How its elements lie there.
    pub stored: StoredAs,
}

impl Port {
    /// Whether the bytes here are elements of the other: floats may be stored in another type than
    /// their own.
    pub fn lies_as(&self, other: &Port) -> bool {
        let is_same = self.extents.dtype == other.extents.dtype || self.stored != StoredAs::I32;
        is_same && self.extents.shape == other.extents.shape && self.stored == other.stored
    }
}

/// How elements lie on the device, little end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredAs {
    /// As they are, four bytes each.
    F32,
    /// Two in each word of four bytes, the first in the lower half.
    F16,
    /// The upper halves of f32, two in each word of four bytes, the first in the lower half.
    Bf16,
    /// Integers and truth values, four bytes each; what does not fit is an error.
    I32,
}

impl StoredAs {
    /// How elements of a type lie; nothing on a device has 64-bit floats.
    pub fn of(dtype: DType) -> Option<StoredAs> {
        match dtype {
            DType::F32 => Some(StoredAs::F32),
            DType::F16 => Some(StoredAs::F16),
            DType::BF16 => Some(StoredAs::Bf16),
            DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => Some(StoredAs::I32),
            DType::F64 => None,
        }
    }

    /// The element type that it stores.
    pub fn dtype(self) -> DType {
        match self {
            StoredAs::F32 => DType::F32,
            StoredAs::F16 => DType::F16,
            StoredAs::Bf16 => DType::BF16,
            StoredAs::I32 => DType::I32,
        }
    }

    /// Bytes of so many elements, in whole words; `None` where no number holds them.
    pub fn bytes(self, elements: usize) -> Option<u64> {
        let each = match self {
            StoredAs::F32 | StoredAs::I32 => 4,
            StoredAs::F16 | StoredAs::Bf16 => 2,
        };
        u64::try_from(elements)
            .ok()?
            .checked_mul(each)?
            .checked_next_multiple_of(4)
    }
}

/// What a device must grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// Of memory and of one kernel.
    pub limits: Limits,
    /// The feature `shader-f16`.
    pub shader_f16: bool,
}

/// What a device does not grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Lack {
    /// A limit is too low.
    #[error("{limit} is {found}, wanted {wanted}")]
    Limit {
        /// Its name in the specification.
        limit: &'static str,
        /// What is granted.
        found: u64,
        /// What is needed.
        wanted: u64,
    },
    /// A feature is missing.
    #[error("the feature {feature} is missing")]
    Feature {
        /// Its name in the specification.
        feature: &'static str,
    },
}

impl Requirements {
    /// What every WebGPU device grants without being asked.
    pub const DEFAULT: Requirements = Requirements {
        limits: Limits::WEBGPU,
        shader_f16: false,
    };

    /// What nothing needs.
    pub const NONE: Requirements = Requirements {
        limits: Limits {
            alignment: ALIGNMENT,
            binding_bytes_max: 0,
            buffer_bytes_max: 0,
            buffers_max: 0,
            shared_bytes_max: 0,
            invocations_max: 0,
            groups_max: 0,
            warp: 0,
        },
        shader_f16: false,
    };

    /// What this and another need together.
    pub fn and(self, other: Requirements) -> Requirements {
        let (own, more) = (self.limits, other.limits);
        Requirements {
            limits: Limits {
                alignment: own.alignment.max(more.alignment),
                binding_bytes_max: own.binding_bytes_max.max(more.binding_bytes_max),
                buffer_bytes_max: own.buffer_bytes_max.max(more.buffer_bytes_max),
                buffers_max: own.buffers_max.max(more.buffers_max),
                shared_bytes_max: own.shared_bytes_max.max(more.shared_bytes_max),
                invocations_max: own.invocations_max.max(more.invocations_max),
                groups_max: own.groups_max.max(more.groups_max),
                warp: own.warp.max(more.warp),
            },
            shader_f16: self.shader_f16 || other.shader_f16,
        }
    }

    /// The limits by their names in the
    /// [specification](https://www.w3.org/TR/webgpu/#limits); every alignment that it allows is
    /// met.
    pub fn limits(&self) -> [(&'static str, u64); 6] {
        let Limits {
            alignment: _,
            binding_bytes_max,
            buffer_bytes_max,
            buffers_max,
            shared_bytes_max,
            invocations_max,
            groups_max,
            warp: _,
        } = self.limits;
        [
            ("maxStorageBufferBindingSize", binding_bytes_max),
            ("maxBufferSize", buffer_bytes_max),
            ("maxStorageBuffersPerShaderStage", buffers_max.into()),
            ("maxComputeWorkgroupStorageSize", shared_bytes_max.into()),
            ("maxComputeInvocationsPerWorkgroup", invocations_max.into()),
            ("maxComputeWorkgroupsPerDimension", groups_max.into()),
        ]
    }

    /// The features by their names in the specification.
    pub fn features(&self) -> Vec<&'static str> {
        match self.shader_f16 {
            true => vec![SHADER_F16],
            false => Vec::new(),
        }
    }

    /// Checks that one who grants this much grants what is wanted.
    ///
    /// # Errors
    /// The first limit or feature that is not enough.
    pub fn grant(&self, wanted: &Requirements) -> Result<(), Lack> {
        let pairs = self.limits().into_iter().zip(wanted.limits());
        for ((limit, found), (_, wanted)) in pairs {
            if found < wanted {
                return Err(Lack::Limit {
                    limit,
                    found,
                    wanted,
                });
            }
        }
        if wanted.shader_f16 && !self.shader_f16 {
            return Err(Lack::Feature {
                feature: SHADER_F16,
            });
        }
        Ok(())
    }
}

impl Commands {
    /// Bytes that the device reserves: all slabs, pages and states.
    pub fn bytes(&self) -> u64 {
        let fixed = self.arena.iter().chain(&self.weights).copied();
        fixed
            .chain(self.states_bytes())
            .fold(0, u64::saturating_add)
    }

    /// Bytes of the buffer of each state: whole elements of any kernel.
    pub fn states_bytes(&self) -> Vec<u64> {
        let bytes = self.states.iter().map(|state| state.window.bytes);
        let whole = |bytes: u64| bytes.checked_next_multiple_of(16).unwrap_or(!3);
        bytes.map(|bytes| whole(bytes).max(16)).collect()
    }

    /// Bytes of the buffer that a window lies in, if there is such a buffer.
    pub fn buffer_bytes(&self, window: &Argument) -> Option<u64> {
        let pool = match window.pool {
            Pool::Arena => &self.arena,
            Pool::Weights => &self.weights,
            Pool::States => return self.states_bytes().get(window.buffer).copied(),
        };
        pool.get(window.buffer).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_take_whole_words() {
        let rows = [
            (StoredAs::F32, 3, Some(12)),
            (StoredAs::F16, 3, Some(8)),
            (StoredAs::Bf16, 4, Some(8)),
            (StoredAs::I32, 0, Some(0)),
            (StoredAs::F32, usize::MAX, None),
        ];
        for (stored, elements, bytes) in rows {
            assert_eq!(stored.bytes(elements), bytes, "{elements} of {stored:?}");
        }
    }

    #[test]
    fn every_type_but_f64_has_a_place_on_a_device() {
        for dtype in compiler::value::dtype::DTYPES {
            assert_eq!(
                StoredAs::of(dtype).is_none(),
                dtype == DType::F64,
                "{dtype}"
            );
        }
    }
}
