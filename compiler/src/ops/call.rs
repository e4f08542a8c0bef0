//! The operator [`Call`].

use crate::graph::{Func, Role, TensorType};
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// One result of another function of the module, applied to the operands: so that a teacher, a
/// student and its average are one body with three bundles of weights.
///
/// # Operands
/// The inputs of the function, then its weights, in their order.
///
/// # Result
/// `shape` of `dtype`: the type of that result (G9 of the module's rules holds it to that).
///
/// # Constraints
/// None here: a module's rules see the function that is called.
///
/// # Gradient
/// That of the body, which takes the call's place before anything is differentiated.
///
/// # Source
/// MLIR `func.call`.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The name of the function, which stands before the caller in its module.
    pub func: String,
    /// The position of the result among those of the function.
    pub result: usize,
    /// The element type of the result.
    pub dtype: DType,
    /// The extents of the result.
    pub shape: Vec<Dim>,
}

attributes!(Call {
    func,
    result,
    dtype,
    shape
});

impl Call {
    /// The call that gives result number `result` of `func`; `None` if it has none such.
    pub fn of(func: &Func, result: usize) -> Option<Call> {
        let (_, value) = func.results().get(result)?;
        let ty = func.ty(*value);
        Some(Call {
            func: func.name().to_owned(),
            result,
            dtype: ty.dtype,
            shape: ty.shape.clone(),
        })
    }

    /// The type of the result.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.clone())
    }

    /// The types of a call's operands: the inputs of `func`, then its weights.
    pub fn operand_types(func: &Func) -> impl Iterator<Item = &TensorType> {
        let inputs = func.params(Role::Input);
        let params = inputs.chain(func.params(Role::Weight));
        params.map(|(_, _, ty)| ty)
    }
}

impl Operator for Call {
    const NAME: &'static str = "call";
    const OPERANDS: (usize, usize) = (0, 1 << 20);
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, _operands: &[&TensorType]) -> Result<TensorType, Violation> {
        Ok(self.ty())
    }

    fn eval(&self, _operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Err(Fault::Call {
            func: self.func.clone(),
        })
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unsupported("a call is differentiated as the body that takes its place")
    }

    fn flops(&self, _operands: &[TensorType], _result: &TensorType) -> Dim {
        Dim::from(0)
    }
}
