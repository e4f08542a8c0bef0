//! The weight program of a weight that LoRA layers change.
//!
//! Takes stored weights and layers, returns functions. All sums are f32, and rounded once: to the type
//! in which the weight is stored, or for f32 to that in which it is packed.
//!
//! Source: spec 2.3; Hu et al. 2021 (arXiv 2106.09685), eq. 3; for convolutions kohya-ss/sd-scripts
//! `networks/merge_lora.py`.

use std::collections::BTreeMap;

use compiler::graph::{Builder, Func, GraphError, TensorType, Value};
use compiler::ops::{Add, Cast, Matmul, Mul, Reshape};
use compiler::program::weight_program::{Scale, WeightProgram};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::Layer;
use crate::checkpoint::Tensors;

/// The input that is the stored weight.
const WEIGHT: &str = "weight";

/// The weight programs of one component, by the weight: of those that layers change. `files` holds
/// the layers of each file, whose strength has the same place in the list of strengths; `weights`
/// holds the stored weights of the component.
///
/// # Errors
/// When factors do not fit a stored weight.
pub fn weight_programs(
    component: &str,
    files: &[Vec<Layer>],
    weights: &Tensors,
) -> Result<BTreeMap<String, WeightProgram>, GraphError> {
    let mut changes: BTreeMap<&str, Vec<(usize, &Layer)>> = BTreeMap::new();
    for (strength, layers) in files.iter().enumerate() {
        let own = layers.iter().filter(|layer| layer.component == component);
        for layer in own {
            let all = changes.entry(&layer.module).or_default();
            all.push((strength, layer));
        }
    }
    let mut programs = BTreeMap::new();
    for (module, layers) in changes {
        let name = format!("{module}.weight");
        if let Some(weight) = weights.get(&name) {
            programs.insert(name, weight_program(weight, &layers)?);
        }
    }
    Ok(programs)
}

/// The program of one weight, with the strength that each layer follows.
fn weight_program(
    weight: &Tensor,
    layers: &[(usize, &Layer)],
) -> Result<WeightProgram, GraphError> {
    let mut stored = BTreeMap::from([(WEIGHT.to_owned(), weight.clone())]);
    let mut scales = Vec::with_capacity(layers.len());
    for (number, (strength, layer)) in layers.iter().enumerate() {
        stored.insert(format!("down.{number}"), layer.down.clone());
        stored.insert(format!("up.{number}"), layer.up.clone());
        scales.push(Scale {
            input: format!("scale.{number}"),
            strength: *strength,
            factor: layer.factor,
        });
    }
    let factors = layers
        .iter()
        .map(|(_, layer)| [&layer.down, &layer.up].map(TensorType::of));
    Ok(WeightProgram {
        func: sum(&TensorType::of(weight), factors)?,
        like: WEIGHT,
        stored,
        scales,
    })
}

/// `weight + Σ scale · up · down` for factors `[rank, in, …]` and `[out, rank, …]` in the inputs
/// `down.i`, `up.i` and `scale.i`; of the weight's type and shape `[out, in, …]`.
fn sum(
    weight: &TensorType,
    factors: impl Iterator<Item = [TensorType; 2]>,
) -> Result<Func, GraphError> {
    let mut builder = Builder::new("lora");
    let stored = builder.input(WEIGHT, weight.clone())?;
    let mut sum = as_matrix(&mut builder, stored)?;
    for (number, [down, up]) in factors.enumerate() {
        let down = builder.input(&format!("down.{number}"), down)?;
        let up = builder.input(&format!("up.{number}"), up)?;
        let scale = builder.input(&format!("scale.{number}"), TensorType::scalar(DType::F32))?;
        let down = as_matrix(&mut builder, down)?;
        let up = as_matrix(&mut builder, up)?;
        let product = builder.push(Matmul, &[up, down])?;
        let product = builder.push(Mul, &[product, scale])?;
        sum = builder.push(Add, &[sum, product])?;
    }
    let mut result = sum;
    if weight.dtype != DType::F32 {
        let dtype = weight.dtype;
        result = builder.push(Cast { dtype }, &[result])?;
    }
    let shape = weight.shape.clone();
    let result = builder.push(Reshape { shape }, &[result])?;
    builder.result(WEIGHT, result)?;
    Ok(builder.finish())
}

/// `[first, …]` as f32 `[first, all others together]`.
fn as_matrix(builder: &mut Builder, value: Value) -> Result<Value, GraphError> {
    let ty = builder.ty(value).clone();
    let first = ty.shape.first().cloned().unwrap_or(Dim::from(1));
    let rest = ty.shape.iter().skip(1);
    let rest = rest.fold(Dim::from(1), |product, extent| product.mul(extent));
    let shape = vec![first, rest];
    let matrix = builder.push(Reshape { shape }, &[value])?;
    match ty.dtype == DType::F32 {
        true => Ok(matrix),
        false => builder.push(Cast { dtype: DType::F32 }, &[matrix]),
    }
}
