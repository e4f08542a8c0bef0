//! Elements on their way between the host and a device.
//!
//! Takes tensors and gives the bytes that lie on a device, a few MiB at a time and in the order of
//! axes that kernels read; and tensors from such bytes. It knows no device.

use half::{bf16, f16};
use thiserror::Error;

use compiler::DType;
use compiler::value::extents::Extents;
use compiler::value::tensor::{Tensor, TensorError};

use super::commands::StoredAs;

/// Why a tensor does not lie on a device.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ElementsError {
    /// It is of another type.
    #[error("found {} {:?}, wanted {} {:?}", .found.dtype, .found.shape, .wanted.dtype, .wanted.shape)]
    Type {
        /// What it is.
        found: Extents,
        /// What is declared.
        wanted: Extents,
    },
    /// An integer has more bits than the 32 of a device.
    #[error("found {value}, wanted integers of 32 bits")]
    Range {
        /// The integer.
        value: i64,
    },
    /// Bytes from the device are not as many as the tensor's.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// How a tensor lies.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Its type and extents, as declared; the tensor may have another float type, and is rounded
    /// to the declared one.
    pub extents: &'a Extents,
    /// Its axes, outermost first, each once.
    pub order: &'a [usize],
    /// How elements are stored.
    pub stored: StoredAs,
}

/// Bytes that are given at a time, or a little more.
const PIECE_BYTES: usize = 4 << 20;

/// Elements that are converted at a time.
const SEGMENT: usize = 1 << 16;

/// Gives the bytes of `tensor`, in pieces of whole words, each with its offset.
///
/// # Errors
/// When the tensor is of another type, an integer does not fit, or `give` fails.
pub fn encode<E: From<ElementsError>>(
    tensor: &Tensor,
    layout: Layout,
    mut give: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let tensor = typed(tensor, layout.extents)?;
    let mut offset = 0;
    let mut flush = |bytes: &[u8]| {
        let at = offset;
        offset += bytes.len() as u64;
        give(at, bytes)
    };
    let mut out = Vec::new();
    if lies_so(&tensor, layout) {
        for piece in tensor.bytes().chunks(PIECE_BYTES) {
            match piece.len().is_multiple_of(4) {
                true => flush(piece)?,
                false => {
                    out.extend_from_slice(piece);
                    pad(&mut out);
                    flush(&out)?;
                }
            }
        }
        return Ok(());
    }
    for (start, stride, count) in segments(layout) {
        convert(&tensor, layout, (start, stride, count), &mut out)?;
        if out.len() >= PIECE_BYTES {
            // An odd half waits for its neighbour.
            let rest = out.split_off(out.len() - out.len() % 4);
            flush(&out)?;
            out = rest;
        }
    }
    pad(&mut out);
    match out.is_empty() {
        true => Ok(()),
        false => flush(&out),
    }
}

/// Fills the last word.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The tensor, if it is of the declared type or of another float type; 64-bit floats are rounded.
fn typed(tensor: &Tensor, wanted: &Extents) -> Result<Tensor, ElementsError> {
    let found = tensor.dtype();
    let floats = found.is_float() && wanted.dtype.is_float();
    if tensor.shape() != wanted.shape || (found != wanted.dtype && !floats) {
        return Err(ElementsError::Type {
            found: Extents {
                dtype: found,
                shape: tensor.shape().to_vec(),
            },
            wanted: wanted.clone(),
        });
    }
    let narrow = match wanted.dtype {
        DType::F64 => DType::F32,
        dtype => dtype,
    };
    Ok(match found {
        DType::F64 => tensor.cast(narrow),
        _ => tensor.clone(),
    })
}

/// Whether the bytes lie on the device as they lie in the tensor.
fn lies_so(tensor: &Tensor, layout: Layout) -> bool {
    let row_major = layout.order.is_sorted();
    let same = layout.stored.dtype();
    let declared = layout.extents.dtype;
    let exact = declared == same || matches!(declared, DType::F32 | DType::F64);
    row_major && tensor.dtype() == same && exact
}

/// Runs of elements in the order of the device: the first one in the tensor, from one to the next,
/// and how many.
fn segments(layout: Layout) -> impl Iterator<Item = (usize, usize, usize)> {
    let shape = &layout.extents.shape;
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let axes: Vec<(usize, usize)> = layout
        .order
        .iter()
        .map(|&axis| (shape[axis], strides[axis]))
        .collect();
    let (inner, outer) = match axes.split_last() {
        Some((inner, outer)) => (*inner, outer.to_vec()),
        None => ((1, 1), Vec::new()),
    };
    let rows: usize = outer.iter().map(|(extent, _)| extent).product();
    (0..rows).flat_map(move |row| {
        let mut rest = row;
        let mut start = 0;
        for (extent, stride) in outer.iter().rev() {
            start += rest % extent * stride;
            rest /= extent;
        }
        let (extent, stride) = inner;
        (0..extent).step_by(SEGMENT).map(move |first| {
            let count = SEGMENT.min(extent - first);
            (start + first * stride, stride, count)
        })
    })
}

