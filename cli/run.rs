//! `splamc run`: one graph, its inputs from a file, its outputs to a file.
//!
//! Takes a model and a safetensors file with one tensor per graph input; writes a safetensors file
//! with one tensor per graph output.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use compiler::graph::TensorType;
use compiler::value::tensor::Tensor;
use runtime::session::Session;

use crate::error::{At, Failure};
use crate::model::Model;
use crate::options::{Execution, Precision};
use crate::{memory, outputs, progress, tensors};

/// Run one graph on tensors from a file.
///
/// Works for any ONNX graph whose operators are supported, for each component of a diffusers
/// pipeline (inputs and outputs under the names of optimum's exports), and for compiled models.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    splamc run sd15/ --component text_encoder --inputs ids.safetensors --outputs out.safetensors")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, one .onnx file, or a compiled .splam.
    model: PathBuf,
    /// A safetensors file with one tensor per graph input, by name.
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// The safetensors file to write, or - for standard output: one tensor per graph output, by
    /// name.
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
    /// The component to run; needed where the model has several.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// A safetensors file with the weights of a .splam that was compiled without them.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The type of weights and values; f32, or an exported graph's own types, if not given.
    #[arg(long)]
    dtype: Option<Precision>,
    #[command(flatten)]
    execution: Execution,
}

/// Runs the graph once.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    outputs::check(&arguments.outputs)?;
    let inputs = tensors::read(&arguments.inputs)?;
    let model = Model::open(&arguments.model)?;
    let component = model.pick(arguments.component.as_deref())?;
    let declared = model.inputs(component, &inputs)?;
    check_names(&arguments.inputs, &declared, &inputs, &[])?;
    let spinner = progress::spinner("compile");
    let mut loaded = model.load(component, &inputs, arguments.dtype.map(Into::into))?;
    if let Some(path) = &arguments.weights {
        loaded.weights = tensors::read_weights(path)?;
    }
    let place = arguments.model.display().to_string();
    let at = arguments.execution.place(&model, false)?;
    memory::check(&place, &[&loaded.program], &at)?;
    let session = Session::open(&loaded.program, loaded.weights, &at, model.tuning()).at(&place)?;
    spinner.set_prefix("run");
    let outputs = session.run(&inputs).at(&place)?;
    tensors::write(&arguments.outputs, &outputs)
}

/// Refuses a file of tensors `given` that lacks an input of the graph, or holds one that is neither
/// an input nor one of `others`, before anything is compiled.
pub(crate) fn check_names(
    file: &Path,
    declared: &[(String, TensorType)],
    given: &BTreeMap<String, Tensor>,
    others: &[&str],
) -> Result<(), Failure> {
    let file = file.display();
    let mut expected: BTreeSet<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
    let hint = format!("the inputs of the graph are {expected:?}");
    if let Some((name, ty)) = declared.iter().find(|(name, _)| !given.contains_key(name)) {
        let found: Vec<&String> = given.keys().collect();
        let message = format!("{file} lacks the tensor {name:?}: {ty}; it holds {found:?}");
        return Err(Failure::job(message).hint(hint));
    }
    expected.extend(others);
    match given.keys().find(|name| !expected.contains(name.as_str())) {
        Some(name) => {
            let message = format!("{file}: the tensor {name:?} is not an input of the graph");
            Err(Failure::job(message).hint(hint))
        }
        None => Ok(()),
    }
}
