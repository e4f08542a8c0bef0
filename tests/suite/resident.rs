//! Sampling on an adapter: latents that stay there are those of the loop on the host.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::bind::solve;
use compiler::graph::{Role, TensorType};
use compiler::program::compile;
use compiler::program::sampler::Guidance;
use compiler::tile::Tuning;
use compiler::value::array::Array;
use compiler::value::tensor::Tensor;
use graphs::diffusers;
use graphs::models::{Options, Timestep};
use graphs::samplers::{self, SamplerConfig};
use runtime::pipeline::OnStep;
use runtime::place::Place;
use runtime::sampling::{Conditioning, STAGES, denoise, denoise_on_host};
use runtime::staged::{Staged, StagedSession};

use crate::executors::{adapter, graphics_processor};
use crate::support::{assert_close, folder, golden};

/// A run of the small network of the golden pipeline.
struct Run {
    sampler: &'static str,
    steps: usize,
    /// Scale and rescaling; without it, nothing is guided.
    guidance: Option<[f64; 2]>,
    dtype: DType,
    /// Whether estimates are clipped.
    clips: bool,
}

const fn run(sampler: &'static str, steps: usize, guidance: Option<[f64; 2]>) -> Run {
    Run {
        sampler,
        steps,
        guidance,
        dtype: DType::F32,
        clips: false,
    }
}

const RUNS: [Run; 8] = [
    run("ddim", 4, Some([7.5, 0.0])),
    run("dpm++2m", 5, Some([7.5, 0.7])),
    run("euler", 3, None),
    run("lcm", 3, None),
    run("lcm", 3, Some([1.5, 0.0])),
    run("pndm", 6, Some([5.0, 0.0])),
    Run {
        clips: true,
        ..run("ddim", 3, Some([7.5, 1.0]))
    },
    Run {
        dtype: DType::F16,
        ..run("euler", 3, Some([7.5, 0.0]))
    },
];

/// Images of a run, and the latents' extents.
const LATENTS: [usize; 4] = [2, 4, 16, 12];

/// Numbers between -1 and 1 that look drawn: a multiplicative congruential sequence.
fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed * 2 + 1;
    let values = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    });
    Tensor::from_f32(shape, &values.collect::<Vec<_>>())
}

/// The denoising network on an adapter.
fn open(run: &Run, place: &Place) -> StagedSession {
    let files = folder("pipeline/model");
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    let component = pipeline.component("unet").expect("it has a unet");
    let options = Options {
        dtype: run.dtype,
        timestep: Timestep::Scalar,
        hidden_states: false,
    };
    let imported = component.build(&files, &options).expect("the unet builds");
    let params = imported.func.params(Role::Input);
    let declared: Vec<(String, TensorType)> = params
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect();
    let [images, channels, height, width] = LATENTS;
    let images = images * if run.guidance.is_some() { 2 } else { 1 };
    let shapes = declared.iter().map(|(name, _)| match name.as_str() {
        "sample" => vec![images, channels, height, width],
        "encoder_hidden_states" => vec![images, 77, 32],
        _ => Vec::new(),
    });
    let shapes: Vec<Vec<usize>> = shapes.collect();
    let bindings = solve(&declared, &shapes).expect("the shapes fit");
    let compiled = compile(&imported.func, &bindings).expect("the sizes fit");
    let staged = Staged::of(&compiled.program, &STAGES).expect("its parts are programs");
    StagedSession::open(&staged, imported.weights, place, &Tuning::default())
        .expect("the weights fit")
}

fn check(run: &Run, place: &Place) {
    let what = format!("{} {:?} {}", run.sampler, run.guidance, run.dtype);
    let path = golden("pipeline/model/scheduler/scheduler_config.json");
    let config = std::fs::read_to_string(path).expect("the scheduler's configuration");
    let config = SamplerConfig::from_diffusers(&config).expect("it is valid");
    let mut config = config.with_sampler(run.sampler).expect("it is a sampler");
    if run.clips {
        let clipped = config.with_option("clip_sample", true.into());
        config = clipped.expect("it is an option");
    }
    let table = samplers::table(&config, run.steps).expect("so many steps are possible");
    let unet = open(run, place);
    let [scale, rescale] = run.guidance.unwrap_or([1.0, 0.0]);
    let text = [LATENTS[0], 77, 32];
    let hidden =
        |seed| BTreeMap::from([("encoder_hidden_states".to_owned(), numbers(&text, seed))]);
    let conditioning = Conditioning {
        prompt: hidden(1),
        negative: run.guidance.map(|_| hidden(2)),
        guidance: Guidance { scale, rescale },
    };
    let mut traces = [Vec::new(), Vec::new()];
    let mut lasts = Vec::new();
    let mut texts = Vec::new();
    for (on_device, trace) in [false, true].into_iter().zip(&mut traces) {
        let sample = if on_device { denoise } else { denoise_on_host };
        let mut on_step: Box<OnStep<'_>> = Box::new(|call, read| {
            // The last is read at the end anyway.
            if call % 2 == 0 {
                trace.push(read()?);
            }
            Ok(())
        });
        let mut draw = |index: usize| {
            let drawn = Array::from(&numbers(&LATENTS, 10 + index as u64));
            drawn.floats().iter().map(|&z| z as f32).collect()
        };
        let noise = numbers(&LATENTS, 3);
        let last = sample(
            &unet,
            &table,
            &conditioning,
            &noise,
            &mut draw,
            &mut *on_step,
        );
        lasts.push(last.unwrap_or_else(|error| panic!("{what}: {error}")));
        texts.push(unet.calls()[0].1);
    }
    // The host remembers what it read back of the text's stage; what stays there starts anew.
    assert_eq!(texts, [1, 2], "{what}: computed on the device");
    let [host, device] = traces;
    // Deviations are sums of f32 on the device, of f64 on the host: 1e-6 of a step, which guidance
    // and steps multiply. Numbers of 16 bits round differences up.
    let tolerance = match run.dtype {
        DType::F32 if rescale > 0.0 => 4e-5,
        DType::F32 => 1e-5,
        _ => 5e-3,
    };
    let found = device.iter().chain(&lasts[1..]);
    for (found, wanted) in found.zip(host.iter().chain(&lasts[..1])) {
        assert_close(&found.into(), &wanted.into(), tolerance, &what);
    }
}

#[test]
fn latents_that_stay_on_a_device_are_those_of_the_host() {
    // Without either there is nothing to compare.
    for place in adapter().into_iter().chain(graphics_processor()) {
        for run in &RUNS {
            check(run, place);
        }
    }
}
