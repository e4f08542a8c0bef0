//! The oracle of regions: what they mean, in plain loops and 64-bit arithmetic.
//!
//! Takes regions and the parameters of their function, gives the results; what the graph's
//! oracle gives for the function must be equal. Every access map is walked element by element.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::value::array::{Array, Precision, round};

use crate::graph::eval::{EvalError, check_param};
use crate::graph::{Role, TensorType};
use crate::ops::Op;
use crate::ops::movement::pick;
use crate::ops::shape::each_index;
use crate::region::{Access, Anchor, Buffer, Content, Index, Node, Output, Region, Regions};
use crate::value::extents::Extents;
use crate::value::tensor::{Tensor, Values};

/// Evaluates regions; gives the results in order.
///
/// # Errors
/// When a parameter is missing or of another type, or an operator meets data outside of its
/// domain.
pub fn eval(
    regions: &Regions,
    inputs: &BTreeMap<String, Tensor>,
    weights: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<Vec<(String, Array)>, EvalError> {
    let mut arrays: Vec<Option<Array>> = Vec::with_capacity(regions.buffers.len());
    for data in &regions.buffers {
        arrays.push(match &data.content {
            Content::Constant(tensor) => Some(Array::from(tensor)),
            Content::Computed => None,
            Content::Param(param) => {
                let given = match param.role {
                    Role::Input => inputs.get(&param.name),
                    Role::Weight | Role::State => weights.get(&param.name),
                };
                let ty = TensorType::from(&data.extents);
                Some(Array::from(check_param(
                    param.role,
                    &param.name,
                    &ty,
                    given,
                )?))
            }
        });
    }
    for region in &regions.regions {
        let read = |buffer: Buffer| {
            let array = arrays[buffer.0 as usize].as_ref();
            array.expect("buffers are stored before they are read")
        };
        for (buffer, array) in eval_region(regions, region, &read, precision)? {
            arrays[buffer.0 as usize] = Some(array);
        }
        for joined in &regions.joined {
            if arrays[joined.whole.0 as usize].is_none() {
                arrays[joined.whole.0 as usize] = join(&joined.parts, &arrays);
            }
        }
    }
    let result = |(name, buffer): &(String, Buffer)| {
        let array = arrays[buffer.0 as usize].clone();
        (name.clone(), array.expect("results are stored"))
    };
    Ok(regions.results.iter().map(result).collect())
}

/// Vectors one after the other, once all of them are there.
fn join(parts: &[Buffer], arrays: &[Option<Array>]) -> Option<Array> {
    let parts = parts.iter().map(|part| arrays[part.0 as usize].as_ref());
    let parts: Vec<&Array> = parts.collect::<Option<_>>()?;
    let elements = parts.iter().enumerate();
    let sources =
        elements.flat_map(|(part, array)| (0..array.shape[0]).map(move |at| Some((part, at))));
    let sources: Vec<Option<(usize, usize)>> = sources.collect();
    Some(Array {
        shape: vec![sources.len()],
        values: pick(&parts, &sources),
    })
}

/// Evaluates one region; gives what it stores, outputs and moments. `read` gives the buffers that
/// it reads, constants too; all arrays are row-major, in whatever order buffers lie in memory.
///
/// # Errors
/// When an operator meets data outside of its domain.
///
/// # Panics
/// When `read` gives an array of other extents than the buffer's.
pub fn eval_region<'a>(
    regions: &Regions,
    region: &Region,
    read: &dyn Fn(Buffer) -> &'a Array,
    precision: Precision,
) -> Result<Vec<(Buffer, Array)>, EvalError> {
    let state = State {
        regions,
        region,
        precision,
    };
    let operands = region.operands.iter();
    let operands: Vec<Cow<'a, Array>> = operands.map(|x| gather(x, read)).collect();
    let anchor = state.anchor(&operands)?;
    let mut stored = Vec::with_capacity(region.outputs.len());
    for output in &region.outputs {
        let result = state.epilogue(output, anchor.as_ref(), &operands)?;
        let shape = regions.buffer(output.buffer).extents.shape.clone();
        let values = scatter(&result, &output.store, &shape);
        let array = Array { shape, values };
        if let Some(buffer) = output.moments {
            let moments = Values::Float(moments(&array));
            let shape = vec![array.shape[0], array.shape[1], 2];
            stored.push((buffer, state.rounded(buffer, shape, moments)));
        }
        let Array { shape, values } = array;
        stored.push((output.buffer, state.rounded(output.buffer, shape, values)));
    }
    Ok(stored)
}

