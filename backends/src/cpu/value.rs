//! Values while a function runs: shared f32 buffers, or 64-bit values as the oracle keeps them.
//!
//! Takes tensors, gives slices to kernels and tensors back. f16 and bf16 values are f32 buffers
//! whose elements are rounded to the type; f64, integers and truth values stay in 64 bits.

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use compiler::DType;
use compiler::eval::Array;
use compiler::ops::Extents;
use compiler::tensor::{Tensor, Values};

use super::threads::{chunks, each};

/// Elements that one task converts.
const CONVERT_BLOCK: usize = 1 << 15;

/// A concrete value; cloning shares the elements.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// The extents, outermost first.
    pub(crate) shape: Vec<usize>,
    /// The elements, row-major.
    pub(crate) data: Data,
}

/// The elements of a value.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// f16, bf16 and f32 made here.
    Owned(Arc<Vec<f32>>),
    /// f32 in somebody's memory, aligned.
    Mapped(Tensor),
    /// Every other type.
    Wide(Arc<Values>),
}

/// Whether values of a type are kept as f32.
pub(crate) fn narrow(dtype: DType) -> bool {
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 => true,
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F64 => false,
    }
}

impl Value {
    /// The value of a tensor, as the type `dtype`. f32 shares the tensor's bytes if they are
    /// aligned.
    pub(crate) fn load(tensor: &Tensor, dtype: DType) -> Value {
        let shape = tensor.shape().to_vec();
        if !narrow(dtype) {
            let values = tensor.cast(dtype).values();
            let data = Data::Wide(Arc::new(values));
            return Value { shape, data };
        }
        let aligned = cfg!(target_endian = "little")
            && bytemuck::try_cast_slice::<u8, f32>(tensor.bytes()).is_ok();
        if (tensor.dtype(), dtype, aligned) == (DType::F32, DType::F32, true) {
            let data = Data::Mapped(tensor.clone());
            return Value { shape, data };
        }
        let mut floats = widen(tensor);
        if tensor.dtype() != dtype {
            round(&mut floats, dtype);
        }
        Value::owned(shape, floats)
    }

    /// A value of elements made here.
    pub(crate) fn owned(shape: Vec<usize>, floats: Vec<f32>) -> Value {
        let data = Data::Owned(Arc::new(floats));
        Value { shape, data }
    }

    /// What the oracle computed, rounded to the type of the result.
    pub(crate) fn computed(values: Values, result: &Extents) -> Value {
        let shape = result.shape.clone();
        let rounded = || Tensor::from_values(result.dtype, &shape, &values);
        let data = match result.dtype {
            DType::F16 | DType::BF16 | DType::F32 => return Value::load(&rounded(), result.dtype),
            DType::F64 | DType::I64 | DType::Bool => Data::Wide(Arc::new(values)),
            DType::U8 | DType::I8 | DType::I32 => Data::Wide(Arc::new(rounded().values())),
        };
        Value { shape, data }
    }

    /// The elements of a float value of 32 bits or less.
    ///
    /// # Panics
    /// When the value is of another type: callers know the types of their operands.
    pub(crate) fn floats(&self) -> &[f32] {
        match &self.data {
            Data::Owned(floats) => floats,
            Data::Mapped(tensor) => bytemuck::cast_slice(tensor.bytes()),
            Data::Wide(_) => panic!("inferred as a float value of 32 bits or less"),
        }
    }

    /// The elements of a float value to be overwritten: its own if nothing else holds them.
    pub(crate) fn take(self) -> Vec<f32> {
        match self.data {
            Data::Owned(floats) => Arc::try_unwrap(floats).unwrap_or_else(|held| held.to_vec()),
            Data::Mapped(_) | Data::Wide(_) => self.floats().to_vec(),
        }
    }

    /// Whether [`Value::floats`] has an answer.
    pub(crate) fn is_narrow(&self) -> bool {
        match &self.data {
            Data::Owned(_) | Data::Mapped(_) => true,
            Data::Wide(_) => false,
        }
    }