/// Appends one run as it is stored.
fn convert(
    tensor: &Tensor,
    layout: Layout,
    run: (usize, usize, usize),
    out: &mut Vec<u8>,
) -> Result<(), ElementsError> {
    let bytes = &tensor.bytes()[..];
    let integers: Vec<i64> = match tensor.dtype() {
        DType::F16 => {
            let values = read(bytes, run, |b| f16::from_le_bytes(b).to_f32());
            return floats(values, layout, out);
        }
        DType::BF16 => {
            let values = read(bytes, run, |b| bf16::from_le_bytes(b).to_f32());
            return floats(values, layout, out);
        }
        DType::F32 => return floats(read(bytes, run, f32::from_le_bytes), layout, out),
        // `typed` leaves none.
        DType::F64 => {
            let values = read(bytes, run, |b| f64::from_le_bytes(b) as f32);
            return floats(values, layout, out);
        }
        DType::Bool => read(bytes, run, |[b]| i64::from(b != 0)),
        DType::U8 => read(bytes, run, |[b]| i64::from(b)),
        DType::I8 => read(bytes, run, |b| i64::from(i8::from_le_bytes(b))),
        DType::I32 => read(bytes, run, |b| i64::from(i32::from_le_bytes(b))),
        DType::I64 => read(bytes, run, i64::from_le_bytes),
    };
    for value in integers {
        let narrow = i32::try_from(value).map_err(|_| ElementsError::Range { value })?;
        out.extend_from_slice(&narrow.to_le_bytes());
    }
    Ok(())
}

/// The elements of one run.
fn read<const N: usize, T>(
    bytes: &[u8],
    (start, stride, count): (usize, usize, usize),
    element: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let elements = bytes[start * N..].chunks_exact(N).step_by(stride.max(1));
    let elements = elements.take(count);
    elements
        .map(|chunk| element(chunk.try_into().expect("chunks_exact gives N bytes")))
        .collect()
}

