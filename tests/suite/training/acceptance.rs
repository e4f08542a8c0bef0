//! What a SPLAD step satisfies whatever the networks are (spec 1.14).

use compiler::DType;
use compiler::graph::{Builder, Func, TensorType};
use compiler::ops::{Add, Mul};
use compiler::value::array::Array;
use compiler::value::tensor::{Tensor, Values};
use graphs::distill::fold::fold;
use graphs::distill::gamma::{GammaEmbed, gamma_embedding};
use graphs::distill::loss::Loss;
use graphs::distill::settings::Range;
use graphs::distill::splad::{self, Grid, Sample, Sigma};
use graphs::distill::{Bodies, DistillError, Point, Sizes, lcm, step};
use graphs::optimizer::layout_of;
use graphs::samplers::PredictionType;

use super::distill::{Case, HUBER, splad_case, splad_settings};
use super::networks::{Named, exact, network, schedule};
use super::updates::{floats, gathering};
use crate::support::{assert_close, tensors};

const PREDICTIONS: [PredictionType; 3] = [
    PredictionType::Epsilon,
    PredictionType::VPrediction,
    PredictionType::Sample,
];

fn point(timestep: usize) -> Point {
    Point::of(&schedule(), timestep).expect("the schedule has it")
}

#[test]
fn the_noise_between_the_ends_begins_and_ends_with_theirs() {
    // Spec 8, the scalar step: t, s and sigma at a quarter, linear and by variance.
    for (t, s, linear, variance) in [
        (499, 479, 0.80891915, 0.79878340),
        (999, 899, 0.67450942, 0.60281143),
        (19, 0, 0.05499321, 0.04351025),
    ] {
        let (start, end) = (point(t), point(s));
        let r = start.alpha / end.alpha;
        for (form, quarter) in [(Sigma::Linear, linear), (Sigma::Variance, variance)] {
            let sigma = |gamma| splad::sigma(form, start, end, gamma);
            let near = |found: f64, wanted: f64| {
                assert!(
                    (found - wanted).abs() < 1e-6,
                    "{form:?} {t}: {found}, {wanted}"
                );
            };
            near(sigma(0.0), r * end.sigma);
            near(sigma(1.0), start.sigma);
            near(sigma(0.25), quarter);
        }
    }
}

/// A network that returns what is given as text, whatever the state: `[batch, 1, 1, 1]`.
pub(crate) fn constant_network(name: &str, conditioned: bool) -> Func {
    let mut builder = Builder::new(name);
    let image = || TensorType {
        dtype: DType::F32,
        shape: vec!["batch", "height", "width"]
            .into_iter()
            .map(compiler::Dim::symbol)
            .collect::<Vec<_>>()
            .into_iter()
            .enumerate()
            .flat_map(|(axis, dim)| match axis {
                0 => vec![dim, compiler::Dim::from(1)],
                _ => vec![dim],
            })
            .collect(),
    };
    let batch = compiler::Dim::symbol("batch");
    let built = (|| {
        let sample = builder.input("sample", image())?;
        let timestep = TensorType::new(DType::F32, [batch.clone()]);
        builder.input("timestep", timestep)?;
        let text = TensorType::new(DType::F32, [batch.clone(), 1.into(), 1.into(), 1.into()]);
        let text = builder.input("encoder_hidden_states", text)?;
        let shift = builder.weight("shift", TensorType::new(DType::F32, [1]))?;
        if conditioned {
            let width = compiler::Dim::from(4);
            builder.input("timestep_cond", TensorType::new(DType::F32, [batch, width]))?;
        }
        let zero = builder.constant(Tensor::from_f32(&[], &[0.0]))?;
        let nothing = builder.push(Mul, &[sample, zero])?;
        let told = builder.push(Add, &[nothing, text])?;
        let told = builder.push(Add, &[told, shift])?;
        builder.result("out_sample", told)
    })();
    built.expect("the network is well typed");
    builder.finish()
}

