//! Networks of diffusers and transformers, imported and executed by the oracle of graphs, by that
//! of regions and by the CPU backend, against what torch computes on the same weights.

use std::collections::BTreeMap;

use backends::cpu::{self, Executor};
use compiler::DType;
use compiler::graph::bind::solve;
use compiler::graph::eval::eval;
use compiler::graph::{Role, TensorType};
use compiler::program::compile;
use compiler::region;
use compiler::tile::{Choice, Tuning};
use compiler::value::array::{Array, Precision};
use compiler::value::tensor::{Tensor, Values};
use graphs::models::{Options, Timestep};
use graphs::{Imported, diffusers};

use crate::support::{assert_close, folder, tensors};

/// Everyone rounds to f32 after each operator; torch and the CPU sum up to some thousand products
/// in f32 in orders of their own, the oracle in f64. All lie a few 1e-6 from the exact result.
const TOLERANCE: f64 = 1e-5;

const SAMPLING: Options = Options {
    dtype: DType::F32,
    timestep: Timestep::Scalar,
    hidden_states: false,
};

type Named = BTreeMap<String, Tensor>;

fn import(pipeline: &str, component: &str, options: &Options) -> Imported {
    let files = folder(pipeline);
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    let component = pipeline.component(component).expect("it has the component");
    component
        .build(&files, options)
        .expect("the component builds")
}

