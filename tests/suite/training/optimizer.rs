//! Gradients and updates against PyTorch, and what they satisfy by themselves.

use std::fs;

use compiler::DType;
use compiler::program::training::Layout;
use compiler::value::array::Array;
use compiler::value::tensor::Tensor;
use graphs::optimizer::{LossScale, Scalars, Settings, layout_of, training_step};
use serde_json::Value;

use super::distill::{
    Case, VARIANTS, denoise_case, denoise_case_in, lcm_case, splad_case, splad_settings,
};
use super::networks::{Named, cpu, exact, executed, on, opened, places};
use super::updates::{floats, gathering};
use crate::support::{golden, tensors};

/// How far the oracle's gradients may lie from torch's in f64, as a share of each one's norm: the
/// numbers of a step are rounded to f32, and diffusers computes the sinusoid of timesteps so.
const ORACLE_TOLERANCE: f64 = 3e-5;

/// How far the CPU's may lie, which computes in f32.
const CPU_TOLERANCE: f64 = 2e-4;

/// The settings of PyTorch's recipes here.
const SETTINGS: Settings = Settings {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    clip: Some(1.0),
    ema: true,
    accumulate: 1,
    loss_scale: None,
};

/// An f32 tensor of zeros for each state of the optimiser.
pub(crate) fn zeros(names: &[&str], elements: usize) -> Named {
    let zeros = Tensor::from_f32(&[elements], &vec![0.0; elements]);
    let pair = |name: &&str| ((*name).to_owned(), zeros.clone());
    names.iter().map(pair).collect()
}

/// What golden files keep of a tensor: at most 128 elements, spread over all of it.
fn thinned(tensor: &Tensor) -> Vec<f64> {
    const KEPT: usize = 128;
    let all = Array::from(tensor);
    let all = all.floats();
    match all.len() {
        n if n > KEPT => (0..KEPT).map(|i| all[i * n / KEPT]).collect(),
        _ => all.to_vec(),
    }
}

/// The distance of two vectors as a share of the second's norm.
fn distance(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let apart = norm(&mut found.iter().zip(wanted).map(|(a, b)| a - b));
    apart / norm(&mut wanted.iter().copied()).max(f64::MIN_POSITIVE)
}

/// The flat tensor of an f64 result, rounded once.
fn flat(array: &Array) -> Tensor {
    Tensor::from_values(DType::F32, &array.shape, &array.values)
}

/// The largest distance of the tensors in the golden file `file`, whose names begin with `prefix`,
/// from those in a flat tensor; and whose it is.
fn farthest(layout: &Layout, found: &Tensor, file: &str, prefix: &str) -> (f64, String) {
    let found = layout.cut(found).expect("the result is flat");
    let mut worst = (0.0, String::new());
    let mut compared = 0;
    for (name, wanted) in tensors(file) {
        let Some(name) = name.strip_prefix(prefix) else {
            continue;
        };
        let apart = distance(&thinned(&found[name]), Array::from(&wanted).floats());
        if apart > worst.0 {
            worst = (apart, name.to_owned());
        }
        compared += 1;
    }
    assert!(compared > 0, "{file} has tensors {prefix:?}");
    worst
}

/// Compares the gradients of a step with those in a golden file, by the oracle in f64 and by the
/// CPU in f32.
fn check_gradients(case: &Case, file: &str, cpu_tolerance: f64) {
    let layout = layout_of(&case.student).expect("the weights have known sizes");
    let (mut inputs, mut weights) = (case.inputs.clone(), case.weights.clone());
    let step = gathering(case.step.clone(), &layout, &mut inputs, &mut weights);
    let oracle = flat(&exact(&step, &inputs, &weights)["gradient"]);
    let cpu = on(&cpu(), &step, &inputs, &weights).remove("gradient");
    let cpu = cpu.expect("it is a result");
    assert_gradients(&layout, &oracle, file, "the oracle", ORACLE_TOLERANCE);
    assert_gradients(&layout, &cpu, file, "the CPU", cpu_tolerance);
}

fn assert_gradients(layout: &Layout, found: &Tensor, file: &str, by: &str, tolerance: f64) {
    let (apart, name) = farthest(layout, found, file, "");
    let what = format!("{file}: {name} by {by} lies {apart:.1e} away");
    assert!(apart <= tolerance, "{what}");
}

#[test]
fn gradients_of_splad_agree_with_torch() {
    for (variant, gamma_embed, sigma, loss) in VARIANTS {
        let case = splad_case(splad_settings(gamma_embed, sigma, loss), false);
        let file = match variant {
            "default" => SPLAD_GRADIENTS.to_owned(),
            other => format!("grads/splad_distill.grads_{other}.safetensors"),
        };
        check_gradients(&case, &file, CPU_TOLERANCE);
    }
}

const SPLAD_GRADIENTS: &str = "grads/splad_distill.grads.safetensors";
const LCM_GRADIENTS: &str = "grads/lcm_distill.grads.safetensors";