/// A student that says the guided noise predicts the same clean latents from every γ: the line
/// between the ends is exact for it.
#[test]
fn a_constant_noise_is_consistent_along_the_line() {
    let teacher = constant_network("teacher", false);
    let student = constant_network("student", true);
    let gammas = [0.0, 0.125, 0.5, 0.875, 1.0];
    let sizes = Sizes {
        batch: gammas.len(),
        height: 1,
        width: 1,
        tokens: 1,
    };
    for (k, timestep) in [(20, 499), (100, 999), (100, 99), (100, 59)] {
        let settings = splad::Settings {
            k,
            ..splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, Loss::L2)
        };
        let bodies = Bodies {
            teacher: Some(&teacher),
            student: &student,
            adapter: None,
        };
        let func = step(&settings, bodies, sizes, true).expect("the step fits");
        let samples: Vec<Sample> = gammas
            .iter()
            .map(|&gamma| Sample { timestep, gamma })
            .collect();
        let numbers = splad::numbers(&settings, &schedule(), Some(4), &samples);
        let mut inputs = numbers.expect("the draws are on the grid");
        let five = |x: f32| Tensor::from_f32(&[5, 1, 1, 1], &[x; 5]);
        for (name, x) in [
            ("latents", 0.3),
            ("noise", -1.1),
            ("encoder_hidden_states", 0.8),
        ] {
            inputs.insert(name.to_owned(), five(x));
        }
        inputs.insert("uncond.encoder_hidden_states".to_owned(), five(0.2));
        // The student says 0.8 + 1.2, which is the guided 0.2 + 3·(0.8 − 0.2).
        let shifts = [("student", 1.2), ("ema", 0.0), ("teacher.shift", 0.0)];
        let shift = |(name, x): (&str, f32)| (name.to_owned(), Tensor::from_f32(&[1], &[x]));
        let results = exact(&func, &inputs, &shifts.map(shift).into());
        let predictions = results["model_pred"].floats();
        let start = point(timestep);
        let wanted = (start.alpha * 0.3 - start.sigma * 1.1 - start.sigma * 2.0) / start.alpha;
        for (gamma, found) in gammas.iter().zip(predictions) {
            let apart = (found - wanted).abs() / wanted.abs();
            assert!(
                apart < 1e-5,
                "k {k} t {timestep} gamma {gamma}: {found}, wanted {wanted}"
            );
        }
    }
}

#[test]
fn the_ends_of_a_sub_path_are_the_noised_latents_and_the_teachers_word() {
    let settings = splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, HUBER);
    let mut case = splad_case(settings, true);
    for gamma in [0.0, 1.0] {
        let samples = [939, 319, 59].map(|timestep| Sample { timestep, gamma });
        let numbers = splad::numbers(&settings, &schedule(), Some(16), &samples);
        case.inputs
            .extend(numbers.expect("the draws are on the grid"));
        let results = exact(&case.step, &case.inputs, &case.weights);
        let found = &results["z_gamma"];
        if gamma == 1.0 {
            assert_eq!(found, &results["z_t"]);
            continue;
        }
        let mut wanted = results["z_s"].clone();
        let Values::Float(values) = &mut wanted.values else {
            panic!("states are floats");
        };
        let image = values.len() / 3;
        for (place, (t, s)) in [(939, 839), (319, 219), (59, 0)].into_iter().enumerate() {
            let ratio = point(t).alpha / point(s).alpha;
            values[place * image..][..image]
                .iter_mut()
                .for_each(|x| *x *= ratio);
        }
        assert_close(found, &wanted, 1e-6, "the student's state at gamma 0");
        // Timestep 0 is where the third sample ends: there the target is the state itself.
        let [target, end] = ["target", "z_s"].map(|name| &results[name].floats()[2 * image..]);
        assert_eq!(target, end);
    }
}