/// The elements that an access map shows.
fn gather<'a>(access: &Access, read: &dyn Fn(Buffer) -> &'a Array) -> Cow<'a, Array> {
    if let Some(buffer) = access.as_whole() {
        let array = read(buffer);
        if array.shape == access.shape {
            return Cow::Borrowed(array);
        }
    }
    let fill: Option<Array> = access.fill.as_ref().map(Array::from);
    // Of no element at all, the kind of values still counts.
    let none = Array {
        shape: vec![0],
        values: Values::zeros(access.dtype, 0),
    };
    let buffers = access.pieces.iter().map(|piece| read(piece.buffer));
    let arrays: Vec<&Array> = buffers.chain(&fill).chain([&none]).collect();
    let outside = access.fill.as_ref().map(|_| (access.pieces.len(), 0));
    let mut sources = Vec::new();
    each_index(&access.shape, |index| {
        let pieces = access.pieces.iter().enumerate();
        let mut pieces = pieces.filter(|(_, piece)| piece.bounds.iter().all(|b| b.holds(index)));
        let source = pieces
            .next()
            .map(|(number, piece)| (number, position(&piece.index, index, &arrays[number].shape)));
        assert!(pieces.next().is_none(), "pieces do not overlap");
        let source = source.or(outside);
        assert!(
            source.is_some(),
            "pieces without a border leave nothing out"
        );
        sources.push(source);
    });
    Cow::Owned(Array {
        shape: access.shape.clone(),
        values: pick(&arrays, &sources),
    })
}

/// A region being evaluated.
struct State<'a> {
    regions: &'a Regions,
    region: &'a Region,
    precision: Precision,
}