/// Results by name, and who computed them.
type Computed = [(&'static str, BTreeMap<String, Array>); 3];

/// Binds the symbols by the shapes of the inputs, and runs both oracles and the CPU backend.
fn run(model: &Imported, inputs: &Named) -> Computed {
    let declared: Vec<(String, TensorType)> = model
        .func
        .params(Role::Input)
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect();
    let shapes: Vec<Vec<usize>> = declared
        .iter()
        .map(|(name, _)| inputs[name].shape().to_vec())
        .collect();
    let bindings = solve(&declared, &shapes).expect("the inputs fit");
    let func = model.func.bind(&bindings).expect("the sizes fit");
    let oracle = eval(&func, inputs, &model.weights, Precision::Typed);
    let oracle = oracle.expect("the oracle evaluates the model");
    let program = compile(&model.func, &bindings)
        .expect("the sizes fit")
        .program;
    let regions = region::eval(program.regions(), inputs, &model.weights, Precision::Typed);
    let regions = regions.expect("the oracle evaluates the regions");
    let options = cpu::Options {
        threads: None,
        exact: true,
    };
    let executor = Executor::new(&program, model.weights.clone(), options, &Tuning::default());
    let executor = executor.expect("the weights fit");
    for choice in &executor.tiled().choices {
        if let Choice::Blocks(program) = choice {
            assert_eq!(program.verify(), Ok(()), "{program}");
        }
    }
    let cpu = executor.run(inputs).expect("the CPU executes the model");
    let cpu = cpu
        .into_iter()
        .map(|(name, tensor)| (name, Array::from(&tensor)));
    [
        ("oracle", oracle.into_iter().collect()),
        ("regions", regions.into_iter().collect()),
        ("cpu", cpu.collect()),
    ]
}

/// Runs a component on tensors of a golden file and compares each of its results with the tensor
/// of the same name. `renames` are names in the file and what the model calls them.
fn check(pipeline: &str, component: &str, io: &str, options: &Options, renames: &[(&str, &str)]) {
    let mut io = tensors(io);
    for (file_name, name) in renames {
        let tensor = io.remove(*file_name).expect("the golden file has it");
        io.insert((*name).to_owned(), tensor);
    }
    if let Some(timestep) = io.get_mut("timestep") {
        *timestep = timestep.cast(DType::F32);
    }
    for (by, results) in run(&import(pipeline, component, options), &io) {
        for (name, found) in &results {
            let what = format!("{name} of {pipeline} by {by}");
            assert_close(found, &Array::from(&io[name]), TOLERANCE, &what);
        }
    }
}

#[test]
fn unets_of_every_file_layout_agree_with_diffusers() {
    let per_sample = Options {
        timestep: Timestep::PerSample,
        ..SAMPLING
    };
    let io = "unet_a/io.safetensors";
    let renames = [
        ("noisy", "sample"),
        ("timesteps", "timestep"),
        ("pred", "out_sample"),
    ];
    check("unet_a", "unet", io, &per_sample, &renames);
    let io = "unet_files/io.safetensors";
    // The f16 weights are the f32 ones: these were rounded to f16 before they were stored.
    for name in ["fp16", "sharded", "sharded_fp16"] {
        check(&format!("unet_files/{name}"), "unet", io, &SAMPLING, &[]);
    }
    let io = "sdxl_unet/io.safetensors";
    check("sdxl_unet", "unet", io, &SAMPLING, &[]);
    let io = "sdxl_unet/io_timesteps.safetensors";
    check("sdxl_unet", "unet", io, &per_sample, &[]);
    for name in ["thin_middle", "no_middle", "uneven_depths"] {
        let pipeline = format!("variants/{name}");
        check(
            &pipeline,
            "unet",
            &format!("{pipeline}/io.safetensors"),
            &SAMPLING,
            &[],
        );
    }
}

#[test]
fn text_encoders_agree_with_transformers() {
    let options = Options {
        hidden_states: true,
        ..SAMPLING
    };
    for (pipeline, io) in [
        ("pipeline/model", "pipeline/text_encoder_io.safetensors"),
        ("sd21/model", "sd21/text_encoder_io.safetensors"),
        (
            "text_encoders/bare",
            "text_encoders/bare/text_encoder_io.safetensors",
        ),
        (
            "text_encoders/prefixed",
            "text_encoders/prefixed/text_encoder_io.safetensors",
        ),
        (
            "variants/projected_text",
            "variants/projected_text/text_encoder_io.safetensors",
        ),
    ] {
        check(pipeline, "text_encoder", io, &options, &[]);
    }
}

/// Attention is causal, so the first tokens' states do not change where the text ends with them.
#[test]
fn text_encoders_take_texts_of_any_length() {
    let io = tensors("pipeline/text_encoder_io.safetensors");
    let [ids, states] = ["input_ids", "last_hidden_state"].map(|name| Array::from(&io[name]));
    let Values::Int(ids) = &ids.values else {
        panic!("the ids are integers");
    };
    let width = states.shape[2];
    for tokens in [1, 9, 76, 77] {
        let given = Tensor::from_i64(&[1, tokens], &ids[..tokens]);
        let inputs = Named::from([("input_ids".to_owned(), given)]);
        let imported = import("pipeline/model", "text_encoder", &SAMPLING);
        for (by, results) in run(&imported, &inputs) {
            let wanted = Array {
                shape: vec![1, tokens, width],
                values: Values::Float(states.floats()[..tokens * width].to_vec()),
            };
            let what = format!("{tokens} tokens by {by}");
            assert_close(&results["last_hidden_state"], &wanted, TOLERANCE, &what);
        }
    }
}

#[test]
fn autoencoders_agree_with_diffusers() {
    for (pipeline, io) in [
        ("pipeline/model", "pipeline/vae_io.safetensors"),
        ("sd21/model", "sd21/vae_io.safetensors"),
        ("vae_old_keys", "vae_old_keys/vae_io.safetensors"),
        ("variants/bare_vae", "variants/bare_vae/vae_io.safetensors"),
    ] {
        let renames = [("latent", "latent_sample"), ("decoded", "sample")];
        check(pipeline, "vae_decoder", io, &SAMPLING, &renames);
        let io = tensors(io);
        let inputs = Named::from([("sample".to_owned(), io["image"].clone())]);
        for (by, results) in run(&import(pipeline, "vae_encoder", &SAMPLING), &inputs) {
            for (name, found) in posterior(&results["latent_parameters"]) {
                let what = format!("{name} of {pipeline} by {by}");
                assert_close(&found, &Array::from(&io[name]), TOLERANCE, &what);
            }
        }
    }
}

/// The halves of one image's `latent_parameters`, the log-variance clamped as samplers of it do.
fn posterior(parameters: &Array) -> [(&'static str, Array); 2] {
    let mut shape = parameters.shape.clone();
    shape[1] /= 2;
    let (mean, log_variance) = parameters.floats().split_at(shape.iter().product());
    let clamped = log_variance.iter().map(|v| v.clamp(-30.0, 20.0)).collect();
    let half = |values| Array {
        shape: shape.clone(),
        values: Values::Float(values),
    };
    [("mean", half(mean.to_vec())), ("logvar", half(clamped))]
}

/// The first call of the network in whole runs: texts through the text encoder, unconditional
/// ones first, some at latents of odd sizes.
#[test]
fn first_calls_of_runs_agree_with_diffusers() {
    const CASTLE: &[i64] = &[932, 320, 887, 893, 838, 776, 320, 904, 267, 671, 641, 933];
    const BAD: &[i64] = &[932, 693, 267, 610, 635, 933];
    const EMPTY: &[i64] = &[932, 933];
    const CAT: &[i64] = &[932, 320, 609, 933];
    const RIVER: &[i64] = &[932, 320, 682, 933];
    const DOG: &[i64] = &[932, 320, 828, 0, 933];
    let cases: [(&str, &str, f32, &[&[i64]]); 6] = [
        ("pipeline", "euler6_nocfg_24x16", 831.0, &[CAT]),
        ("pipeline", "ddim20_cfg7.5", 951.0, &[BAD, CASTLE]),
        ("pipeline", "dpmpp2m_8_cfg7.5", 889.0, &[BAD, CASTLE]),
        ("pipeline", "lcm4_cfg1.5", 999.0, &[EMPTY, CASTLE]),
        ("sd21", "ddim3_nocfg", 999.0, &[RIVER]),
        (
            "sd21",
            "euler4_cfg6_rescale0.7_30x22_b2",
            999.0,
            &[EMPTY, BAD, DOG, CASTLE],
        ),
    ];
    for (pipeline, tag, timestep, texts) in cases {
        let padding = if pipeline == "sd21" { 0 } else { 933 };
        let folder = format!("{pipeline}/model");
        let text = run_text_encoder(&folder, texts, padding);
        let io = tensors(&format!("{pipeline}/runs/{tag}/tensors.safetensors"));
        let inputs = Named::from([
            ("sample".to_owned(), io["unet_in_first"].clone()),
            ("timestep".to_owned(), Tensor::from_f32(&[], &[timestep])),
            ("encoder_hidden_states".to_owned(), text),
        ]);
        check_unet(&folder, &inputs, &first_call(&io["unet_out"]), tag);
    }
}

/// An LCM's guidance embedding: the sinusoid of 1000 times the scale minus one (spec 0.4).
#[test]
fn a_unet_with_a_condition_on_the_guidance_agrees_with_diffusers() {
    let castle = [932, 320, 887, 893, 838, 776, 320, 904, 267, 671, 641, 933];
    let io = tensors("pipeline/runs/lcm4_w8_timestepcond/tensors.safetensors");
    let half = 128;
    let angle = |j: usize| {
        let exponent = -(10_000_f32.ln() / (half - 1) as f32) * j as f32;
        7.5 * 1000.0 * exponent.exp()
    };
    let sines = (0..half).map(|j| angle(j).sin());
    let embedding: Vec<f32> = sines.chain((0..half).map(|j| angle(j).cos())).collect();
    let inputs = Named::from([
        ("sample".to_owned(), io["unet_in_first"].clone()),
        ("timestep".to_owned(), Tensor::from_f32(&[], &[999.0])),
        (
            "timestep_cond".to_owned(),
            Tensor::from_f32(&[1, 256], &embedding),
        ),
        (
            "encoder_hidden_states".to_owned(),
            run_text_encoder("pipeline/model", &[&castle], 933),
        ),
    ]);
    let wanted = first_call(&io["unet_out"]);
    check_unet(
        "pipeline/model_lcm",
        &inputs,
        &wanted,
        "lcm4_w8_timestepcond",
    );
}

fn check_unet(pipeline: &str, inputs: &Named, wanted: &Array, what: &str) {
    for (by, results) in run(&import(pipeline, "unet", &SAMPLING), inputs) {
        assert_close(
            &results["out_sample"],
            wanted,
            TOLERANCE,
            &format!("{what} by {by}"),
        );
    }
}

fn run_text_encoder(pipeline: &str, texts: &[&[i64]], padding: i64) -> Tensor {
    let mut ids = Vec::new();
    for text in texts {
        ids.extend_from_slice(text);
        ids.resize(ids.len().next_multiple_of(77), padding);
    }
    let ids = Tensor::from_i64(&[texts.len(), 77], &ids);
    let inputs = Named::from([("input_ids".to_owned(), ids)]);
    let [.., (_, results)] = run(&import(pipeline, "text_encoder", &SAMPLING), &inputs);
    let states = &results["last_hidden_state"];
    Tensor::from_values(DType::F32, &states.shape, &states.values)
}

/// The part of `outputs` `[calls, …]` that the first call gave.
fn first_call(outputs: &Tensor) -> Array {
    let all = Array::from(outputs);
    let shape = all.shape[1..].to_vec();
    let elements = shape.iter().product();
    Array {
        values: Values::Float(all.floats()[..elements].to_vec()),
        shape,
    }
}