/// How far LCM's gradients may lie: where prediction and target lie 0.001 apart the pseudo-Huber
/// loss bends, and what f32 rounds of their difference turns its gradient.
const BENT: f64 = 5e-4;

#[test]
fn gradients_of_lcm_agree_with_torch() {
    check_gradients(&lcm_case(false), LCM_GRADIENTS, BENT);
}

#[test]
fn gradients_of_denoising_agree_with_torch() {
    let case = denoise_case("noise", "timesteps", false);
    check_gradients(&case, "grads/unet_a.grads.safetensors", CPU_TOLERANCE);
}

/// A number among the results.
pub(crate) fn number(results: &Named, name: &str) -> f64 {
    Array::from(&results[name]).floats()[0]
}

/// Replaces `states` by the results of their names.
pub(crate) fn feed_back(states: &mut Named, results: &Named) {
    for (name, result) in results {
        if let Some(state) = states.get_mut(name) {
            *state = result.clone();
        }
    }
}

/// How far each parameter moved.
fn movement(after: &Tensor, before: &Tensor) -> Tensor {
    let [after, before] = [after, before].map(Array::from);
    let pairs = after.floats().iter().zip(before.floats());
    let moved: Vec<f32> = pairs.map(|(a, b)| (a - b) as f32).collect();
    Tensor::from_f32(&after.shape, &moved)
}

const MOMENTS: [&str; 2] = ["adamw.first_moment", "adamw.second_moment"];

fn golden_facts() -> Value {
    let text = fs::read_to_string(golden("grads/grads.json")).expect("a golden file is there");
    serde_json::from_str(&text).expect("it is JSON")
}

fn assert_near(found: f64, wanted: f64, tolerance: f64, what: &str) {
    let apart = (found - wanted).abs() / wanted.abs();
    assert!(apart <= tolerance, "{what} is {found}, wanted {wanted}");
}

/// How far movements may lie: a first step of Adam is the sign of the gradient, element by
/// element, which tiny gradients do not tell well.
const MOVEMENT_TOLERANCE: f64 = 2e-4;

/// Asserts that student and EMA moved as a golden file says.
fn check_movements(layout: &Layout, states: &Named, before: [&Tensor; 2], file: &str, by: &str) {
    let pairs = [("student", "delta."), ("ema", "ema_delta.")];
    for ((state, prefix), before) in pairs.into_iter().zip(before) {
        let moved = movement(&states[state], before);
        let (apart, name) = farthest(layout, &moved, file, prefix);
        let what = format!("{file}: {prefix}{name} by {by} lies {apart:.1e} away");
        assert!(apart <= MOVEMENT_TOLERANCE, "{what}");
    }
}

/// What the optimiser takes for an update at the rate of all golden steps.
fn scalars(update: u64, weight_decay: f64, settings: &Settings) -> Named {
    let (lr, ema_decay) = (1e-3, 0.95);
    Scalars {
        update,
        lr,
        weight_decay,
        ema_decay,
        last: true,
    }
    .numbers(settings)
}

#[test]
fn three_steps_of_denoising_agree_with_torch() {
    let facts = golden_facts();
    let log = &facts["cases"]["unet_a"]["train"]["log"];
    let first = denoise_case("step0.noise", "step0.timesteps", false);
    let layout = layout_of(&first.student).expect("the weights have known sizes");
    let step = training_step(first.step.clone(), &layout, &SETTINGS).expect("it is a step");
    let begin = first.weights["student"].clone();
    let mut states = zeros(&MOMENTS, layout.total());
    states.insert("student".to_owned(), begin.clone());
    states.insert("ema".to_owned(), begin.clone());
    for (by, place) in places() {
        let session = opened(&step, &states, place);
        let mut results = Named::new();
        for number_of in 0..3 {
            let [noise, timesteps] =
                ["noise", "timesteps"].map(|what| format!("step{number_of}.{what}"));
            let mut inputs = denoise_case(&noise, &timesteps, false).inputs;
            inputs.extend(scalars(number_of + 1, 0.01, &SETTINGS));
            results = executed(&session, &step, &inputs);
            let entry = &log[number_of as usize];
            for (name, stored) in [("loss", "loss"), ("grad_norm", "grad_norm_before_clip")] {
                let wanted = entry[stored].as_f64().expect("it is a number");
                let what = format!("{name} of step {number_of} by {by}");
                assert_near(number(&results, name), wanted, 1e-5, &what);
            }
        }
        let file = "grads/unet_a.train_final.safetensors";
        check_movements(&layout, &results, [&begin, &begin], file, by);
    }
}