impl State<'_> {
    /// What `buffer` holds of these values.
    fn rounded(&self, buffer: Buffer, shape: Vec<usize>, values: Values) -> Array {
        let dtype = self.regions.buffer(buffer).extents.dtype;
        let values = round(values, dtype, self.precision);
        Array { shape, values }
    }

    fn anchor(&self, operands: &[Cow<'_, Array>]) -> Result<Option<Array>, EvalError> {
        let region = self.region;
        let Some(ty) = region.anchor_type() else {
            return Ok(None);
        };
        let shape = ty.extents().expect("operands have known sizes");
        let operands = &operands[..region.anchor_operands()];
        let values = match &region.anchor {
            Anchor::Pointwise => return Ok(None),
            Anchor::Op { op, .. } => {
                let extents = Extents {
                    dtype: ty.dtype,
                    shape: shape.clone(),
                };
                let operands: Vec<&Array> = operands.iter().map(Cow::as_ref).collect();
                self.op(op, &operands, &extents)?
            }
            Anchor::Statistics { groups, epsilon } => {
                let x = &operands[0];
                let count = x.shape[2..].iter().product();
                let moments = moments(x);
                Values::Float(merge(&moments, &x.shape, *groups, count, *epsilon))
            }
            Anchor::MergeMoments {
                groups,
                epsilon,
                count,
            } => {
                let x = &operands[0];
                Values::Float(merge(x.floats(), &x.shape, *groups, *count, *epsilon))
            }
        };
        Ok(Some(Array { shape, values }))
    }

    fn op(&self, op: &Op, operands: &[&Array], extents: &Extents) -> Result<Values, EvalError> {
        let values = op
            .eval(operands, extents)
            .map_err(|fault| EvalError::Fault {
                op: op.name(),
                origin: self.region.origin.clone(),
                fault,
            })?;
        Ok(round(values, extents.dtype, self.precision))
    }

    fn epilogue(
        &self,
        output: &Output,
        anchor: Option<&Array>,
        operands: &[Cow<'_, Array>],
    ) -> Result<Array, EvalError> {
        let types = self.regions.node_types(self.region, output);
        let mut nodes: Vec<Cow<'_, Array>> = Vec::with_capacity(output.nodes.len());
        for (node, &dtype) in output.nodes.iter().zip(&types) {
            let extents = Extents {
                dtype,
                shape: output.domain.clone(),
            };
            let array = match node {
                Node::Read(operand) => Cow::Borrowed(operands[*operand].as_ref()),
                Node::Scalar(tensor) => Cow::Owned(stretch(&Array::from(tensor), &output.domain)),
                Node::Anchor(index) => {
                    let anchor = anchor.expect("an epilogue reads an anchor that computes");
                    match *index == Index::identity(&anchor.shape) && anchor.shape == output.domain
                    {
                        true => Cow::Borrowed(anchor),
                        false => Cow::Owned(walk(anchor, index, &output.domain)),
                    }
                }
                Node::Apply(op, operands) => {
                    let operands: Vec<&Array> =
                        operands.iter().map(|&n| nodes[n].as_ref()).collect();
                    let values = self.op(op, &operands, &extents)?;
                    let shape = extents.shape;
                    Cow::Owned(Array { shape, values })
                }
            };
            nodes.push(array);
        }
        let last = nodes.pop().expect("an epilogue has a node");
        Ok(last.into_owned())
    }
}

/// The row-major position that `walk` gives at `index`.
fn position(walk: &[Index], index: &[usize], shape: &[usize]) -> usize {
    walk.iter().zip(shape).fold(0, |offset, (axis, &extent)| {
        let place = usize::try_from(axis.at(index)).ok();
        let place = place.filter(|&place| place < extent);
        offset * extent + place.expect("access maps stay within their buffers")
    })
}

/// `array` read at `index` for every element of `domain`.
fn walk(array: &Array, index: &[Index], domain: &[usize]) -> Array {
    let mut sources = Vec::new();
    each_index(domain, |at| {
        sources.push(Some((0, position(index, at, &array.shape))));
    });
    Array {
        shape: domain.to_vec(),
        values: pick(&[array], &sources),
    }
}

fn stretch(scalar: &Array, domain: &[usize]) -> Array {
    walk(scalar, &[], domain)
}

/// The elements of `array` at the places where `store` puts them.
fn scatter(array: &Array, store: &[Index], shape: &[usize]) -> Values {
    let mut sources = vec![None; shape.iter().product()];
    let mut number = 0;
    each_index(&array.shape, |index| {
        let place = &mut sources[position(store, index, shape)];
        assert_eq!(*place, None, "every element is stored once");
        *place = Some((0, number));
        number += 1;
    });
    pick(&[array], &sources)
}

/// Mean and sum of squared differences for each image and channel.
fn moments(x: &Array) -> Vec<f64> {
    let area: usize = x.shape[2..].iter().product();
    let channels = x.floats().chunks_exact(area);
    let moments = channels.flat_map(|x| {
        let mean = x.iter().sum::<f64>() / area as f64;
        [mean, x.iter().map(|x| (x - mean) * (x - mean)).sum()]
    });
    moments.collect()
}

/// Mean and `1 / sqrt(variance + epsilon)` for each image and group, of the moments of channels
/// of `count` elements.
fn merge(moments: &[f64], shape: &[usize], groups: usize, count: usize, epsilon: f64) -> Vec<f64> {
    let share = shape[1] / groups;
    let merged = moments.chunks_exact(2 * share).flat_map(|channels| {
        let pairs = || channels.chunks_exact(2);
        let mean = pairs().map(|pair| pair[0]).sum::<f64>() / share as f64;
        let between = pairs()
            .map(|pair| (pair[0] - mean) * (pair[0] - mean))
            .sum::<f64>();
        let within = pairs().map(|pair| pair[1]).sum::<f64>();
        let variance = (within + between * count as f64) / (share * count) as f64;
        [mean, 1.0 / (variance + epsilon).sqrt()]
    });
    merged.collect()
}