    /// Whether [`Value::take`] copies nothing.
    pub(crate) fn is_unique(&self) -> bool {
        match &self.data {
            Data::Owned(floats) => Arc::strong_count(floats) == 1,
            Data::Mapped(_) | Data::Wide(_) => false,
        }
    }

    /// The value in 64-bit arithmetic.
    pub(crate) fn array(&self) -> Array {
        let values = match &self.data {
            Data::Wide(values) => Values::clone(values),
            Data::Owned(_) | Data::Mapped(_) => {
                Values::Float(self.floats().iter().map(|&x| f64::from(x)).collect())
            }
        };
        let shape = self.shape.clone();
        Array { shape, values }
    }

    /// The integers of an index operand.
    ///
    /// # Panics
    /// When the value is of another type: callers know the types of their operands.
    pub(crate) fn ints(&self) -> &[i64] {
        match &self.data {
            Data::Wide(values) => match &**values {
                Values::Int(ints) => ints,
                Values::Bool(_) | Values::Float(_) => panic!("inferred as an integer value"),
            },
            Data::Owned(_) | Data::Mapped(_) => panic!("inferred as an integer value"),
        }
    }

    /// The value as a tensor of its type.
    pub(crate) fn tensor(&self, ty: &Extents) -> Tensor {
        match (&self.data, ty.dtype) {
            (Data::Mapped(tensor), _) => tensor
                .reshaped(ty.shape.clone())
                .expect("reshaping keeps the number of elements"),
            (Data::Wide(values), dtype) => Tensor::from_values(dtype, &ty.shape, values),
            (Data::Owned(floats), DType::F32) => Tensor::from_f32(&ty.shape, floats),
            (Data::Owned(_), dtype) => Tensor::from_values(dtype, &ty.shape, &self.array().values),
        }
    }
}

/// Rounds every element to `dtype`, in place.
pub(crate) fn round(floats: &mut [f32], dtype: DType) {
    let convert: fn(&mut [f32]) = match dtype {
        DType::F16 => |block| {
            let mut halves = [f16::ZERO; 512];
            for part in block.chunks_mut(halves.len()) {
                let halves = &mut halves[..part.len()];
                halves.convert_from_f32_slice(part);
                halves.convert_to_f32_slice(part);
            }
        },
        DType::BF16 => |block| {
            block
                .iter_mut()
                .for_each(|x| *x = bf16::from_f32(*x).to_f32());
        },
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F32 | DType::F64 => {
            return;
        }
    };
    each(chunks(floats, CONVERT_BLOCK), |(_, block)| convert(block));
}

/// The elements of a float tensor as f32.
fn widen(tensor: &Tensor) -> Vec<f32> {
    let bytes = &tensor.bytes()[..];
    let size = tensor.dtype().bytes();
    let mut floats = vec![0.0; tensor.elements()];
    each(chunks(&mut floats, CONVERT_BLOCK), |(index, block)| {
        let bytes = &bytes[index * CONVERT_BLOCK * size..][..block.len() * size];
        match tensor.dtype() {
            DType::F16 => {
                let mut halves = [f16::ZERO; 512];
                for (part, bytes) in block.chunks_mut(512).zip(bytes.chunks(1024)) {
                    let halves = &mut halves[..part.len()];
                    fill(halves, bytes, f16::from_le_bytes);
                    halves.convert_to_f32_slice(part);
                }
            }
            DType::BF16 => fill(block, bytes, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F32 => fill(block, bytes, f32::from_le_bytes),
            DType::F64 => fill(block, bytes, |b| f64::from_le_bytes(b) as f32),
            DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => {
                panic!("checked to be a float tensor")
            }
        }
    });
    floats
}

fn fill<T, const N: usize>(out: &mut [T], bytes: &[u8], convert: impl Fn([u8; N]) -> T) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (out, element) in out.iter_mut().zip(elements) {
        *out = convert(*element);
    }
}
