//! Losses: how far a prediction lies from its target, as one number.
//!
//! Takes two values of one shape, gives the nodes of their distance. No gradient flows to the
//! target.

use compiler::graph::{Builder, GraphError, Value};
use compiler::ops::{Add, Mul, ReduceMean, Sqrt, Sub};
use compiler::value::dtype::DType;
use compiler::value::tensor::{self, Tensor};

use super::error::DistillError;
use super::settings::{Kind, Setting, Values};

/// A distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// The mean of squared differences.
    L2,
    /// The mean of `√(d² + c²) − c`, element by element (arXiv 2310.14189, eq. 8; element by
    /// element as in LCM's script, spec 1.8).
    Huber {
        /// Where the distance turns from square to linear.
        c: f64,
    },
}

/// The setting that chooses a loss, for methods whose papers take the pseudo-Huber one.
pub(super) const LOSS: Setting = Setting {
    name: "loss",
    kind: Kind::Word(&["huber", "l2"]),
    about: "distance between prediction and target",
    default: "huber",
};

/// The setting of [`Loss::Huber`].
pub(super) const HUBER_C: Setting = Setting {
    name: "huber-c",
    kind: Kind::Number,
    about: "where the huber loss turns from square to linear",
    default: "0.001",
};

impl Loss {
    /// The loss that [`LOSS`] and [`HUBER_C`] choose.
    ///
    /// # Errors
    /// When the number is not above 0.
    pub(super) fn set(values: &Values) -> Result<Loss, DistillError> {
        let c = values.above_zero(HUBER_C.name)?;
        Ok(values.word(LOSS.name, &[("huber", Loss::Huber { c }), ("l2", Loss::L2)]))
    }

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
        if let Loss::Huber { c } = self {
            let [square, c] = [c * c, c].map(scalar);
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
    Tensor::from_values(DType::F32, &[], &tensor::Values::Float(vec![value]))
}
