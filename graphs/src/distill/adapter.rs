//! Adapters: low-rank matrices that are trained in place of a network's own weights.
//!
//! Takes the function of a network, returns which of its weights are adapted, the layout of the
//! matrices, and the nodes of the adapted weights `W + (alpha/rank)·B·A` (arXiv 2106.09685, eq. 3).
//! It trains nothing and reads no file.

use std::collections::BTreeMap;

use compiler::graph::{Builder, Func, Role, TensorType, Value};
use compiler::ops::{Add, Cast, Matmul, Mul, Reshape};
use compiler::program::training::Layout;
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::{self, Tensor};

use super::error::DistillError;
use super::settings::{Kind, Setting, Values};
use crate::lora::{Layer, is_target};
use crate::optimizer::{OptimizerError, pieces};

/// The form of the matrices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapter {
    /// Rows of A and columns of B, at most the sides of a weight.
    pub rank: usize,
    /// What the product is multiplied by, times the rank.
    pub alpha: f64,
}

/// The setting of [`Adapter::rank`].
pub(super) const RANK: Setting = Setting {
    name: "rank",
    kind: Kind::Count,
    about: "rows and columns that the two matrices of a layer share",
    default: "64",
};

/// The setting of [`Adapter::alpha`].
pub(super) const ALPHA: Setting = Setting {
    name: "alpha",
    kind: Kind::Number,
    about: "the matrices' product is multiplied by this over the rank",
    default: "64",
};

/// The name of the first matrix of a layer, `[rank, inputs]`, or of a convolution
/// `[rank, inputs, rows, columns]`.
const DOWN: &str = "lora_A.weight";

/// The name of the second, `[outputs, rank]`, or of a convolution `[outputs, rank, 1, 1]`.
const UP: &str = "lora_B.weight";

/// The layer that a weight belongs to, if it is one that is adapted (spec 2.3).
fn layer(weight: &str) -> Option<&str> {
    let layer = weight.strip_suffix(".weight")?;
    is_target(layer).then_some(layer)
}

impl Adapter {
    /// The adapter that [`RANK`] and [`ALPHA`] describe.
    ///
    /// # Errors
    /// When one of them is not above 0.
    pub(super) fn set(values: &Values) -> Result<Adapter, DistillError> {
        Ok(Adapter {
            rank: values.positive(RANK.name)?,
            alpha: values.above_zero(ALPHA.name)?,
        })
    }

    /// The layout of the matrices for the weights of `body`, in their order: A, then B.
    ///
    /// # Errors
    /// When an extent of a weight is not known.
    pub fn layout(&self, body: &Func) -> Result<Layout, OptimizerError> {
        let mut parameters = Vec::new();
        for (_, name, ty) in body.params(Role::Weight) {
            let Some(layer) = layer(name) else { continue };
            let shape = ty.extents().ok_or_else(|| OptimizerError::Unknown {
                name: name.to_owned(),
                ty: ty.clone(),
            })?;
            let (down, up) = self.shapes(&shape);
            parameters.push((format!("{layer}.{DOWN}"), down));
            parameters.push((format!("{layer}.{UP}"), up));
        }
        Ok(Layout::new(parameters)?)
    }

    /// The layers of trained matrices, by the names of their parameters, of a component.
    pub fn layers(&self, component: &str, parameters: &BTreeMap<String, Tensor>) -> Vec<Layer> {
        let layer = |(name, down): (&String, &Tensor)| {
            let module = name.strip_suffix(DOWN)?.strip_suffix('.')?;
            Some(Layer {
                component: component.to_owned(),
                module: module.to_owned(),
                down: down.clone(),
                up: parameters.get(&format!("{module}.{UP}"))?.clone(),
                factor: self.alpha / self.rank as f64,
            })
        };
        parameters.iter().filter_map(layer).collect()
    }

    /// The shapes of the matrices for a weight of `shape`.
    fn shapes(&self, shape: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let mut down = shape.to_vec();
        let mut up = vec![1; shape.len()];
        if let ([rank_of_down, ..], [outputs, rank_of_up, ..]) = (&mut down[..], &mut up[..]) {
            *outputs = shape[0];
            *rank_of_down = self.rank;
            *rank_of_up = self.rank;
        }
        (down, up)
    }

    /// The weights of `body`: those in `base` (in the order of its parameters), adapted by the
    /// matrices in `flat` (f32, as [`Adapter::layout`] places them).
    ///
    /// # Errors
    /// When the types do not fit.
    pub(super) fn weights(
        &self,
        builder: &mut Builder,
        body: &Func,
        base: &[Value],
        flat: Value,
        layout: &Layout,
    ) -> Result<Vec<Value>, DistillError> {
        let mut matrices = pieces(layout, builder, flat)?.into_iter();
        let scale = tensor::Values::Float(vec![self.alpha / self.rank as f64]);
        let scale = builder.constant(Tensor::from_values(DType::F32, &[], &scale))?;
        let mut weights = Vec::new();
        for ((_, name, ty), &own) in body.params(Role::Weight).zip(base) {
            if layer(name).is_none() {
                weights.push(own);
                continue;
            }
            let (Some(down), Some(up)) = (matrices.next(), matrices.next()) else {
                unreachable!("the layout has two matrices for each layer");
            };
            builder.at(name);
            let added = product(builder, up, down, self.rank)?;
            let added = builder.push(Mul, &[added, scale])?;
            let shape = ty.shape.clone();
            let added = builder.push(Reshape { shape }, &[added])?;
            weights.push(sum(builder, own, added, ty)?);
        }
        builder.at("");
        Ok(weights)
    }
}

/// `up·down` as a matrix `[outputs, inputs]`, with all that follows the rank flat.
fn product(
    builder: &mut Builder,
    up: Value,
    down: Value,
    rank: usize,
) -> Result<Value, DistillError> {
    let matrix = |builder: &mut Builder, value: Value, rows: usize| {
        let elements: usize = builder
            .ty(value)
            .extents()
            .unwrap_or_default()
            .iter()
            .product();
        let shape = vec![Dim::from(rows), Dim::from(elements / rows.max(1))];
        builder.push(Reshape { shape }, &[value])
    };
    let outputs = builder.ty(up).shape[0].extent().unwrap_or(1);
    let up = matrix(builder, up, outputs)?;
    let down = matrix(builder, down, rank)?;
    Ok(builder.push(Matmul, &[up, down])?)
}

/// `own + added` in f32, rounded once to the type of the network.
fn sum(
    builder: &mut Builder,
    own: Value,
    added: Value,
    ty: &TensorType,
) -> Result<Value, DistillError> {
    if ty.dtype == DType::F32 {
        return Ok(builder.push(Add, &[own, added])?);
    }
    let wide = builder.push(Cast { dtype: DType::F32 }, &[own])?;
    let sum = builder.push(Add, &[wide, added])?;
    Ok(builder.push(Cast { dtype: ty.dtype }, &[sum])?)
}
