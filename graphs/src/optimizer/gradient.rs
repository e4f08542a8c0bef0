//! The gradient of a step's loss with respect to its flat parameters.
//!
//! Takes a step under construction, gives one flat gradient in the order of the parameters. It
//! knows no optimiser.

use compiler::graph::autodiff::backward;
use compiler::graph::{Builder, Definition, Func, GraphError, Node, Role, Value};
use compiler::ops::{Concat, Mul, Op};
use compiler::program::training::Layout;
use compiler::program::training::names::{LOSS, STUDENT};

use super::error::OptimizerError;

/// The flat parameters of a step.
pub(super) fn student(builder: &Builder) -> Result<Value, OptimizerError> {
    let func = builder.func();
    let same = |(value, name, _)| (name == STUDENT).then_some(value);
    let mut params = func.params(Role::State).chain(func.params(Role::Weight));
    let found = params.find_map(same);
    found.ok_or_else(|| missing(func, "flat parameters \"student\""))
}

/// The gradient of [`LOSS`], times the loss scale if there is one: f32 `[parameters]`.
pub(super) fn write(
    builder: &mut Builder,
    layout: &Layout,
    scale: Option<Value>,
) -> Result<Value, OptimizerError> {
    let student = student(builder)?;
    let loss = builder
        .func()
        .results()
        .iter()
        .find(|(name, _)| name == LOSS);
    let loss = match loss {
        Some((_, loss)) => *loss,
        None => return Err(missing(builder.func(), "result \"loss\"")),
    };
    let loss = match scale {
        Some(scale) => builder.push(Mul, &[loss, scale])?,
        None => loss,
    };
    let parameters = cuts(builder.func(), student, layout)?;
    let gradients = backward(builder, loss, &parameters)?;
    builder.at("gradient");
    let joined = join(builder, &gradients)?;
    builder.at("");
    Ok(joined)
}

/// The slices of `student`, one for each place: what [`super::split`] wrote.
fn cuts(func: &Func, student: Value, layout: &Layout) -> Result<Vec<Value>, OptimizerError> {
    let mut cuts = func
        .values()
        .filter_map(|(value, data)| match &data.definition {
            Definition::Node(Node {
                op: Op::Slice(slice),
                operands,
            }) if *operands == [student] => Some((value, slice)),
            Definition::Node(_) | Definition::Param(_) => None,
        });
    let mut found = Vec::new();
    for place in layout.places() {
        let cut = cuts.next().filter(|(_, slice)| {
            slice.start.extent() == Some(place.offset)
                && slice.length.extent() == Some(place.elements())
        });
        let (value, _) =
            cut.ok_or_else(|| missing(func, "slice of each parameter in its place"))?;
        found.push(value);
    }
    match cuts.next() {
        None => Ok(found),
        Some(_) => Err(missing(func, "parameters that are cut once")),
    }
}

/// Flat parts one after another.
fn join(builder: &mut Builder, parts: &[Value]) -> Result<Value, GraphError> {
    /// What one concatenation takes.
    const PARTS_MAX: usize = 1024;
    if parts.len() <= PARTS_MAX {
        return builder.push(Concat { axis: 0 }, parts);
    }
    let mut joined = Vec::new();
    for some in parts.chunks(PARTS_MAX) {
        joined.push(builder.push(Concat { axis: 0 }, some)?);
    }
    join(builder, &joined)
}

fn missing(func: &Func, what: &'static str) -> OptimizerError {
    let func = func.name().to_owned();
    OptimizerError::NotAStep { func, what }
}
