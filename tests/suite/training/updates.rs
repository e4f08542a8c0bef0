//! What an optimiser satisfies whatever the gradients are: on a loss whose gradient is given.

use compiler::DType;
use compiler::graph::{Builder, Func, TensorType};
use compiler::ops::{Mul, ReduceSum};
use compiler::program::training::Layout;
use compiler::value::array::Array;
use compiler::value::tensor::Tensor;
use graphs::optimizer::{LossScale, Scalars, Settings, layout_of, training_step};

use super::networks::{Named, exact};
use super::optimizer::{feed_back, number, zeros};

/// A step whose loss is `Σ slope·θ` over three parameters.
fn slope_step() -> (Func, Layout) {
    let mut body = Builder::new("body");
    let weight = body.weight("theta", TensorType::new(DType::F32, [3]));
    let weight = weight.expect("a weight");
    body.result("same", weight).expect("a result");
    let layout = layout_of(&body.finish()).expect("sizes are known");
    let mut builder = Builder::new("step");
    let vector = || TensorType::new(DType::F32, [3]);
    let built = (|| {
        let student = builder.weight("student", vector())?;
        let slope = builder.input("slope", vector())?;
        let cut = compiler::ops::Slice {
            axis: 0,
            start: 0.into(),
            length: 3.into(),
            step: 1,
        };
        let theta = builder.push(cut, &[student])?;
        let product = builder.push(Mul, &[theta, slope])?;
        let sum = ReduceSum {
            axes: vec![0],
            keep: false,
        };
        let loss = builder.push(sum, &[product])?;
        builder.result("loss", loss)
    })();
    built.expect("the step is well typed");
    (builder.finish(), layout)
}

pub(crate) const PLAIN: Settings = Settings {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    clip: None,
    ema: true,
    accumulate: 1,
    loss_scale: None,
};

fn scalars(update: u64) -> Scalars {
    Scalars {
        update,
        lr: 0.01,
        weight_decay: 0.1,
        ema_decay: 0.9,
        last: true,
    }
}

/// The first of two micro-batches of `step`: its gradient is added to the state `gradient`, and
/// nothing is updated. Adds what it takes to `inputs` and `weights`.
pub(crate) fn gathering(
    step: Func,
    layout: &Layout,
    inputs: &mut Named,
    weights: &mut Named,
) -> Func {
    let settings = Settings {
        accumulate: 2,
        ema: false,
        ..PLAIN
    };
    let first = Scalars {
        last: false,
        ..scalars(1)
    };
    inputs.extend(first.numbers(&settings));
    weights.extend(zeros(&[MOMENTS[0], MOMENTS[1], "gradient"], layout.total()));
    training_step(step, layout, &settings).expect("it is a step")
}

fn vector(values: [f32; 3]) -> Tensor {
    Tensor::from_f32(&[3], &values)
}

fn begin(names: &[&str]) -> Named {
    let mut states = zeros(names, 3);
    states.insert("student".to_owned(), vector([1.0, -2.0, 0.5]));
    states.insert("ema".to_owned(), vector([0.0, 0.0, 0.0]));
    states
}

const MOMENTS: [&str; 2] = ["adamw.first_moment", "adamw.second_moment"];

/// Runs one step and replaces the states.
fn run(func: &Func, states: &mut Named, slope: [f32; 3], numbers: Option<Named>) -> Named {
    let mut inputs = Named::from([("slope".to_owned(), vector(slope))]);
    inputs.extend(numbers.unwrap_or_default());
    let results = exact(func, &inputs, states).into_iter();
    let rounded = |array: Array| Tensor::from_values(DType::F32, &array.shape, &array.values);
    let results = results
        .map(|(name, array)| (name, rounded(array)))
        .collect();
    feed_back(states, &results);
    results
}

pub(crate) fn floats(tensor: &Tensor) -> Vec<f64> {
    Array::from(tensor).floats().to_vec()
}

