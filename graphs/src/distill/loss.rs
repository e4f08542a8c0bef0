//! Losses: how far a prediction lies from its target, as one number.
//!
//! Takes two values of one shape, gives the nodes of their distance. No gradient flows to the
//! target.

use compiler::graph::{Builder, GraphError, Value};
use compiler::ops::{Add, Mul, ReduceMean, Sqrt, Sub};
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

/// A distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The mean of squared differences.
    L2,
    /// The mean of `√(d² + c²) − c`, element by element, c = 0.001 (arXiv 2310.14189, eq. 8;
    /// element by element as in LCM's script, spec 1.8).
    Huber,
}

/// Where [`Loss::Huber`] turns from square to linear.
const HUBER_C: f64 = 0.001;

impl Loss {
    /// The distance of two f32 values of one shape: f32 `[]`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub(super) fn write(
        self,
        builder: &mut Builder,
        prediction: Value,
        target: Value,
    ) -> Result<Value, GraphError> {
        let difference = builder.push(Sub, &[prediction, target])?;
        let mut distance = builder.push(Mul, &[difference, difference])?;
        if self == Loss::Huber {
            let [square, c] = [HUBER_C * HUBER_C, HUBER_C].map(scalar);
            let square = builder.constant(square)?;
            distance = builder.push(Add, &[distance, square])?;
            distance = builder.push(Sqrt, &[distance])?;
            let c = builder.constant(c)?;
            distance = builder.push(Sub, &[distance, c])?;
        }
        let axes = (0..builder.ty(distance).rank()).collect();
        builder.push(ReduceMean { axes, keep: false }, &[distance])
    }
}

fn scalar(value: f64) -> Tensor {
    Tensor::from_values(DType::F32, &[], &Values::Float(vec![value]))
}
