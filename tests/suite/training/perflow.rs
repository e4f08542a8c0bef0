//! PeRFlow's windows, rows and targets against the numbers of its sampler and its paper.

use compiler::value::array::Array;
use compiler::value::tensor::Tensor;
use graphs::distill::loss::Loss;
use graphs::distill::perflow::{self, Output, Settings};
use graphs::distill::{Bodies, DistillError, Numbers, Sizes, Solver, step};
use graphs::samplers::PredictionType;

use super::acceptance::constant_network;
use super::networks::{exact, schedule};

fn settings(output: Output, solver_steps: usize) -> Settings {
    Settings {
        prediction: PredictionType::Epsilon,
        windows: 4,
        solver_steps,
        solver: Solver::Ddim,
        output,
        guidance: None,
        adapter: None,
        loss: Loss::L2,
    }
}

fn numbers(settings: &Settings, timesteps: &[usize]) -> Numbers {
    let numbers = perflow::numbers(settings, &schedule(), timesteps);
    numbers.expect("the timesteps are of the schedule")
}

fn floats(numbers: &Numbers, name: &str) -> Vec<f64> {
    Array::from(&numbers[name]).floats().to_vec()
}

#[test]
fn targets_have_the_constants_of_the_windows() {
    // Spec 3.4: λ, η of a DDIM jump, η of the forward kernel; the last timestep of each window.
    for (timestep, lambda, ddim, diffusion) in [
        (1000, 3.48579, -2.50638, -3.33927),
        (750, 2.21445, -1.30094, -1.97580),
        (500, 1.55965, -0.75584, -1.19687),
        (250, 1.21625, -0.66376, -0.69230),
    ] {
        for (output, eta) in [
            (Output::DdimEpsilon, ddim),
            (Output::DiffusionEpsilon, diffusion),
        ] {
            let numbers = numbers(&settings(output, 8), &[timestep]);
            let [start, end] = ["target.start", "target.end"].map(|name| floats(&numbers, name)[0]);
            assert!(
                (1.0 / end - eta).abs() < 2e-5,
                "{timestep} {output:?}: {}",
                1.0 / end
            );
            assert!(
                (-start / end - lambda).abs() < 2e-5,
                "{timestep}: {}",
                -start / end
            );
        }
        let numbers = numbers(&settings(Output::Velocity, 8), &[timestep]);
        assert_eq!(floats(&numbers, "target.start"), [4.0]);
        assert_eq!(floats(&numbers, "target.end"), [-4.0]);
    }
}

#[test]
fn a_timestep_stands_on_the_line_of_its_window() {
    let numbers = numbers(&settings(Output::Velocity, 8), &[1000, 751, 750, 625, 1]);
    let ends = floats(&numbers, "line.end");
    for (found, wanted) in ends.iter().zip([0.0, 0.996, 0.0, 0.5, 0.996]) {
        assert!((found - wanted).abs() < 1e-6, "{ends:?}");
    }
    // The first window in eight steps: the nearest indices to 31.25 apart, ties to even.
    let timesteps = floats(&numbers, "teacher.timestep");
    let first: Vec<f64> = timesteps.iter().step_by(5).copied().collect();
    assert_eq!(
        first,
        [999.0, 968.0, 936.0, 905.0, 874.0, 843.0, 812.0, 780.0]
    );
}

/// The line of a teacher that says one noise whatever the state: DDIM's steps add up to one jump, so
/// that the student's target is that noise.
#[test]
fn a_constant_noise_is_its_own_target() {
    let teacher = constant_network("teacher", false);
    let student = constant_network("student", false);
    for solver_steps in [1, 8, 10] {
        let settings = settings(Output::DdimEpsilon, solver_steps);
        let timesteps = [1000, 870, 501, 500, 2];
        let sizes = Sizes {
            batch: timesteps.len(),
            height: 1,
            width: 1,
            tokens: 1,
        };
        let bodies = Bodies {
            teacher: Some(&teacher),
            student: &student,
            adapter: None,
        };
        let func = step(&settings, bodies, sizes, true).expect("the step fits");
        let mut inputs = numbers(&settings, &timesteps);
        let five = |x: f32| Tensor::from_f32(&[5, 1, 1, 1], &[x; 5]);
        for (name, x) in [
            ("latents", 0.3),
            ("noise", -1.1),
            ("encoder_hidden_states", 0.8),
        ] {
            inputs.insert(name.to_owned(), five(x));
        }
        let shifts = [("student", 0.0), ("teacher.shift", 0.0)];
        let shift = |(name, x): (&str, f32)| (name.to_owned(), Tensor::from_f32(&[1], &[x]));
        let results = exact(&func, &inputs, &shifts.map(shift).into());
        for (timestep, found) in timesteps.iter().zip(results["target"].floats()) {
            assert!(
                (found - 0.8).abs() < 2e-5,
                "{solver_steps} steps at {timestep}: {found}"
            );
        }
    }
}

#[test]
fn timesteps_beyond_the_schedule_are_refused() {
    let settings = settings(Output::Velocity, 8);
    for timestep in [0, 1001] {
        let refused = perflow::numbers(&settings, &schedule(), &[timestep]);
        let said = refused.err().map(|error: DistillError| error.to_string());
        let wanted = format!("sample 0 has timestep {timestep}, expected 1 to 1000");
        assert_eq!(said, Some(wanted));
    }
}
