//! Networks in stages: they compute what the whole computes, and nothing twice.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::bind::solve;
use compiler::graph::{Role, TensorType};
use compiler::program::sampler::Guidance;
use compiler::program::{Program, compile};
use compiler::tile::Tuning;
use compiler::value::tensor::Tensor;
use graphs::diffusers;
use graphs::models::{Options, Timestep};
use graphs::samplers::{self, SamplerConfig};
use runtime::place::{self, Place};
use runtime::sampling::{Conditioning, STAGES, denoise};
use runtime::session::Session;
use runtime::staged::{Stage, Staged, StagedSession};

use crate::support::{folder, golden, tensors};

fn direct() -> Place {
    Place::cpu(place::Options {
        threads: None,
        exact: true,
    })
}

type Named = BTreeMap<String, Tensor>;

/// The denoising network of a pipeline, for these shapes of its inputs.
fn unet(pipeline: &str, shapes: &BTreeMap<&str, Vec<usize>>) -> (Program, Named) {
    let files = folder(pipeline);
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    let component = pipeline.component("unet").expect("it has a unet");
    let options = Options {
        dtype: DType::F32,
        timestep: Timestep::Scalar,
        hidden_states: false,
    };
    let imported = component.build(&files, &options).expect("the unet builds");
    let params = imported.func.params(Role::Input);
    let declared: Vec<(String, TensorType)> = params
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect();
    let shapes: Vec<Vec<usize>> = declared
        .iter()
        .map(|(name, _)| shapes[name.as_str()].clone())
        .collect();
    let bindings = solve(&declared, &shapes).expect("the shapes fit");
    let compiled = compile(&imported.func, &bindings).expect("the sizes fit");
    (compiled.program, imported.weights)
}

fn open(program: &Program, weights: &Named, stages: &[Stage]) -> StagedSession {
    let staged = Staged::of(program, stages).expect("its parts are programs");
    StagedSession::open(&staged, weights.clone(), &direct(), &Tuning::default())
        .expect("the weights fit")
}

/// Numbers between -1 and 1 that look drawn: a multiplicative congruential sequence.
fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed * 2 + 1;
    let values = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    });
    Tensor::from_f32(shape, &values.collect::<Vec<_>>())
}

/// How often text, time and body were computed.
fn calls(session: &StagedSession) -> Vec<u64> {
    session
        .calls()
        .into_iter()
        .map(|(_, calls)| calls)
        .collect()
}

/// Calls by the seeds of all inputs, of the text and of the timestep alone; and how often text,
/// time and body have been computed after each.
const CALLS: [(u64, u64, f32, [u64; 3]); 7] = [
    (1, 1, 981.0, [1, 1, 1]),
    (2, 1, 961.5, [1, 2, 2]),
    (3, 1, 0.0, [1, 3, 3]),
    // Another picture of the same prompt.
    (4, 1, 981.0, [1, 3, 4]),
    (4, 1, 981.0, [1, 3, 5]),
    // Another prompt, and the first one again: it was forgotten.
    (4, 2, 961.5, [2, 3, 6]),
    (4, 1, 961.5, [3, 3, 7]),
];

/// Runs [`CALLS`] on the whole network and in stages; `added` are inputs beside sample, text and
/// timestep that stay as they are.
fn check(pipeline: &str, sample: [usize; 4], text: [usize; 3], added: &[(&str, [usize; 2])]) {
    let mut shapes = BTreeMap::from([
        ("sample", sample.to_vec()),
        ("encoder_hidden_states", text.to_vec()),
        ("timestep", Vec::new()),
    ]);
    shapes.extend(added.iter().map(|(name, shape)| (*name, shape.to_vec())));
    let (program, weights) = unet(pipeline, &shapes);
    let whole = Session::open(&program, weights.clone(), &direct(), &Tuning::default())
        .expect("the weights fit");
    let staged = open(&program, &weights, &STAGES);
    assert_eq!(staged.inputs(), whole.inputs(), "{pipeline}");
    for (call, (seed, text, timestep, wanted)) in CALLS.into_iter().enumerate() {
        let inputs = shapes.iter().map(|(&name, shape)| {
            let tensor = match name {
                "timestep" => Tensor::from_f32(&[], &[timestep]),
                "sample" => numbers(shape, seed),
                "encoder_hidden_states" => numbers(shape, text),
                _ => numbers(shape, 0),
            };
            (name.to_owned(), tensor)
        });
        let inputs: Named = inputs.collect();
        let results = [staged.run(&inputs), whole.run(&inputs)];
        let [found, expected] = results.map(|results| results.expect("the network runs"));
        assert!(found == expected, "{pipeline}: results of call {call}");
        assert_eq!(calls(&staged), wanted, "{pipeline}: after call {call}");
    }
}

