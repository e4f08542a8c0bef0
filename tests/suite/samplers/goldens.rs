//! Sampler tables against diffusers: every case of `golden/schedulers` runs through the runtime's
//! host step, with the network's outputs and the noise stored there.

use std::collections::HashMap;

use compiler::program::sampler::SamplerTable;
use graphs::guidance::{TimestepEmbedding, guidance_embedding, timestep_embedding};
use graphs::noise_schedule::{BetaSchedule, NoiseSchedule, NoiseScheduleSpec};
use graphs::samplers::{SamplerConfig, lcm_boundary, table};
use runtime::sampler_step::SamplerState;
use serde_json::{Value, json};

use super::{deviation, tensors};
use crate::support::golden;

/// Largest deviation of a trajectory, relative to its largest magnitude. diffusers itself, in
/// single precision, moves by 2e-5 from one processor to another.
const TOLERANCE: f64 = 5e-5;

struct Goldens {
    cases: Vec<Value>,
    tensors: HashMap<String, Vec<f32>>,
}

/// Reads `golden/schedulers/<name>.json` and `.safetensors`.
fn goldens(name: &str) -> Goldens {
    let folder = golden("schedulers");
    let read = |extension| {
        let path = folder.join(name).with_extension(extension);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let list: Value = serde_json::from_slice(&read("json")).expect("the case list is JSON");
    let tensors = tensors(&read("safetensors"));
    let cases = list["cases"]
        .as_array()
        .expect("the file lists cases")
        .clone();
    Goldens { cases, tensors }
}

/// The configuration of a case, through the text of a configuration file.
fn config(case: &Value) -> SamplerConfig {
    let mut file = case["config"].clone();
    file["_class_name"] = case["scheduler"].clone();
    // Python writes the words that JSON lacks; in the list of cases they are strings.
    let text = file.to_string().replace("\"-Infinity\"", "-Infinity");
    let mut config = SamplerConfig::from_diffusers(&text).expect("the configuration is JSON");
    assert!(
        config.ignored().is_empty(),
        "every option of a class is known"
    );
    for arguments in ["set_timesteps", "step_kwargs"] {
        for (option, value) in case[arguments]
            .as_object()
            .expect("arguments are an object")
        {
            config = config
                .with_option(option, value.clone())
                .expect("the option exists");
        }
    }
    config
}

/// Fails with `what` unless `holds`.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Runs one case against its numbers, network inputs, estimates and states.
fn run(goldens: &Goldens, case: &Value) -> Result<(), String> {
    let name = case["name"].as_str().expect("cases have names");
    // None where timesteps or noise levels are given by hand.
    let steps = case["steps"].as_u64().unwrap_or(0) as usize;
    let table = table(&config(case), steps).map_err(|error| error.to_string())?;
    check_numbers(&table, case)?;
    let tensor = |key: &str| &goldens.tensors[key];
    let (outputs, noise) = (tensor("model_outputs"), tensor("step_noise"));
    let trajectory = tensor(&format!("{name}.trajectory"));
    let size = tensor("init_noise").len();
    let part = |values: &'_ Vec<f32>, i: usize| values[i * size..(i + 1) * size].to_vec();
    let mut state = SamplerState::new(&table, tensor("init_noise"), 1).expect("one image");
    for (call, step) in table.steps.iter().enumerate() {
        let check = |what: &str, found: &[f32], wanted: &[f32]| {
            let off = deviation(found, wanted);
            ensure(off <= TOLERANCE, || {
                format!("{what} of call {call} is off by {off:.2e}")
            })
        };
        if let Some(scaled) = goldens.tensors.get(&format!("{name}.scaled")) {
            check("input", &state.network_input(step), &part(scaled, call))?;
        }
        let before = state.x.clone();
        // Which noise the reference took for this call: the second-order samplers skip some.
        let index = case["noise_index"][call].as_u64();
        let draw = step
            .draw
            .and(index)
            .map(|index| part(noise, index as usize));
        state
            .advance(step, &part(outputs, call), draw.as_deref())
            .expect("lengths agree");
        let found = estimate(case, step.timestep, &before, &state.x0);
        if let (Some(x0), Some(found)) = (goldens.tensors.get(&format!("{name}.x0")), found) {
            check("estimate", &found, &part(x0, call))?;
        }
        check("state", &state.x, &part(trajectory, call + 1))?;
    }
    Ok(())
}

/// Timesteps and draws exactly, noise levels and the initial sigma in single precision.
fn check_numbers(table: &SamplerTable, case: &Value) -> Result<(), String> {
    let timesteps: Vec<f64> = table.steps.iter().map(|step| step.timestep).collect();
    let wanted = floats(&case["timesteps"]).expect("cases have timesteps");
    let class = case["scheduler"].as_str().expect("cases have classes");
    let midpoints = class.starts_with("KDPM2");
    let same = |found: f64, wanted: f64| {
        // Fractions come from logarithms in single precision, whose last bit depends on the
        // processor that torch ran on; whole timesteps have to be the same. Midpoints are found
        // back in single precision throughout, where a timestep is 3e-3 of a logarithm.
        let slack = match (midpoints, wanted.fract() == 0.0) {
            (true, true | false) => 2e-4,
            (false, true) => 0.0,
            (false, false) => 2e-7 * wanted.abs(),
        };
        (found - wanted).abs() <= slack
    };
    let equal = timesteps.len() == wanted.len()
        && timesteps
            .iter()
            .zip(&wanted)
            .all(|(found, wanted)| same(*found, *wanted));
    ensure(equal, || {
        format!("timesteps are {timesteps:?}, wanted {wanted:?}")
    })?;
    let (found, wanted) = (table.init_noise_sigma, case["init_noise_sigma"].as_f64());
    let wanted = wanted.expect("the initial sigma is a number");
    ensure((found - wanted).abs() <= 1e-6 * wanted, || {
        format!("initial sigma is {found}")
    })?;
    let draws: Vec<Option<usize>> = table.steps.iter().map(|step| step.draw).collect();
    let wanted: Vec<bool> = match floats(&case["noise_index"]) {
        Some(indices) => indices.iter().map(|index| *index >= 0.0).collect(),
        None => vec![false; draws.len()],
    };
    let found: Vec<bool> = draws.iter().map(Option::is_some).collect();
    ensure(found == wanted, || {
        format!("draws are {draws:?}, wanted {wanted:?}")
    })?;
    let in_order = draws.iter().flatten().copied().eq(0..table.draws);
    ensure(in_order, || {
        format!("draws are {draws:?} of {}", table.draws)
    })?;
    // Estimates at midpoints, and of preconditioned networks, show other numbers.
    if midpoints || class == "EDMEulerScheduler" {
        return Ok(());
    }
    let velocity = case["config"]["prediction_type"] == "v_prediction";
    let Some(sigmas) = floats(&case["sigmas"]).filter(|_| case["step_kwargs"] == json!({})) else {
        return Ok(());
    };
    for (step, wanted) in table.steps.iter().zip(sigmas) {
        // Noise levels as the estimates show them: ε gives (x − σ o)/α, v gives α x − σ o.
        let noise = -step.estimate.output;
        let found = if velocity {
            noise / (1.0 - noise * noise).sqrt()
        } else {
            noise
        };
        let off = (found - wanted).abs() / wanted;
        ensure(off <= 2e-6 || noise < 0.0, || {
            format!("sigma is {found}, wanted {wanted}")
        })?;
    }
    Ok(())
}

fn floats(list: &Value) -> Option<Vec<f64>> {
    list.as_array()?.iter().map(Value::as_f64).collect()
}

/// The estimate as diffusers reports it: LCM's after c_skip and c_out, none of TCD's.
fn estimate(case: &Value, timestep: f64, x: &[f32], x0: &[f32]) -> Option<Vec<f32>> {
    match case["scheduler"].as_str()? {
        "LCMScheduler" => {
            let (skip, out) = lcm_boundary(timestep, 10.0);
            let both = x0.iter().zip(x);
            Some(
                both.map(|(x0, x)| out as f32 * x0 + skip as f32 * x)
                    .collect(),
            )
        }
        "TCDScheduler" => None,
        _ => Some(x0.to_vec()),
    }
}

#[track_caller]
fn check_all(file: &str, wanted_cases: usize) {
    let goldens = goldens(file);
    assert_eq!(goldens.cases.len(), wanted_cases);
    let mut failures = Vec::new();
    for case in &goldens.cases {
        let name = case["name"].as_str().expect("cases have names");
        if let Err(what) = run(&goldens, case) {
            failures.push(format!("{name}: {what}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_case_of_diffusers_is_reproduced() {
    check_all("schedulers", 344);
}

#[test]
fn every_solver_of_diffusers_is_reproduced() {
    check_all("solvers", 138);
}

#[test]
fn every_option_of_diffusers_is_reproduced() {
    check_all("options", 106);
}

/// A schedule of 1000 steps with Stable Diffusion's betas.
fn stable_diffusion(beta_schedule: BetaSchedule, zero_terminal_snr: bool) -> NoiseSchedule {
    NoiseSchedule::new(&NoiseScheduleSpec {
        num_train_timesteps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule,
        trained_betas: None,
        zero_terminal_snr,
    })
    .expect("the schedule is possible")
}

#[test]
fn noise_schedules_agree_with_diffusers() {
    #[track_caller]
    fn check(goldens: &Goldens, name: &str, curve: BetaSchedule, zero_snr: bool, tolerance: f64) {
        let schedule = stable_diffusion(curve, zero_snr);
        let wanted = &goldens.tensors[name];
        for (found, wanted) in schedule.alphas_cumprod().iter().zip(wanted) {
            let off = (f64::from(*found) - f64::from(*wanted)).abs() / f64::from(*wanted).max(1e-9);
            assert!(off <= tolerance, "{name}: {found}, wanted {wanted}");
        }
    }
    let goldens = goldens("schedulers");
    check(
        &goldens,
        "alphas_cumprod",
        BetaSchedule::ScaledLinear,
        false,
        0.0,
    );
    check(
        &goldens,
        "alphas_cumprod_cosine",
        BetaSchedule::SquaredCosine,
        false,
        1e-6,
    );
    // The last ratios of the rescaled schedule are differences of nearly equal numbers.
    check(
        &goldens,
        "alphas_cumprod_zero_snr",
        BetaSchedule::ScaledLinear,
        true,
        2e-5,
    );
}

#[test]
fn forward_noising_and_velocity_agree_with_diffusers() {
    let goldens = goldens("schedulers");
    let schedule = stable_diffusion(BetaSchedule::ScaledLinear, false);
    let tensor = |key: &str| &goldens.tensors[key];
    let (noise, clean) = (tensor("add_noise.noise"), tensor("model_outputs"));
    let size = tensor("init_noise").len();
    let (mut noised, mut velocity) = (Vec::new(), Vec::new());
    for (image, timestep) in [0, 1, 333, 999].into_iter().enumerate() {
        let (alpha, sigma) = schedule
            .signal_and_noise(timestep)
            .expect("it is in the schedule");
        let (alpha, sigma) = (alpha as f32, sigma as f32);
        for i in image * size..(image + 1) * size {
            noised.push(alpha * clean[i] + sigma * noise[i]);
            velocity.push(alpha * noise[i] - sigma * clean[i]);
        }
    }
    assert!(deviation(&noised, tensor("add_noise.out")) <= 1e-6);
    assert!(deviation(&velocity, tensor("get_velocity.out")) <= 1e-6);
    assert_eq!(schedule.signal_and_noise(1000), None);
}

#[test]
fn conditions_agree_with_diffusers() {
    let goldens = goldens("schedulers");
    let tensor = |key: &str| &goldens.tensors[key];
    for (i, timestep) in tensor("lcm_boundary.t").iter().enumerate() {
        let (skip, out) = lcm_boundary(f64::from(*timestep), 10.0);
        assert!((skip - f64::from(tensor("lcm_boundary.c_skip")[i])).abs() <= 1e-7);
        assert!((out - f64::from(tensor("lcm_boundary.c_out")[i])).abs() <= 1e-7);
    }
    let flipped = TimestepEmbedding {
        dim: 32,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
    };
    let plain = TimestepEmbedding {
        dim: 33,
        flip_sin_to_cos: false,
        freq_shift: 1.0,
    };
    let embedded = |layout: TimestepEmbedding| -> Vec<f32> {
        let timesteps = tensor("time_embed.t").iter();
        timesteps
            .flat_map(|t| timestep_embedding(f64::from(*t), layout))
            .collect()
    };
    // diffusers takes phases of 1000 and more radians in single precision: spec 8.
    assert!(deviation(&embedded(flipped), tensor("time_embed.dim32_flip_shift0")) <= 1e-4);
    assert!(deviation(&embedded(plain), tensor("time_embed.dim33_noflip_shift1")) <= 1e-4);
    for dim in [40, 256] {
        let scales = tensor("w_embed.w").iter();
        let found: Vec<f32> = scales
            .flat_map(|w| guidance_embedding(f64::from(*w), dim))
            .collect();
        assert!(deviation(&found, tensor(&format!("w_embed.dim{dim}"))) <= 1e-3);
    }
}
