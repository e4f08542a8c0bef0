//! The same pipeline from ONNX graphs and from its checkpoint: both exporters of torch, against
//! what torch computed and against the network built from the checkpoint.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::bind::solve;
use compiler::graph::eval::eval;
use compiler::graph::{Role, TensorType};
use compiler::value::array::{Array, Precision};
use compiler::value::tensor::{Tensor, Values};
use graphs::models::{Options, Timestep};
use graphs::onnx::{OnnxModel, Request, import};
use graphs::{Imported, diffusers};

use crate::support::{assert_close, folder, tensors};

/// Exporters spell norms and attention in smaller steps, each of which the oracle rounds to f32.
const TOLERANCE: f64 = 2e-5;

/// External data at opset 17, and one file at opset 21.
const EXPORTS: [&str; 2] = ["onnx_torchscript", "onnx_dynamo"];

type Named = BTreeMap<String, Tensor>;

fn read(export: &str, component: &str, inputs: &Named) -> OnnxModel {
    let request = Request {
        bindings: BTreeMap::new(),
        inputs: inputs.clone(),
        dtype: None,
    };
    let files = folder(export);
    let path = format!("{component}/model.onnx");
    import(&files, &path, &request).unwrap_or_else(|error| panic!("{export}/{path}: {error}"))
}

/// Binds what is left open by the shapes of the inputs, and evaluates.
fn run(model: &Imported, inputs: &Named) -> BTreeMap<String, Array> {
    let params = model.func.params(Role::Input);
    let declared: Vec<(String, TensorType)> = params
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect();
    let shape = |(name, _): &(String, TensorType)| inputs[name].shape().to_vec();
    let shapes: Vec<Vec<usize>> = declared.iter().map(shape).collect();
    let bindings = solve(&declared, &shapes).expect("the inputs fit");
    let func = model.func.bind(&bindings).expect("the sizes fit");
    let results = eval(&func, inputs, &model.weights, Precision::Typed);
    results.expect("the model evaluates").into_iter().collect()
}

fn named<const N: usize>(list: [(&str, Tensor); N]) -> Named {
    list.into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .collect()
}

/// Numbers between −1 and 1 that look like noise.
fn noise(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| (i as f64 * 12.9898).sin() * 43758.5453);
    let values = values.map(|v| 2.0 * (v - v.floor()) - 1.0).collect();
    Tensor::from_values(DType::F32, shape, &Values::Float(values))
}

#[test]
fn text_encoders_agree_with_transformers() {
    let io = tensors("sd21/text_encoder_io.safetensors");
    for (export, ids) in EXPORTS.into_iter().zip([DType::I32, DType::I64]) {
        let inputs = named([("input_ids", io["input_ids"].cast(ids))]);
        let model = read(export, "text_encoder", &inputs);
        assert!(model.specialised.is_empty(), "{export}");
        let results = run(&model.imported, &inputs);
        for name in ["last_hidden_state", "pooler_output"] {
            let wanted = Array::from(&io[name]);
            assert_close(
                &results[name],
                &wanted,
                TOLERANCE,
                &format!("{name} of {export}"),
            );
        }
    }
}

#[test]
fn autoencoders_agree_with_diffusers() {
    let io = tensors("sd21/vae_io.safetensors");
    for export in EXPORTS {
        let inputs = named([("latent_sample", io["latent"].clone())]);
        let results = run(&read(export, "vae_decoder", &inputs).imported, &inputs);
        let wanted = Array::from(&io["decoded"]);
        assert_close(
            &results["sample"],
            &wanted,
            TOLERANCE,
            &format!("decoder of {export}"),
        );
        let inputs = named([("sample", io["image"].clone())]);
        let results = run(&read(export, "vae_encoder", &inputs).imported, &inputs);
        let found = &results["latent_parameters"];
        // One image: the first half of the channels is the mean.
        let shape = io["mean"].shape().to_vec();
        let elements = shape.iter().product();
        let values = Values::Float(found.floats()[..elements].to_vec());
        let found = Array { shape, values };
        let wanted = Array::from(&io["mean"]);
        assert_close(&found, &wanted, TOLERANCE, &format!("encoder of {export}"));
    }
}

#[test]
fn unets_agree_with_the_network_from_the_checkpoint() {
    let inputs = named([
        ("sample", noise(&[2, 4, 16, 8])),
        ("timestep", Tensor::from_f32(&[], &[499.0])),
        ("encoder_hidden_states", noise(&[2, 77, 24])),
    ]);
    let files = folder("sd21/model");
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    let unet = pipeline.component("unet").expect("it has a network");
    let options = Options {
        dtype: DType::F32,
        timestep: Timestep::Scalar,
        hidden_states: false,
    };
    let wanted = run(&unet.build(&files, &options).expect("it builds"), &inputs);
    for export in EXPORTS {
        let found = run(&read(export, "unet", &inputs).imported, &inputs);
        assert_close(
            &found["out_sample"],
            &wanted["out_sample"],
            TOLERANCE,
            export,
        );
    }
}

/// What the graph leaves open stays open, apart from the sides that the exporters fixed.
#[test]
fn batch_and_tokens_may_stay_symbols() {
    let sides = |list: &[(&str, usize)]| list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    let cases = [
        ("text_encoder", sides(&[]), "batch tokens"),
        (
            "vae_decoder",
            sides(&[]),
            "batch latent_height latent_width",
        ),
        ("vae_encoder", sides(&[]), "batch height width"),
        (
            "unet",
            sides(&[("height", 16), ("width", 8)]),
            "batch tokens",
        ),
    ];
    for export in EXPORTS {
        let files = folder(export);
        for (component, bindings, wanted) in &cases {
            let request = Request {
                bindings: BTreeMap::clone(bindings),
                inputs: Named::new(),
                dtype: None,
            };
            let model = import(&files, &format!("{component}/model.onnx"), &request);
            let model = model.unwrap_or_else(|error| panic!("{export} {component}: {error}"));
            let symbols: Vec<String> = model.imported.func.symbols().into_iter().collect();
            assert_eq!(symbols.join(" "), *wanted, "{export} {component}");
        }
    }
}