/// Matched students are told no γ: the state is scaled to the schedule's variance and the student
/// called at the timestep that has as much noise, so that what is predicted is the same for every γ.
#[test]
fn matched_states_are_states_of_the_schedule() {
    let settings = splad_settings(GammaEmbed::Matched, Sigma::Linear, Loss::L2);
    for (timestep, gamma) in [(999, 0.25), (939, 0.5), (319, 0.75), (99, 0.0), (939, 1.0)] {
        let samples = [Sample { timestep, gamma }];
        let numbers = splad::numbers(&settings, &schedule(), None, &samples).expect("they fit");
        let at = |name: &str| Array::from(&numbers[name]).floats()[0];
        let (start, end) = (point(timestep), point(timestep.saturating_sub(100)));
        let sigma = splad::sigma(Sigma::Linear, start, end, gamma);
        let scale = at("student.input");
        let variance = scale * scale * (start.alpha * start.alpha + sigma * sigma);
        assert!(
            (variance - 1.0).abs() < 1e-6,
            "{timestep} {gamma}: {variance}"
        );
        let (x0, eps) = (0.7, -0.4);
        let state = start.alpha * x0 + sigma * eps;
        let clean = at("student.state") * state + at("student.output") * eps;
        assert!((clean - x0).abs() < 2e-5, "{timestep} {gamma}: {clean}");
        let below = at("student.timestep").floor() as usize;
        let ratio = |t: usize| point(t).sigma / point(t).alpha;
        let wanted = sigma / start.alpha;
        assert!(ratio(below) <= wanted * (1.0 + 1e-6), "{timestep} {gamma}");
        assert!(
            below == 999 || wanted <= ratio(below + 1),
            "{timestep} {gamma}"
        );
        if gamma == 1.0 {
            // Then it is LCM's student.
            assert_eq!(at("student.timestep"), timestep as f64);
            assert!((scale - 1.0).abs() < 1e-6);
        }
    }
}

/// The same step with k = 20, once as one step of multiple estimation, once with finished samples:
/// a sample that has arrived stays where it is, bit for bit.
#[test]
fn a_finished_sample_stays() {
    let short = splad::Settings {
        k: 20,
        ..splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, HUBER)
    };
    let long = splad::Settings { k: 100, ..short };
    let states = [short, long].map(|settings| {
        let mut case = splad_case(settings, true);
        let samples = [19, 19, 19].map(|timestep| Sample {
            timestep,
            gamma: 0.5,
        });
        let numbers = splad::numbers(&settings, &schedule(), Some(16), &samples);
        case.inputs
            .extend(numbers.expect("the draws are on the grid"));
        let mut results = exact(&case.step, &case.inputs, &case.weights);
        results.remove("z_s").expect("it is a result")
    });
    assert_eq!(states[0], states[1]);
}

/// With k = k_φ multiple estimation is the one step that LCM takes, bit for bit.
#[test]
fn one_estimation_is_a_single_step() {
    for k in [20, 100] {
        let multiple = splad::Settings {
            k,
            k_phi: k,
            ..splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, HUBER)
        };
        let single = lcm::Settings {
            prediction: multiple.prediction,
            k,
            guidance: Range {
                low: 3.0,
                high: 3.0,
            },
            target: lcm::Target::Ema,
            adapter: None,
            loss: HUBER,
        };
        let timesteps = [k - 1, 3 * k - 1, 999];
        let samples = timesteps.map(|timestep| Sample {
            timestep,
            gamma: 1.0,
        });
        let own = splad::numbers(&multiple, &schedule(), None, &samples);
        let own = own.expect("the draws are on the grid");
        let samples = timesteps.map(|timestep| lcm::Sample {
            timestep,
            guidance: 3.0,
        });
        let lcms = lcm::numbers(&single, &schedule(), None, &samples);
        let lcms = lcms.expect("the draws are on the grid");
        let shared = own.iter().filter(|(name, _)| {
            name.starts_with("teacher.") || name.starts_with("start.") || *name == "guidance"
        });
        let shared: Vec<_> = shared.collect();
        assert_eq!(shared.len(), 6);
        for (name, numbers) in shared {
            assert_eq!(numbers, &lcms[name], "{name} at k = {k}");
        }
    }
}