#[test]
fn stages_compute_what_the_whole_network_computes_and_nothing_twice() {
    let (sample, wide) = ([2, 4, 16, 16], [4, 4, 30, 22]);
    check("pipeline/model", sample, [2, 77, 32], &[]);
    check("sd21/model", wide, [4, 77, 24], &[]);
    let guidance = [("timestep_cond", [2, 256])];
    check("pipeline/model_lcm", sample, [2, 77, 32], &guidance);
}

/// What a picture's size and pooled text add to the time embedding is of the text's stage, and all
/// that depends on both of the time's.
#[test]
fn conditions_beside_the_text_are_staged_with_it() {
    let added = [("text_embeds", [2, 20]), ("time_ids", [2, 6])];
    let sample = [2, 4, 18, 14];
    let text = [2, 77, 28];
    let mut shapes = BTreeMap::from([
        ("sample", sample.to_vec()),
        ("encoder_hidden_states", text.to_vec()),
        ("timestep", Vec::new()),
    ]);
    shapes.extend(added.map(|(name, shape)| (name, shape.to_vec())));
    let (program, weights) = unet("sdxl_unet", &shapes);
    let (whole, staged) = (
        open(&program, &weights, &[]),
        open(&program, &weights, &STAGES),
    );
    let io = tensors("sdxl_unet/io.safetensors");
    let mut inputs: Named = shapes
        .keys()
        .map(|&name| (name.to_owned(), io[name].clone()))
        .collect();
    // Another pooled text changes what the time's stage computes.
    let other = numbers(&[2, 20], 7);
    for (pooled, wanted) in [
        (io["text_embeds"].clone(), [1, 1, 1]),
        (io["text_embeds"].clone(), [1, 1, 2]),
        (other, [2, 2, 3]),
    ] {
        inputs.insert("text_embeds".to_owned(), pooled);
        let results = [staged.run(&inputs), whole.run(&inputs)];
        let [found, expected] = results.map(|results| results.expect("the network runs"));
        assert!(found == expected, "after {wanted:?}");
        assert_eq!(calls(&staged), wanted);
    }
}

/// Two pictures of one prompt and one of another, with guidance: the negative prompt is the other
/// half of each call.
#[test]
fn sampling_computes_the_text_once_per_prompt_and_each_timestep_once() {
    let shapes = BTreeMap::from([
        ("sample", vec![2, 4, 16, 16]),
        ("encoder_hidden_states", vec![2, 77, 32]),
        ("timestep", Vec::new()),
    ]);
    let (program, weights) = unet("pipeline/model", &shapes);
    let path = golden("pipeline/model/scheduler/scheduler_config.json");
    let config = std::fs::read_to_string(path).expect("the scheduler's configuration");
    let config = SamplerConfig::from_diffusers(&config).expect("it is valid");
    let config = config.with_sampler("ddim").expect("there is ddim");
    let table = samplers::table(&config, 5).expect("5 steps are possible");
    let (staged, whole) = (
        open(&program, &weights, &STAGES),
        open(&program, &weights, &[]),
    );
    let sample = |unet: &StagedSession, picture, prompt| {
        let hidden = |seed| {
            let tensor = numbers(&[1, 77, 32], seed);
            BTreeMap::from([("encoder_hidden_states".to_owned(), tensor)])
        };
        let conditioning = Conditioning {
            prompt: hidden(prompt),
            negative: Some(hidden(0)),
            guidance: Guidance {
                scale: 7.5,
                rescale: 0.0,
            },
        };
        let noise = numbers(&[1, 4, 16, 16], picture);
        let mut draw = |_: usize| Vec::new();
        let latents = denoise(
            unet,
            &table,
            &conditioning,
            &noise,
            &mut draw,
            &mut |_, _| Ok(()),
        );
        latents.expect("the network runs")
    };
    for (picture, prompt, wanted) in [(3, 1, [1, 5, 5]), (4, 1, [1, 5, 10]), (4, 2, [2, 5, 15])] {
        let found = sample(&staged, picture, prompt);
        assert!(
            found == sample(&whole, picture, prompt),
            "picture {picture} of {prompt}"
        );
        assert_eq!(
            calls(&staged),
            wanted,
            "after picture {picture} of {prompt}"
        );
    }
    assert_eq!(calls(&whole), [15]);
}
