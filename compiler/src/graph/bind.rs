//! What symbols must stand for, given the shapes that inputs have, and functions with symbols
//! replaced.
//!
//! Takes declared types with symbolic extents and concrete shapes, returns bindings; it never
//! guesses a size that no input tells.

use thiserror::Error;

use super::builder::{Builder, GraphError};
use super::func::{Definition, Func};
use super::types::TensorType;
use crate::value::dim::{Bindings, Dim};

/// Why shapes do not fit declared types.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BindError {
    /// An input has another number of axes.
    #[error("input {name:?} has shape {found:?}, wanted {wanted}")]
    Rank {
        /// The input.
        name: String,
        /// The shape given.
        found: Vec<usize>,
        /// The declared type.
        wanted: TensorType,
    },
    /// An extent differs from a known one, or from what another input bound.
    #[error("input {name:?} has extent {found} on axis {axis} of {shape:?}, wanted {wanted}")]
    Extent {
        /// The input.
        name: String,
        /// The axis.
        axis: usize,
        /// The shape given.
        shape: Vec<usize>,
        /// The extent given.
        found: usize,
        /// The extent declared, with what is bound so far.
        wanted: Dim,
    },
}

/// Binds the symbols of `declared` to the extents of `shapes`, which come in the same order.
/// A symbol that stands alone is bound where it is first met; every other extent is checked.
///
/// # Errors
/// When a rank or an extent does not fit.
pub fn solve(
    declared: &[(String, TensorType)],
    shapes: &[Vec<usize>],
) -> Result<Bindings, BindError> {
    let mut bindings = Bindings::new();
    for ((name, ty), shape) in declared.iter().zip(shapes) {
        if ty.rank() != shape.len() {
            let (name, found, wanted) = (name.clone(), shape.clone(), ty.clone());
            return Err(BindError::Rank {
                name,
                found,
                wanted,
            });
        }
        for (dim, &extent) in ty.shape.iter().zip(shape) {
            if let Some(symbol) = dim.as_symbol() {
                bindings.entry(symbol.to_owned()).or_insert(extent);
            }
        }
    }
    for ((name, ty), shape) in declared.iter().zip(shapes) {
        for (axis, (dim, &found)) in ty.shape.iter().zip(shape).enumerate() {
            let wanted = dim.bind(&bindings);
            if wanted.extent().is_some_and(|extent| extent != found) {
                let (name, shape) = (name.clone(), shape.clone());
                return Err(BindError::Extent {
                    name,
                    axis,
                    shape,
                    found,
                    wanted,
                });
            }
        }
    }
    Ok(bindings)
}

impl Func {
    /// The same function with symbols replaced and every type inferred anew.
    ///
    /// # Errors
    /// When a constraint that held for symbols fails for these sizes.
    pub fn bind(&self, bindings: &Bindings) -> Result<Func, GraphError> {
        let mut builder = Builder::new(self.name());
        for (_, data) in self.values() {
            builder.at(&data.origin);
            match &data.definition {
                Definition::Param(param) => {
                    builder.param(&param.name, param.role, data.ty.bind(bindings))?
                }
                Definition::Node(node) => builder.push(node.op.bind(bindings), &node.operands)?,
            };
        }
        for (name, value) in self.results() {
            builder.result(name, *value)?;
        }
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::DType;

    fn check(declared: &[&[Dim]], shapes: &[&[usize]]) -> Result<Bindings, String> {
        let declared: Vec<_> = declared
            .iter()
            .enumerate()
            .map(|(i, dims)| {
                (
                    format!("x{i}"),
                    TensorType::new(DType::F32, dims.iter().cloned()),
                )
            })
            .collect();
        let shapes: Vec<_> = shapes.iter().map(|shape| shape.to_vec()).collect();
        solve(&declared, &shapes).map_err(|error| error.to_string())
    }

    #[test]
    fn symbols_take_the_extents_of_inputs() {
        let (b, h) = (Dim::symbol("b"), Dim::symbol("h"));
        let bound = check(
            &[&[b.clone(), h.clone()], &[h.mul(&Dim::from(2))]],
            &[&[3, 8], &[16]],
        );
        assert_eq!(
            bound,
            Ok(Bindings::from([("b".into(), 3), ("h".into(), 8)]))
        );
        let error = check(&[from_ref(&b), from_ref(&b)], &[&[3], &[4]]);
        let wanted = "input \"x1\" has extent 4 on axis 0 of [4], wanted 3";
        assert_eq!(error, Err(wanted.to_owned()));
        let error = check(&[&[b]], &[&[3, 1]]);
        assert_eq!(
            error,
            Err("input \"x0\" has shape [3, 1], wanted f32[b]".to_owned())
        );
    }
}