#[test]
fn draws_and_settings_without_meaning_are_refused() {
    let good = splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, HUBER);
    let anchored = splad::Settings {
        grid: Grid::Anchored,
        ..good
    };
    let uneven = splad::Settings { k: 30, ..good };
    let none = splad::Settings { k_phi: 0, ..good };
    for (settings, timestep, gamma, wanted) in [
        (good, 939, 0.5, None),
        (
            good,
            940,
            0.5,
            Some("sample 0 has timestep 940, expected one less than a multiple of 20, below 1000"),
        ),
        (
            good,
            1019,
            0.5,
            Some("sample 0 has timestep 1019, expected one less than a multiple of 20, below 1000"),
        ),
        (
            good,
            939,
            1.5,
            Some("sample 0 has gamma 1.5, expected a number from 0 to 1"),
        ),
        (
            good,
            939,
            f64::NAN,
            Some("sample 0 has gamma NaN, expected a number from 0 to 1"),
        ),
        (anchored, 899, 0.5, None),
        (
            anchored,
            939,
            0.5,
            Some("sample 0 has timestep 939, expected one less than a multiple of 100"),
        ),
        (
            uneven,
            939,
            0.5,
            Some("k is 30, expected 1 to 1000 times k_phi, which is 20"),
        ),
        (
            none,
            939,
            0.5,
            Some("k is 100, expected 1 to 1000 times k_phi, which is 0"),
        ),
    ] {
        let found = splad::numbers(
            &settings,
            &schedule(),
            Some(16),
            &[Sample { timestep, gamma }],
        );
        let said = found.err().map(|error: DistillError| error.to_string());
        assert_eq!(said.as_deref(), wanted);
    }
    let grid = |settings: &splad::Settings| settings.grid_timesteps(&schedule());
    let fine = grid(&good).expect("k is a multiple");
    assert_eq!((fine.len(), fine[0], fine[49]), (50, 19, 999));
    let coarse = grid(&anchored).expect("k is a multiple");
    assert_eq!((coarse.len(), coarse[0], coarse[9]), (10, 99, 999));
}

/// Numbers of velocities and clean latents are those of noise, seen otherwise: a network that
/// knows the state's parts says the same in every form.
#[test]
fn rows_of_every_prediction_type_agree() {
    let samples = [939, 319, 59].map(|timestep| Sample {
        timestep,
        gamma: 1.0,
    });
    for prediction in PREDICTIONS {
        let settings = splad::Settings {
            prediction,
            ..splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, HUBER)
        };
        let numbers = splad::numbers(&settings, &schedule(), Some(16), &samples).expect("they fit");
        for (place, sample) in samples.iter().enumerate() {
            let Point { alpha, sigma, .. } = point(sample.timestep);
            let (x0, eps) = (0.7, -0.4);
            let said = match prediction {
                PredictionType::Epsilon => eps,
                PredictionType::VPrediction => alpha * eps - sigma * x0,
                PredictionType::Sample => x0,
            };
            let at = |name: &str, index: usize| Array::from(&numbers[name]).floats()[index];
            let state = alpha * x0 + sigma * eps;
            let next = point(sample.timestep.saturating_sub(20));
            let stepped = at("teacher.state", place) * state + at("teacher.output", place) * said;
            let wanted = next.alpha * x0 + next.sigma * eps;
            assert!(
                (stepped - wanted).abs() < 2e-6,
                "{prediction:?}: {stepped}, {wanted}"
            );
            let clean = at("student.state", place) * state + at("student.output", place) * said;
            assert!((clean - x0).abs() < 2e-5, "{prediction:?}: {clean}, {x0}");
        }
    }
}

