//! Concrete tensors: a type, a shape and little-endian bytes, often a view of a mapped file.
//!
//! Takes bytes from importers and users, gives typed values to evaluators; it never copies a
//! tensor that it can share, and never computes on one.

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use thiserror::Error;

use super::dtype::DType;
use super::stored::{ReadError, Stored};

/// Elements that are converted at a time.
const RUN: usize = 1024;

/// A dense, row-major tensor of known shape. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
    origin: Origin,
}

/// Where the bytes of a tensor are read from when they are needed, if not from itself. It does not
/// count in comparisons: the bytes do.
#[derive(Debug, Clone, Default)]
struct Origin(Option<Arc<dyn Stored>>);

impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Why bytes are not a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorError {
    /// The shape needs another number of bytes than there are.
    #[error("found {found} bytes, wanted {wanted} for {dtype} of shape {shape:?}")]
    Length {
        /// The element type claimed.
        dtype: DType,
        /// The shape claimed.
        shape: Vec<usize>,
        /// Bytes given.
        found: usize,
        /// Bytes that type and shape need.
        wanted: usize,
    },
    /// The number of bytes of that shape exceeds the address space.
    #[error("a tensor of {dtype} and shape {shape:?} exceeds the address space")]
    TooLarge {
        /// The element type claimed.
        dtype: DType,
        /// The shape claimed.
        shape: Vec<usize>,
    },
}

