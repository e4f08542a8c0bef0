//! `splamc grad`: the gradients of a loss with respect to all inputs and weights of one graph.
//!
//! Takes a model and a safetensors file with one tensor per graph input and the target; writes a
//! safetensors file with the loss and its gradients.

use std::path::PathBuf;

use compiler::graph::TensorType;
use compiler::program::Program;
use compiler::value::tensor::Tensor;
use graphs::loss::TARGET;
use runtime::session::Session;

use crate::error::{At, Failure};
use crate::model::Model;
use crate::options::Execution;
use crate::run::check_names;
use crate::{gradient, memory, outputs, progress, tensors};

/// Compute the gradients of a loss with respect to all inputs and weights of one graph.
///
/// The loss is the mean of the squares of `first output − target`. The outputs file gets `loss`,
/// `grad.<input>` for each floating-point input and `grad.<parameter>` for each weight, under the
/// names that the model's files have.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    splamc grad sd15/ --component unet --inputs in.safetensors --outputs gradients.safetensors")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, one .onnx file, or a compiled .splam.
    model: PathBuf,
    /// A safetensors file with one tensor per graph input, by name, and `target`, of the shape of
    /// the first output.
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// The safetensors file to write, or - for standard output: `loss`, `grad.<input>`,
    /// `grad.<parameter>`.
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
    /// The component to differentiate; needed where the model has several.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Use at most this much memory in all, such as 800MB or 16GiB: values are computed again
    /// instead of being kept
    #[arg(long, value_name = "SIZE", value_parser = crate::options::bytes)]
    memory: Option<u64>,
    #[command(flatten)]
    execution: Execution,
}

/// Computes the gradients once.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    outputs::check(&arguments.outputs)?;
    let given = tensors::read(&arguments.inputs)?;
    let file = arguments.inputs.display();
    if !given.contains_key(TARGET) {
        let found: Vec<&String> = given.keys().collect();
        return Err(Failure::job(format!(
            "{file} lacks the tensor {TARGET:?}; it holds {found:?}"
        ))
        .hint("the loss is the mean of the squares of `first output − target`"));
    }
    let mut inputs = given.clone();
    inputs.remove(TARGET);
    let model = Model::open(&arguments.model)?;
    let component = model.pick(arguments.component.as_deref())?;
    let declared = model.inputs(component, &inputs)?;
    check_names(&arguments.inputs, &declared, &given, &[TARGET])?;
    let spinner = progress::spinner("differentiate");
    let loaded = model.load(component, &inputs, None)?;
    let place = arguments.model.display().to_string();
    check_target(arguments, &given[TARGET], &loaded.program)?;
    let at = arguments.execution.place(&model, false)?;
    let loaded = gradient::of_squared_error(&place, loaded, arguments.memory, &at)?;
    memory::check(&place, &[&loaded.program], &at)?;
    let session = Session::open(&loaded.program, loaded.weights, &at, model.tuning()).at(&place)?;
    spinner.set_prefix("run");
    let outputs = session.run(&given).at(&place)?;
    tensors::write(&arguments.outputs, &outputs)
}

/// Refuses a target of another shape before anything is differentiated.
fn check_target(arguments: &Arguments, target: &Tensor, program: &Program) -> Result<(), Failure> {
    let outputs = program.outputs();
    let (name, wanted) = &outputs[0];
    let found = TensorType::of(target);
    match found == *wanted {
        true => Ok(()),
        false => Err(Failure::job(format!(
            "{}: the tensor {TARGET:?} has type {found}; expected {wanted}, the type of {name:?}",
            arguments.inputs.display()
        ))),
    }
}