/// Two updates of a distillation at every place: the first has the gradients of a golden file, the
/// second leaves the states that the CPU has, as near as `apart_max`. Later ones part further:
/// AdamW's early updates have the size of the learning rate whatever the gradient, so that
/// roundings of gradients near zero turn into whole updates.
fn check_updates(
    mut case: Case,
    (file, tolerance): (&str, f64),
    apart_max: f64,
    first: impl Fn(&Layout, &Named, &Named, &str),
) {
    let layout = layout_of(&case.student).expect("the weights have known sizes");
    let step = training_step(case.step, &layout, &SETTINGS).expect("it is a step");
    case.weights.extend(zeros(&MOMENTS, layout.total()));
    let student = case.weights["student"].clone();
    case.weights.entry("ema".to_owned()).or_insert(student);
    let mut of_the_cpu: Option<Named> = None;
    for (by, place) in places() {
        let session = opened(&step, &case.weights, place);
        case.inputs.extend(scalars(1, 0.0, &SETTINGS));
        let results = executed(&session, &step, &case.inputs);
        // The first moment is a tenth of the gradient, which was shortened to norm 1.
        let shortened = 1.0 / (number(&results, "grad_norm") + 1e-6);
        let share = (1.0 - SETTINGS.betas[0]) * shortened.min(1.0);
        let moments = floats(&results[MOMENTS[0]]);
        let gradients: Vec<f32> = moments.iter().map(|x| (x / share) as f32).collect();
        let gradients = Tensor::from_f32(&[layout.total()], &gradients);
        assert_gradients(&layout, &gradients, file, by, tolerance);
        first(&layout, &case.weights, &results, by);

        case.inputs.extend(scalars(2, 0.0, &SETTINGS));
        let results = executed(&session, &step, &case.inputs);
        let wanted = of_the_cpu.get_or_insert_with(|| results.clone());
        for (name, wanted) in wanted {
            let apart = distance(&floats(&results[name]), &floats(wanted));
            assert!(apart <= apart_max, "{name} by {by}: {apart:.1e}");
        }
    }
}

#[test]
fn updates_of_splad_agree_everywhere() {
    let (_, gamma_embed, sigma, loss) = VARIANTS[0];
    let case = splad_case(splad_settings(gamma_embed, sigma, loss), false);
    let facts = golden_facts();
    let norm = &facts["splad_distill"]["train"]["grad_norm_before_clip"];
    let norm = norm.as_f64().expect("it is a number");
    let first = |layout: &Layout, before: &Named, results: &Named, by: &str| {
        assert_near(number(results, "grad_norm"), norm, 1e-5, by);
        let before = [&before["student"], &before["ema"]];
        let file = "grads/splad_distill.step.safetensors";
        check_movements(layout, results, before, file, by);
    };
    check_updates(case, (SPLAD_GRADIENTS, CPU_TOLERANCE), 1e-5, first);
}

#[test]
fn updates_of_lcm_agree_everywhere() {
    // The gradients of two updates, each of which may lie BENT away at both places.
    let apart_max = 4.0 * BENT;
    check_updates(
        lcm_case(false),
        (LCM_GRADIENTS, BENT),
        apart_max,
        |_, _, _, _| {},
    );
}

/// Networks that compute in 16 bits learn by f32 parameters, whose gradients are near those of f32;
/// those of f16 come scaled.
#[test]
fn networks_of_16_bits_learn_by_parameters_of_32() {
    for (dtype, tolerance) in [(DType::BF16, 0.05), (DType::F16, 0.01)] {
        let case = denoise_case_in(dtype, "noise", "timesteps", false);
        let layout = layout_of(&case.student).expect("the weights have known sizes");
        let settings = Settings {
            clip: None,
            loss_scale: Some(LossScale {
                growth_interval: 2000,
            }),
            ..SETTINGS
        };
        let step = training_step(case.step, &layout, &settings).expect("it is a step");
        let mut weights = case.weights.clone();
        weights.extend(zeros(&MOMENTS, layout.total()));
        weights.insert("ema".to_owned(), weights["student"].clone());
        weights.insert("loss_scale".to_owned(), Tensor::from_f32(&[], &[1024.0]));
        weights.insert(
            "loss_scale.updates".to_owned(),
            Tensor::from_f32(&[], &[0.0]),
        );
        let mut inputs = case.inputs.clone();
        inputs.extend(scalars(1, 0.0, &settings));
        let results = on(&cpu(), &step, &inputs, &weights);
        assert_eq!(number(&results, "updated"), 1.0);
        let facts = golden_facts();
        for (name, stored) in [("loss", "loss"), ("grad_norm", "grad_norm")] {
            let wanted = facts["cases"]["unet_a"][stored].as_f64();
            let wanted = wanted.expect("it is a number");
            assert_near(
                number(&results, name),
                wanted,
                tolerance,
                &format!("{name} in {dtype}"),
            );
        }
        // A tenth of the gradient is the first moment.
        let moment = layout
            .cut(&results[MOMENTS[0]])
            .expect("the result is flat");
        let wanted = tensors("grads/unet_a.grads.safetensors");
        let (mut found_all, mut wanted_all) = (Vec::new(), Vec::new());
        for (name, wanted) in &wanted {
            found_all.extend(thinned(&moment[name]).iter().map(|x| x * 10.0));
            wanted_all.extend(Array::from(wanted).floats());
        }
        let apart = distance(&found_all, &wanted_all);
        assert!(
            apart <= tolerance,
            "gradients in {dtype} lie {apart:.1e} away"
        );
    }
}