impl Tensor {
    /// A tensor over `bytes`, row-major and little-endian.
    ///
    /// # Errors
    /// When the bytes are not exactly as many as `dtype` and `shape` need.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Result<Tensor, TensorError> {
        let wanted = shape
            .iter()
            .try_fold(dtype.bytes(), |product, &dim| product.checked_mul(dim))
            .ok_or_else(|| TensorError::TooLarge {
                dtype,
                shape: shape.clone(),
            })?;
        if wanted != bytes.len() {
            return Err(TensorError::Length {
                dtype,
                shape,
                found: bytes.len(),
                wanted,
            });
        }
        Ok(Tensor {
            dtype,
            shape,
            bytes,
            origin: Origin::default(),
        })
    }

    /// The same tensor, whose bytes are a view of what `origin` reads: the view says how many there
    /// are, and [`Tensor::fetched`] reads them.
    pub fn stored(self, origin: Arc<dyn Stored>) -> Tensor {
        Tensor {
            origin: Origin(Some(origin)),
            ..self
        }
    }

    /// The same tensor with its bytes in memory, where nobody else can change them. Whoever packs
    /// or uploads weights asks for this first.
    ///
    /// # Errors
    /// When the bytes lie in a file that was cut or changed.
    pub fn fetched(&self) -> Result<Tensor, ReadError> {
        let Origin(Some(origin)) = &self.origin else {
            return Ok(self.clone());
        };
        Ok(Tensor {
            dtype: self.dtype,
            shape: self.shape.clone(),
            bytes: origin.read()?,
            origin: Origin::default(),
        })
    }

    /// An f32 tensor holding `values`, row-major.
    ///
    /// # Panics
    /// When `values` does not fill `shape`: the caller made both.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Tensor::new(DType::F32, shape.to_vec(), bytes.into()).expect("values fill the shape")
    }

    /// An i64 tensor holding `values`, row-major.
    ///
    /// # Panics
    /// When `values` does not fill `shape`: the caller made both.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Tensor {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Tensor::new(DType::I64, shape.to_vec(), bytes.into()).expect("values fill the shape")
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// The little-endian bytes, row-major.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same bytes under another shape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Tensor, TensorError> {
        Tensor::new(self.dtype, shape, self.bytes.clone())
    }

    /// The same elements with the axes in another order, outermost first: it names each once.
    ///
    /// # Panics
    /// When it names an axis that is not there.
    pub fn permuted(&self, order: &[usize]) -> Tensor {
        if order.iter().enumerate().all(|(place, &axis)| place == axis) {
            return self.clone();
        }
        let size = self.dtype.bytes();
        let mut strides = vec![size; order.len()];
        for axis in (1..order.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = order.iter().map(|&axis| self.shape[axis]).collect();
        let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
        let mut index = vec![0; order.len()];
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for _ in 0..self.elements() {
            let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
            bytes.extend_from_slice(&self.bytes[at..at + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Tensor {
            dtype: self.dtype,
            shape,
            bytes: bytes.into(),
            origin: Origin::default(),
        }
    }

    /// The values in 64-bit arithmetic: exact for every type.
    pub fn values(&self) -> Values {
        let bytes = &self.bytes[..];
        match self.dtype {
            DType::Bool => Values::Bool(bytes.iter().map(|&b| b != 0).collect()),
            DType::U8 => Values::Int(bytes.iter().map(|&b| i64::from(b)).collect()),
            DType::I8 => Values::Int(bytes.iter().map(|&b| i64::from(b.cast_signed())).collect()),
            DType::I32 => Values::Int(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            DType::I64 => Values::Int(each(bytes, i64::from_le_bytes)),
            DType::F16 => Values::Float(each(bytes, |b| f16::from_le_bytes(b).to_f64())),
            DType::BF16 => Values::Float(each(bytes, |b| bf16::from_le_bytes(b).to_f64())),
            DType::F32 => Values::Float(each(bytes, |b| f64::from(f32::from_le_bytes(b)))),
            DType::F64 => Values::Float(each(bytes, f64::from_le_bytes)),
        }
    }

    /// A tensor of `dtype` from 64-bit values, rounded to nearest even; integers wrap, floats
    /// become integers by truncation (saturating), and everything but zero is true.
    ///
    /// # Panics
    /// When `values` does not fill `shape`: the caller made both.
    pub fn from_values(dtype: DType, shape: &[usize], values: &Values) -> Tensor {
        let bytes: Vec<u8> = match dtype {
            DType::Bool => values.map_truth(|v| [u8::from(v)]),
            DType::U8 => values.map_int(u8::MIN.into()..=u8::MAX.into(), |v| [v as u8]),
            DType::I8 => {
                values.map_int(i8::MIN.into()..=i8::MAX.into(), |v| (v as i8).to_le_bytes())
            }
            DType::I32 => values.map_int(i32::MIN.into()..=i32::MAX.into(), |v| {
                (v as i32).to_le_bytes()
            }),
            DType::I64 => values.map_int(i64::MIN..=i64::MAX, i64::to_le_bytes),
            DType::F16 => values.map_float(|v| f16::from_f64(v).to_le_bytes()),
            DType::BF16 => values.map_float(|v| bf16::from_f64(v).to_le_bytes()),
            DType::F32 => values.map_float(|v| (v as f32).to_le_bytes()),
            DType::F64 => values.map_float(f64::to_le_bytes),
        };
        Tensor::new(dtype, shape.to_vec(), bytes.into()).expect("values fill the shape")
    }

    /// This tensor in another element type, by the rules of [`Tensor::from_values`]; shares the
    /// bytes when the type is already that.
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype {
            return self.clone();
        }
        if let (DType::F16, DType::F32) = (self.dtype, dtype) {
            return self.widened(|b| f16::from_le_bytes(b).to_f32());
        }
        if let (DType::BF16, DType::F32) = (self.dtype, dtype) {
            return self.widened(|b| bf16::from_le_bytes(b).to_f32());
        }
        if let (DType::F32, DType::F16) = (self.dtype, dtype) {
            let narrow = |wide: &[f32], out: &mut Vec<u8>| {
                let mut halves = [f16::ZERO; RUN];
                let halves = &mut halves[..wide.len()];
                halves.convert_from_f32_slice(wide);
                out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
            };
            return self.narrowed(dtype, narrow);
        }
        if let (DType::F32, DType::BF16) = (self.dtype, dtype) {
            let narrow = |wide: &[f32], out: &mut Vec<u8>| {
                let halves = wide.iter().map(|&x| bf16::from_f32(x));
                out.extend(halves.flat_map(bf16::to_le_bytes));
            };
            return self.narrowed(dtype, narrow);
        }
        Tensor::from_values(dtype, &self.shape, &self.values())
    }

    /// This tensor of f32 in a type of 16 bits, run by run: weights are large.
    fn narrowed(&self, dtype: DType, narrow: impl Fn(&[f32], &mut Vec<u8>)) -> Tensor {
        let mut bytes = Vec::with_capacity(self.bytes.len() / 2);
        let mut wide = Vec::with_capacity(RUN);
        for run in self.bytes.chunks(RUN * size_of::<f32>()) {
            let (numbers, _) = run.as_chunks();
            wide.clear();
            wide.extend(numbers.iter().map(|&number| f32::from_le_bytes(number)));
            narrow(&wide, &mut bytes);
        }
        Tensor {
            dtype,
            shape: self.shape.clone(),
            bytes: bytes.into(),
            origin: Origin::default(),
        }
    }

    /// How many elements are NaN or infinite; read in place, since weights are large.
    pub fn not_finite(&self) -> usize {
        fn count<const N: usize>(bytes: &[u8], finite: impl Fn([u8; N]) -> bool) -> usize {
            let chunks = bytes.chunks_exact(N);
            let elements =
                chunks.map(|c| finite(c.try_into().expect("chunks_exact gives N bytes")));
            elements.filter(|finite| !finite).count()
        }
        let bytes = &self.bytes[..];
        match self.dtype {
            DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => 0,
            DType::F16 => count(bytes, |b| f16::from_le_bytes(b).is_finite()),
            DType::BF16 => count(bytes, |b| bf16::from_le_bytes(b).is_finite()),
            DType::F32 => count(bytes, |b| f32::from_le_bytes(b).is_finite()),
            DType::F64 => count(bytes, |b| f64::from_le_bytes(b).is_finite()),
        }
    }

    /// Half precision to f32 without the detour through f64: weights take this path.
    fn widened(&self, convert: impl Fn([u8; 2]) -> f32) -> Tensor {
        let mut bytes = Vec::with_capacity(self.bytes.len() * 2);
        for value in each(&self.bytes, convert) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Tensor {
            dtype: DType::F32,
            shape: self.shape.clone(),
            bytes: bytes.into(),
            origin: Origin::default(),
        }
    }
}

/// Reads fixed-size little-endian elements one after the other.
fn each<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .chunks_exact(N)
        .map(|chunk| convert(chunk.try_into().expect("chunks_exact gives N bytes")))
        .collect()
}

/// Elements in 64-bit arithmetic, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Truth values.
    Bool(Vec<bool>),
    /// Integers of any width.
    Int(Vec<i64>),
    /// Floating-point numbers of any width.
    Float(Vec<f64>),
}

impl Values {
    /// As many zeros, or false.
    pub fn zeros(dtype: DType, count: usize) -> Values {
        match dtype {
            DType::Bool => Values::Bool(vec![false; count]),
            DType::U8 | DType::I8 | DType::I32 | DType::I64 => Values::Int(vec![0; count]),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Values::Float(vec![0.0; count]),
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::Bool(values) => values.len(),
            Values::Int(values) => values.len(),
            Values::Float(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn map_truth<const N: usize>(&self, encode: impl Fn(bool) -> [u8; N]) -> Vec<u8> {
        match self {
            Values::Bool(values) => values.iter().flat_map(|&v| encode(v)).collect(),
            Values::Int(values) => values.iter().flat_map(|&v| encode(v != 0)).collect(),
            Values::Float(values) => values.iter().flat_map(|&v| encode(v != 0.0)).collect(),
        }
    }

    /// Floats saturate at the ends of `range`; integers are left to `encode`.
    fn map_int<const N: usize>(
        &self,
        range: RangeInclusive<i64>,
        encode: impl Fn(i64) -> [u8; N],
    ) -> Vec<u8> {
        let saturate = |v: f64| (v as i64).clamp(*range.start(), *range.end());
        match self {
            Values::Bool(values) => values.iter().flat_map(|&v| encode(i64::from(v))).collect(),
            Values::Int(values) => values.iter().flat_map(|&v| encode(v)).collect(),
            Values::Float(values) => values.iter().flat_map(|&v| encode(saturate(v))).collect(),
        }
    }

    fn map_float<const N: usize>(&self, encode: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
        match self {
            Values::Bool(values) => values
                .iter()
                .flat_map(|&v| encode(f64::from(u8::from(v))))
                .collect(),
            Values::Int(values) => values.iter().flat_map(|&v| encode(v as f64)).collect(),
            Values::Float(values) => values.iter().flat_map(|&v| encode(v)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_round_trip_through_values() {
        for dtype in crate::value::dtype::DTYPES {
            let values = Values::Int(vec![0, 1, 1, 0]);
            let tensor = Tensor::from_values(dtype, &[2, 2], &values);
            assert_eq!(
                Tensor::from_values(dtype, &[2, 2], &tensor.values()),
                tensor,
                "{dtype}"
            );
        }
    }

    #[test]
    fn narrowing_run_by_run_rounds_as_values_do() {
        let bits = (0..5000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9)));
        let values: Vec<f32> = bits.filter(|x| !x.is_nan()).collect();
        let tensor = Tensor::from_f32(&[values.len()], &values);
        for dtype in [DType::F16, DType::BF16] {
            let slow = Tensor::from_values(dtype, tensor.shape(), &tensor.values());
            assert_eq!(tensor.cast(dtype), slow, "{dtype}");
        }
    }

    #[test]
    fn a_shape_larger_than_memory_is_refused() {
        let shape = vec![usize::MAX, 2];
        let found = Tensor::new(DType::F32, shape.clone(), Bytes::new());
        assert_eq!(
            found,
            Err(TensorError::TooLarge {
                dtype: DType::F32,
                shape
            })
        );
    }

    #[test]
    fn floats_saturate_at_the_ends_of_the_integers() {
        let floats = Values::Float(vec![-1e30, -300.5, -0.9, f64::NAN, 300.5, 3e9, 1e30]);
        let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
        let rows = [
            (DType::U8, [0, 0, 0, 0, 255, 255, 255]),
            (DType::I8, [-128, -128, 0, 0, 127, 127, 127]),
            (DType::I32, [least, -300, 0, 0, 300, most, most]),
            (
                DType::I64,
                [i64::MIN, -300, 0, 0, 300, 3_000_000_000, i64::MAX],
            ),
        ];
        for (dtype, wanted) in rows {
            let found = Tensor::from_values(dtype, &[7], &floats).values();
            assert_eq!(found, Values::Int(wanted.to_vec()), "{dtype}");
        }
    }

    #[test]
    fn halves_widen_exactly() {
        let half = Tensor::from_values(DType::F16, &[2], &Values::Float(vec![0.1, -65504.0]));
        assert_eq!(half.cast(DType::F32).values(), half.values());
    }
}
