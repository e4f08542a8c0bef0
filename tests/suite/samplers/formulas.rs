//! Sampler tables against formulas: scalar values, and methods that are the same by theory.

use compiler::program::sampler::SamplerTable;
use graphs::guidance::{TimestepEmbedding, guidance_embedding, timestep_embedding};
use graphs::samplers::table;
use runtime::sampler_step::SamplerState;
use serde_json::{Value, json};

use super::with_options;

#[test]
fn embeddings_have_the_values_of_the_formula() {
    #[track_caller]
    fn check(vector: &[f32], at: [usize; 8], wanted: [f64; 8]) {
        for (index, wanted) in at.into_iter().zip(wanted) {
            assert!(
                (f64::from(vector[index]) - wanted).abs() <= 2e-7,
                "entry {index}"
            );
        }
    }
    // Spec 8: SPLAM's γ = 0.9, 0.5 and 0, and the UNet's timestep.
    let at = [0, 1, 64, 127, 128, 129, 192, 255];
    #[rustfmt::skip]
    let scalars = [
        (0.0, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
        (1.0, [0.82687954, 0.13312401, -0.21735692, 0.09983342,
               0.56237908, 0.99109939, -0.97609219, 0.99500417]),
        (5.0, [-0.98796644, 0.61910454, -0.8891705, 0.47942554,
               0.15466841, 0.78530858, -0.45757603, 0.87758256]),
        (10.0, [-0.30561439, 0.97237622, 0.81372621, 0.84147098,
                -0.95215537, 0.23341913, -0.58124836, 0.54030231]),
    ];
    for (scalar, wanted) in scalars {
        check(&guidance_embedding(scalar, 256), at, wanted);
    }
    let layout = TimestepEmbedding {
        dim: 320,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
    };
    let at = [0, 1, 80, 159, 160, 161, 240, 319];
    #[rustfmt::skip]
    let timesteps = [
        (999.0, [0.99964985, 0.80268102, -0.8444697, 0.99440634,
                 -0.02646075, 0.59640857, -0.53560333, 0.10562207]),
        (500.0, [-0.88384927, 0.70275046, 0.28366219, 0.9985978,
                 -0.46777181, 0.71143642, -0.95892427, 0.05293793]),
    ];
    for (timestep, wanted) in timesteps {
        check(&timestep_embedding(timestep, layout), at, wanted);
    }
}

/// One number run through a table in place of latents: `output` gives each call's output.
fn scalar(table: &SamplerTable, x: f32, output: impl Fn(usize) -> f32, noise: f32) -> f64 {
    let mut state = SamplerState::new(table, &[x], 1).expect("one image");
    for (call, step) in table.steps.iter().enumerate() {
        state
            .advance(step, &[output(call)], Some(&[noise]))
            .expect("one number each");
    }
    f64::from(state.x[0])
}

#[test]
fn samplers_have_the_values_of_the_formulas() {
    #[track_caller]
    fn check(class: &str, options: Value, steps: usize, growth: f32, noise: f32, wanted: f64) {
        let table = table(&with_options(class, options), steps).expect("the table exists");
        let output = |call: usize| 0.5 * (1.0 + growth * call as f32);
        let found = scalar(&table, 1.0, output, noise);
        assert!(
            (found - wanted).abs() <= 2e-6 * wanted.abs(),
            "{class}: {found}, wanted {wanted}"
        );
    }
    // Spec 8. LCM's d is the result of one step; x' = 1.872250742 is its first state of four.
    check("LCMScheduler", json!({}), 1, 0.0, 0.0, 7.341492923);
    let ddim = |spacing, offset| json!({"timestep_spacing": spacing, "steps_offset": offset});
    let mut trailing = ddim("trailing", 0);
    trailing["set_alpha_to_one"] = json!(false);
    let mut leading = ddim("leading", 1);
    leading["set_alpha_to_one"] = json!(false);
    check("DDIMScheduler", trailing, 4, 0.0, 0.0, 7.352949512);
    check("DDIMScheduler", leading, 4, 0.0, 0.0, 2.191715652);
    let perflow = |kind| json!({"prediction_type": kind});
    check(
        "PeRFlowScheduler",
        perflow("ddim_eps"),
        4,
        0.0,
        0.0,
        7.352949512,
    );
    check(
        "PeRFlowScheduler",
        perflow("ddim_eps"),
        8,
        0.0,
        0.0,
        7.352949512,
    );
    check(
        "PeRFlowScheduler",
        perflow("epsilon"),
        1,
        0.0,
        0.0,
        7.352949512,
    );
    check(
        "PeRFlowScheduler",
        perflow("diff_eps"),
        4,
        0.0,
        0.0,
        4.681054969,
    );
    check("PeRFlowScheduler", perflow("velocity"), 8, 0.0, 0.0, 0.5);
    check(
        "DPMSolverMultistepScheduler",
        json!({}),
        4,
        0.1,
        0.0,
        6.944376218,
    );
}

#[test]
fn the_first_lcm_step_noises_the_estimate_again() {
    let table = table(&with_options("LCMScheduler", json!({})), 4).expect("the table exists");
    let mut state = SamplerState::new(&table, &[1.0], 1).expect("one image");
    state
        .advance(&table.steps[0], &[0.5], Some(&[0.2]))
        .expect("one number each");
    assert!((f64::from(state.x[0]) - 1.872250742).abs() <= 1e-6);
}

/// The same final numbers from two samplers, for outputs that change from call to call.
#[track_caller]
fn check_same(one: (&str, Value), other: (&str, Value), steps: usize) {
    let run = |(class, options): (&str, Value)| {
        let table = table(&with_options(class, options), steps).expect("the table exists");
        // Samplers that keep x0 + σ·noise start from the same noise in their own scale.
        let x = 0.8 / table.steps[0].input_scale / table.init_noise_sigma;
        scalar(&table, x as f32, |call| 0.4 - 0.15 * call as f32, 0.0)
    };
    let (found, wanted) = (run(one.clone()), run(other.clone()));
    let off = (found - wanted).abs() / wanted.abs();
    assert!(
        off <= 5e-6,
        "{} gives {found}, {} gives {wanted}",
        one.0,
        other.0
    );
}

#[test]
fn samplers_that_are_one_method_agree() {
    let ends_clean = json!({"timestep_spacing": "trailing", "set_alpha_to_one": true});
    let ddim = ("DDIMScheduler", ends_clean);
    let trailing = json!({"timestep_spacing": "trailing"});
    let first = json!({"timestep_spacing": "trailing", "solver_order": 1});
    check_same(
        ("EulerDiscreteScheduler", trailing.clone()),
        ddim.clone(),
        5,
    );
    check_same(
        ("DPMSolverMultistepScheduler", first.clone()),
        ddim.clone(),
        5,
    );
    let order_one = json!({
        "timestep_spacing": "trailing", "solver_order": 1, "disable_corrector": [0, 1, 2, 3, 4],
    });
    check_same(("UniPCMultistepScheduler", order_one), ddim, 5);
    // DDIM's own end and the ε form's are both the schedule's least noise.
    let epsilon = json!({
        "timestep_spacing": "trailing", "solver_order": 1, "algorithm_type": "dpmsolver",
        "final_sigmas_type": "sigma_min",
    });
    let ends_noisy = json!({"timestep_spacing": "trailing", "set_alpha_to_one": false});
    check_same(
        ("DPMSolverMultistepScheduler", epsilon),
        ("DDIMScheduler", ends_noisy.clone()),
        5,
    );
    let uncorrected = json!({"disable_corrector": [0, 1, 2, 3, 4, 5]});
    check_same(
        ("UniPCMultistepScheduler", uncorrected),
        ("DPMSolverMultistepScheduler", json!({})),
        6,
    );
    // LCM's grid with 5 of 50 is DDIM's trailing one.
    check_same(
        ("TCDScheduler", json!({"eta": 0.0})),
        ("DDIMScheduler", ends_noisy.clone()),
        5,
    );
    check_same(
        ("PeRFlowScheduler", json!({})),
        ("DDIMScheduler", ends_noisy),
        4,
    );
}
