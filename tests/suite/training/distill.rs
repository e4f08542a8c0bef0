//! One step of each method up to its loss, value by value.

use compiler::DType;
use compiler::value::array::Array;
use graphs::distill::gamma::GammaEmbed;
use graphs::distill::loss::Loss;
use graphs::distill::settings::Range;
use graphs::distill::splad::{Gammas, Grid, Sigma};
use graphs::distill::{Bodies, Sizes, Solver, denoise, lcm, splad, step};
use graphs::samplers::PredictionType;

use super::networks::{Named, exact, flat, network, numbers, schedule, teacher_weights};
use crate::support::{assert_close, tensors};

/// Figures are stored in f32, and diffusers computes sinusoids in f32.
const TOLERANCE: f64 = 2e-6;

const FOUR: Sizes = Sizes {
    batch: 0,
    height: 8,
    width: 8,
    tokens: 6,
};

/// A golden step: the function with every value on the way, and what it is fed.
pub(crate) struct Case {
    pub(crate) student: compiler::graph::Func,
    pub(crate) step: compiler::graph::Func,
    pub(crate) inputs: Named,
    pub(crate) weights: Named,
}

/// Inputs under the names of a step.
fn renamed(io: &Named, names: &[(&str, &str)]) -> Named {
    let pair = |(stored, name): &(&str, &str)| ((*name).to_owned(), io[*stored].clone());
    names.iter().map(pair).collect()
}

/// The pseudo-Huber loss of the golden steps.
pub(crate) const HUBER: Loss = Loss::Huber { c: 0.001 };

/// The variants of the golden SPLAD step.
pub(crate) const VARIANTS: [(&str, GammaEmbed, Sigma, Loss); 4] = [
    ("default", GammaEmbed::ZeroAtOne, Sigma::Linear, HUBER),
    ("l2", GammaEmbed::ZeroAtOne, Sigma::Linear, Loss::L2),
    ("official", GammaEmbed::Official, Sigma::Linear, HUBER),
    ("released", GammaEmbed::Official, Sigma::Variance, HUBER),
];

pub(crate) fn splad_settings(gamma_embed: GammaEmbed, sigma: Sigma, loss: Loss) -> splad::Settings {
    splad::Settings {
        prediction: PredictionType::Epsilon,
        guidance: 3.0,
        k: 100,
        k_phi: 20,
        solver: Solver::Ddim,
        sigma,
        gamma_embed,
        grid: Grid::Fine,
        gammas: Gammas {
            one_probability: 0.0,
            power: 1.0,
        },
        loss,
    }
}

pub(crate) fn splad_case(settings: splad::Settings, observed: bool) -> Case {
    let io = tensors("grads/splad_distill.io.safetensors");
    let teacher = network(
        "teacher",
        "grads/splad_distill.teacher.config.json",
        DType::F32,
    );
    let student = network(
        "student",
        "grads/splad_distill.student.config.json",
        DType::F32,
    );
    let bodies = Bodies {
        teacher: Some(&teacher),
        student: &student,
        adapter: None,
    };
    let sizes = Sizes { batch: 3, ..FOUR };
    let step = step(&settings, bodies, sizes, observed).expect("the step fits");
    let names = [
        ("latents", "latents"),
        ("noise", "noise"),
        ("cond", "encoder_hidden_states"),
        ("uncond", "uncond.encoder_hidden_states"),
    ];
    let mut inputs = renamed(&io, &names);
    let indices = numbers(&io["grid_index"]);
    let gammas = numbers(&io["gamma"]);
    let samples: Vec<splad::Sample> = indices
        .iter()
        .zip(gammas)
        .map(|(index, gamma)| splad::Sample {
            timestep: *index as usize * 20 - 1,
            gamma,
        })
        .collect();
    let numbers = splad::numbers(&settings, &schedule(), Some(16), &samples);
    inputs.extend(numbers.expect("the draws are on the grid"));
    let mut weights = teacher_weights(&teacher, "grads/splad_distill.teacher.safetensors");
    weights.insert(
        "student".to_owned(),
        flat(&student, "grads/splad_distill.student.safetensors"),
    );
    weights.insert(
        "ema".to_owned(),
        flat(&student, "grads/splad_distill.ema.safetensors"),
    );
    Case {
        student,
        step,
        inputs,
        weights,
    }
}

#[test]
fn splad_gives_every_value_of_the_golden_step() {
    let io = tensors("grads/splad_distill.io.safetensors");
    for (variant, gamma_embed, sigma, loss) in VARIANTS {
        let case = splad_case(splad_settings(gamma_embed, sigma, loss), true);
        let results = exact(&case.step, &case.inputs, &case.weights);
        for (name, found) in &results {
            let wanted = io
                .get(name)
                .unwrap_or_else(|| &io[&format!("{variant}/{name}")]);
            assert_close(
                found,
                &Array::from(wanted),
                TOLERANCE,
                &format!("{variant}: {name}"),
            );
        }
        assert_eq!(results.len(), 8);
        for who in ["student", "target"] {
            let stored = match who {
                "student" => "gamma_embedding",
                _ => "target_embedding",
            };
            let found = Array::from(&case.inputs[&format!("{who}.timestep_cond")]);
            let wanted = Array::from(&io[&format!("{variant}/{stored}")]);
            if wanted.floats().iter().any(|x| *x != 0.0) {
                assert_close(&found, &wanted, TOLERANCE, stored);
            } else {
                assert!(
                    found.floats().iter().all(|x| *x == 0.0),
                    "e(1) is zero at one"
                );
            }
        }
    }
}