/// Appends floats, rounded to the declared type and then to the stored one.
fn floats(mut values: Vec<f32>, layout: Layout, out: &mut Vec<u8>) -> Result<(), ElementsError> {
    match layout.extents.dtype {
        DType::F16 => values
            .iter_mut()
            .for_each(|x| *x = f16::from_f32(*x).to_f32()),
        DType::BF16 => values
            .iter_mut()
            .for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        DType::F32 | DType::F64 | DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => {
        }
    }
    match layout.stored {
        StoredAs::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        StoredAs::F16 => out.extend(values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        StoredAs::Bf16 => out.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
        // Rules refuse floats that are stored so; truncation is what a cast would do.
        StoredAs::I32 => out.extend(values.iter().flat_map(|&x| (x as i32).to_le_bytes())),
    }
    Ok(())
}

/// The tensor whose elements lie in `bytes` as they are numbered.
///
/// # Errors
/// When there are fewer bytes than elements.
pub fn decode(bytes: &[u8], extents: &Extents, stored: StoredAs) -> Result<Tensor, ElementsError> {
    let (dtype, shape) = (extents.dtype, extents.shape.clone());
    let lies = stored.dtype();
    let wanted = extents.elements().saturating_mul(lies.bytes());
    let elements = bytes.get(..wanted).unwrap_or(bytes).to_vec();
    let tensor = Tensor::new(lies, shape, elements.into())?;
    Ok(tensor.cast(dtype))
}

#[cfg(test)]
mod tests {
    use compiler::value::tensor::Values;

    use super::*;

    fn extents(dtype: DType, shape: &[usize]) -> Extents {
        Extents {
            dtype,
            shape: shape.to_vec(),
        }
    }

    /// Encodes and gives all bytes, checking that pieces follow each other.
    fn bytes(
        tensor: &Tensor,
        declared: DType,
        order: &[usize],
        stored: StoredAs,
    ) -> Result<Vec<u8>, ElementsError> {
        let extents = extents(declared, tensor.shape());
        let layout = Layout {
            extents: &extents,
            order,
            stored,
        };
        let mut all = Vec::new();
        encode(tensor, layout, |offset, piece| {
            assert_eq!(offset, all.len() as u64);
            assert!(piece.len().is_multiple_of(4) && !piece.is_empty());
            all.extend_from_slice(piece);
            Ok::<(), ElementsError>(())
        })?;
        Ok(all)
    }

    #[test]
    fn what_is_stored_reads_back() {
        let ints = Values::Int(vec![0, 1, 1, 0, 1, 1]);
        let rows = [
            (DType::Bool, StoredAs::I32, 24),
            (DType::U8, StoredAs::I32, 24),
            (DType::I8, StoredAs::I32, 24),
            (DType::I32, StoredAs::I32, 24),
            (DType::I64, StoredAs::I32, 24),
            (DType::F16, StoredAs::F16, 12),
            (DType::BF16, StoredAs::Bf16, 12),
            (DType::F16, StoredAs::F32, 24),
            (DType::F32, StoredAs::F32, 24),
            (DType::F32, StoredAs::Bf16, 12),
            (DType::F64, StoredAs::F32, 24),
        ];
        for (dtype, stored, size) in rows {
            let tensor = Tensor::from_values(dtype, &[2, 3], &ints);
            let lies = bytes(&tensor, dtype, &[0, 1], stored).expect("it lies");
            assert_eq!(lies.len(), size, "{dtype} as {stored:?}");
            let back = decode(&lies, &extents(dtype, &[2, 3]), stored).expect("it reads");
            assert_eq!(back, tensor, "{dtype} as {stored:?}");
        }
    }

    #[test]
    fn axes_lie_in_the_order_asked_for() {
        let values: Vec<f32> = (0..24).map(|x| x as f32).collect();
        let tensor = Tensor::from_f32(&[2, 3, 4], &values);
        let lies = bytes(&tensor, DType::F32, &[2, 0, 1], StoredAs::F32).expect("it lies");
        let found = decode(&lies, &extents(DType::F32, &[4, 2, 3]), StoredAs::F32);
        let wanted: Vec<f32> = (0..4)
            .flat_map(|k| {
                (0..2).flat_map(move |i| (0..3).map(move |j| (i * 12 + j * 4 + k) as f32))
            })
            .collect();
        assert_eq!(found, Ok(Tensor::from_f32(&[4, 2, 3], &wanted)));
    }

    #[test]
    fn an_odd_half_is_padded_and_pieces_join() {
        let count = PIECE_BYTES / 2 + 3;
        let values = Values::Float((0..count).map(|x| (x % 2048) as f64).collect());
        for (found, order) in [(DType::F16, &[0][..]), (DType::F32, &[0])] {
            let tensor = Tensor::from_values(found, &[count], &values);
            let lies = bytes(&tensor, DType::F16, order, StoredAs::F16).expect("it lies");
            assert_eq!(lies.len(), count * 2 + 2);
            let back = decode(&lies, &extents(DType::F16, &[count]), StoredAs::F16);
            let back = back.expect("it reads").values();
            assert_eq!(back, values);
        }
    }

    #[test]
    fn floats_round_to_the_declared_type_first() {
        let tensor = Tensor::from_f32(&[1], &[1.0 + 1.0 / 1024.0]);
        let lies = bytes(&tensor, DType::BF16, &[0], StoredAs::F32).expect("it lies");
        assert_eq!(lies, 1f32.to_le_bytes());
        let half = tensor.cast(DType::F16);
        let lies = bytes(&half, DType::BF16, &[0], StoredAs::F16).expect("it lies");
        assert_eq!(lies[..2], f16::from_f32(1.0).to_le_bytes());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let large = Tensor::from_i64(&[2], &[1, 1 << 40]);
        let error = bytes(&large, DType::I64, &[0], StoredAs::I32);
        assert_eq!(error, Err(ElementsError::Range { value: 1 << 40 }));
        let other = bytes(&large, DType::I32, &[0], StoredAs::I32).expect_err("another type");
        assert_eq!(other.to_string(), "found i64 [2], wanted i32 [2]");
    }

    #[test]
    fn scalars_and_nothing_lie_too() {
        let scalar = Tensor::from_values(DType::I64, &[], &Values::Int(vec![-7]));
        let lies = bytes(&scalar, DType::I64, &[], StoredAs::I32);
        assert_eq!(lies, Ok((-7i32).to_le_bytes().to_vec()));
        let nothing = Tensor::from_i64(&[3, 0], &[]);
        assert_eq!(
            bytes(&nothing, DType::I64, &[1, 0], StoredAs::I32),
            Ok(Vec::new())
        );
    }
}