/// The gradient of the student's loss by central differences, and none to anything else: the
/// teacher, the EMA and the states between are given.
#[test]
fn the_gradient_of_a_step_is_that_of_central_differences() {
    let settings = splad_settings(GammaEmbed::ZeroAtOne, Sigma::Linear, Loss::L2);
    let Case {
        student,
        step,
        inputs,
        mut weights,
    } = splad_case(settings, false);
    let layout = layout_of(&student).expect("the weights have known sizes");
    let mut gathered = inputs.clone();
    let func = gathering(step.clone(), &layout, &mut gathered, &mut weights);
    let gradient = exact(&func, &gathered, &weights)["gradient"]
        .floats()
        .to_vec();
    let begin: Vec<f32> = floats(&weights["student"])
        .iter()
        .map(|&x| x as f32)
        .collect();
    for index in [7, layout.total() / 3, layout.total() - 2] {
        let loss = |distance: f32| {
            let mut moved = begin.clone();
            moved[index] += distance;
            let apart = f64::from(moved[index]) - f64::from(begin[index]);
            let mut weights = weights.clone();
            weights.insert(
                "student".to_owned(),
                Tensor::from_f32(&[moved.len()], &moved),
            );
            (exact(&step, &inputs, &weights)["loss"].floats()[0], apart)
        };
        let ((above, right), (below, left)) = (loss(1e-3), loss(-1e-3));
        let wanted = (above - below) / (right - left);
        let apart = (gradient[index] - wanted).abs() / wanted.abs();
        assert!(
            apart < 1e-3,
            "parameter {index}: {}, wanted {wanted}",
            gradient[index]
        );
    }
}

/// The network `student` on a state, told γ = 1 if it takes a condition.
fn said(func: &Func, weights: &Named, form: Option<GammaEmbed>) -> Array {
    let io = tensors("grads/splad_distill.io.safetensors");
    let sizes = [("batch", 3), ("height", 8), ("width", 8), ("tokens", 6)];
    let sizes = sizes.map(|(name, size)| (name.to_owned(), size));
    let func = func.bind(&sizes.into()).expect("the sizes fit");
    let mut inputs = Named::from([
        ("sample".to_owned(), io["z_t"].clone()),
        ("timestep".to_owned(), io["timesteps"].cast(DType::F32)),
        ("encoder_hidden_states".to_owned(), io["cond"].clone()),
    ]);
    if let Some(form) = form {
        let one = gamma_embedding(form, 1.0, 16).repeat(3);
        inputs.insert("timestep_cond".to_owned(), Tensor::from_f32(&[3, 16], &one));
    }
    let mut results = exact(&func, &inputs, weights);
    results.remove("out_sample").expect("it is the result")
}

#[test]
fn a_folded_student_is_the_student_at_gamma_one() {
    let student = network(
        "student",
        "grads/splad_distill.student.config.json",
        DType::F32,
    );
    let plain = network(
        "plain",
        "grads/splad_distill.teacher.config.json",
        DType::F32,
    );
    let weights = tensors("grads/splad_distill.student.safetensors");
    for form in [GammaEmbed::Official, GammaEmbed::ZeroAtOne] {
        let folded = fold(form, weights.clone()).expect("the student has a condition");
        let wanted = said(&student, &weights, Some(form));
        assert_close(
            &said(&plain, &folded, None),
            &wanted,
            1e-6,
            "the folded student",
        );
        if form == GammaEmbed::Official {
            let found = Array::from(&folded["time_embedding.linear_1.bias"]);
            let io = tensors("grads/splad_distill.io.safetensors");
            let wanted = Array::from(&io["official/folded_bias"]);
            assert_close(&found, &wanted, 1e-6, "the folded bias");
        }
    }
    let plain_weights = fold(GammaEmbed::Official, weights).expect("as above");
    assert!(fold(GammaEmbed::Official, plain_weights).is_err());
}

/// A student that begins as its teacher, with a condition of zeros, says what the teacher says.
#[test]
fn a_new_student_says_what_its_teacher_says() {
    let student = network(
        "student",
        "grads/splad_distill.student.config.json",
        DType::F32,
    );
    let teacher = network(
        "teacher",
        "grads/splad_distill.teacher.config.json",
        DType::F32,
    );
    let mut weights = tensors("grads/splad_distill.teacher.safetensors");
    let wanted = said(&teacher, &weights, None);
    let zeros = Tensor::from_f32(&[16, 16], &[0.0; 256]);
    weights.insert("time_embedding.cond_proj.weight".to_owned(), zeros);
    assert_eq!(said(&student, &weights, Some(GammaEmbed::Official)), wanted);
}