pub(crate) fn lcm_case(observed: bool) -> Case {
    let io = tensors("grads/lcm_distill.io.safetensors");
    let teacher = network(
        "teacher",
        "grads/lcm_distill.teacher.config.json",
        DType::F32,
    );
    let student = network(
        "student",
        "grads/lcm_distill.student.config.json",
        DType::F32,
    );
    let settings = lcm::Settings {
        prediction: PredictionType::Epsilon,
        k: 20,
        guidance: Range {
            low: 2.0,
            high: 14.0,
        },
        target: lcm::Target::Student,
        adapter: None,
        loss: HUBER,
    };
    let bodies = Bodies {
        teacher: Some(&teacher),
        student: &student,
        adapter: None,
    };
    let sizes = Sizes { batch: 2, ..FOUR };
    let step = step(&settings, bodies, sizes, observed).expect("the step fits");
    let names = [
        ("x0", "latents"),
        ("noise", "noise"),
        ("cond", "encoder_hidden_states"),
        ("uncond", "uncond.encoder_hidden_states"),
    ];
    let mut inputs = renamed(&io, &names);
    let indices = numbers(&io["index"]);
    let samples: Vec<lcm::Sample> = indices
        .iter()
        .zip(numbers(&io["w"]))
        .map(|(index, w)| lcm::Sample {
            timestep: (*index as usize + 1) * 20 - 1,
            guidance: w + 1.0,
        })
        .collect();
    let numbers = lcm::numbers(&settings, &schedule(), Some(24), &samples);
    inputs.extend(numbers.expect("the draws are on the grid"));
    // The student's weights but for its condition are the teacher's.
    let file = "grads/lcm_distill.student.safetensors";
    let mut weights = teacher_weights(&teacher, file);
    weights.insert("student".to_owned(), flat(&student, file));
    Case {
        student,
        step,
        inputs,
        weights,
    }
}

#[test]
fn lcm_gives_every_value_of_the_golden_step() {
    let io = tensors("grads/lcm_distill.io.safetensors");
    let case = lcm_case(true);
    let results = exact(&case.step, &case.inputs, &case.weights);
    for (name, found) in &results {
        assert_close(found, &Array::from(&io[name]), TOLERANCE, name);
    }
    assert_eq!(results.len(), 6);
    let found = Array::from(&case.inputs["timestep_cond"]);
    assert_close(
        &found,
        &Array::from(&io["w_embedding"]),
        TOLERANCE,
        "w_embedding",
    );
}

pub(crate) fn denoise_case(noise: &str, timesteps: &str, observed: bool) -> Case {
    denoise_case_in(DType::F32, noise, timesteps, observed)
}

/// The step of a network that computes in `dtype`.
pub(crate) fn denoise_case_in(dtype: DType, noise: &str, timesteps: &str, observed: bool) -> Case {
    let mut io = tensors("unet_a/io.safetensors");
    io.extend(tensors("grads/unet_a.train_io.safetensors"));
    let student = network("student", "unet_a/unet/config.json", dtype);
    let settings = denoise::Settings {
        prediction: PredictionType::Epsilon,
        min_snr: None,
        loss: Loss::L2,
    };
    let bodies = Bodies {
        teacher: None,
        student: &student,
        adapter: None,
    };
    let sizes = Sizes { batch: 2, ..FOUR };
    let step = step(&settings, bodies, sizes, observed).expect("the step fits");
    let names = [
        ("x0", "latents"),
        (noise, "noise"),
        ("encoder_hidden_states", "encoder_hidden_states"),
    ];
    let mut inputs = renamed(&io, &names);
    let drawn = numbers(&io[timesteps]);
    let drawn: Vec<usize> = drawn.iter().map(|&timestep| timestep as usize).collect();
    let numbers = denoise::numbers(&settings, &schedule(), &drawn);
    inputs.extend(numbers.expect("the schedule has the timesteps"));
    let file = "unet_a/unet/diffusion_pytorch_model.safetensors";
    let weights = Named::from([("student".to_owned(), flat(&student, file))]);
    Case {
        student,
        step,
        inputs,
        weights,
    }
}

#[test]
fn denoising_gives_every_value_of_the_golden_step() {
    let io = tensors("unet_a/io.safetensors");
    let case = denoise_case("noise", "timesteps", true);
    let results = exact(&case.step, &case.inputs, &case.weights);
    for (name, stored) in [
        ("noisy", "noisy"),
        ("student_out", "pred"),
        ("target", "noise"),
        ("loss", "loss"),
    ] {
        assert_close(&results[name], &Array::from(&io[stored]), TOLERANCE, name);
    }
}