#[test]
fn the_average_follows_its_closed_form() {
    let (step, layout) = slope_step();
    let func = training_step(step, &layout, &PLAIN).expect("it is a step");
    let mut states = begin(&MOMENTS);
    let mut wanted = [0.0; 3];
    for update in 1..=3 {
        run(
            &func,
            &mut states,
            [1.0, -0.5, 2.0],
            Some(scalars(update).numbers(&PLAIN)),
        );
        // The share of step i in the average after n is 0.1 · 0.9^(n − i).
        let share = 0.1 * 0.9_f64.powi(3 - update as i32);
        let student = floats(&states["student"]);
        wanted
            .iter_mut()
            .zip(student)
            .for_each(|(sum, x)| *sum += share * x);
    }
    for (found, wanted) in floats(&states["ema"]).iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-6, "{found}, wanted {wanted}");
    }
}

#[test]
fn gradients_are_shortened_to_the_norm_and_no_longer() {
    let (step, layout) = slope_step();
    for (norm_max, share) in [(1.0, 1.0 / (3.0 + 1e-6)), (4.0, 1.0)] {
        let settings = Settings {
            clip: Some(norm_max),
            ..PLAIN
        };
        let func = training_step(step.clone(), &layout, &settings).expect("it is a step");
        let mut states = begin(&MOMENTS);
        let results = run(
            &func,
            &mut states,
            [2.0, -1.0, 2.0],
            Some(scalars(1).numbers(&settings)),
        );
        assert_eq!(number(&results, "grad_norm"), 3.0);
        let first = floats(&states[MOMENTS[0]])[0];
        assert!((first - 0.1 * 2.0 * share).abs() < 1e-7, "{first}");
    }
}

#[test]
fn accumulated_steps_are_one_step_of_the_mean() {
    let (step, layout) = slope_step();
    let settings = Settings {
        accumulate: 2,
        ..PLAIN
    };
    let update = training_step(step.clone(), &layout, &settings).expect("it is a step");
    let whole = training_step(step, &layout, &PLAIN).expect("it is a step");
    let mut parts = begin(&[MOMENTS[0], MOMENTS[1], "gradient"]);
    let before = parts.clone();
    let first = Scalars {
        last: false,
        ..scalars(1)
    };
    let results = run(
        &update,
        &mut parts,
        [1.0, 0.0, -3.0],
        Some(first.numbers(&settings)),
    );
    assert_eq!(number(&results, "updated"), 0.0);
    for (name, before) in before.iter().filter(|(name, _)| *name != "gradient") {
        assert_eq!(&parts[name], before, "{name}");
    }
    let second = scalars(1).numbers(&settings);
    run(&update, &mut parts, [0.0, 2.0, -1.0], Some(second));
    let mut once = begin(&MOMENTS);
    let numbers = scalars(1).numbers(&PLAIN);
    run(&whole, &mut once, [0.5, 1.0, -2.0], Some(numbers));
    assert_eq!(floats(&parts["gradient"]), [0.0; 3]);
    for (name, wanted) in &once {
        assert_eq!(&parts[name], wanted, "{name}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_but_the_scale() {
    let (step, layout) = slope_step();
    let settings = Settings {
        loss_scale: Some(LossScale { growth_interval: 2 }),
        ..PLAIN
    };
    let func = training_step(step.clone(), &layout, &settings).expect("it is a step");
    let plain = training_step(step, &layout, &PLAIN).expect("it is a step");
    let mut states = begin(&MOMENTS);
    states.insert("loss_scale".to_owned(), Tensor::from_f32(&[], &[1024.0]));
    states.insert(
        "loss_scale.updates".to_owned(),
        Tensor::from_f32(&[], &[0.0]),
    );
    let mut without = begin(&MOMENTS);
    let good = [1.0, -0.5, 2.0];
    let mut update = 1;
    for (slope, scale, counted) in [
        (good, 1024.0, 1.0),
        ([f32::INFINITY, 0.0, 0.0], 512.0, 0.0),
        ([f32::NAN, 0.0, 0.0], 256.0, 0.0),
        (good, 256.0, 1.0),
        (good, 512.0, 0.0),
    ] {
        let numbers = scalars(update).numbers(&settings);
        let results = run(&func, &mut states, slope, Some(numbers.clone()));
        if slope == good {
            run(&plain, &mut without, slope, Some(numbers));
            update += 1;
        }
        assert_eq!(
            number(&results, "updated"),
            f64::from(u8::from(slope == good))
        );
        assert_eq!(number(&results, "loss_scale"), scale);
        assert_eq!(number(&results, "loss_scale.updates"), counted);
        for (name, wanted) in &without {
            assert_eq!(&states[name], wanted, "{name}");
        }
    }
}
