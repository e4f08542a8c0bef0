//! SPLAD, the distillation of SPLAM: the student follows straight sub-paths from a noised latent to
//! where the guided teacher walks from there, γ = 1 to γ = 0 (arXiv 2404.13903; spec 1).
//!
//! Takes settings, and the timestep and γ drawn for each sample; gives the nodes up to the loss,
//! and the numbers of a step. With `k` above `k_phi` the teacher takes several steps (multiple
//! estimation); a sample that reaches timestep 0 before has finished.
//!
//! The recipe of the released script: `k = k_phi = 20`, [`Sigma::Variance`],
//! [`GammaEmbed::Official`], and its `--w_scale 8` is `guidance` 9.

use compiler::graph::TensorType;
use compiler::ops::Mul;
use compiler::program::pipeline::Distilled;
use compiler::program::training::names::{EMA, STUDENT};
use compiler::program::training::{Distribution, Draw, Drawn};
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::error::DistillError;
use super::gamma::{GammaEmbed, gamma_embedding};
use super::lcm::{CONDITION_WIDTH, lcm_sampler};
use super::loss::{HUBER_C, LOSS, Loss};
use super::method::{Entry, Folding, Method, Outcome, Student, drawn, drawn_timesteps};
use super::network::At;
use super::roll_out::{Path, RollOut, SOLVER, Solver};
use super::row;
use super::row::{Numbers, Point, vector};
use super::scene::{Scene, Written, stop_gradient};
use super::settings::{Kind, Setting, Values};
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// The method in the table.
pub(super) const METHOD: Entry = Entry {
    name: "splad",
    about: "SPLAM's sub-path linear approximation: consistency along the teacher's sub-paths",
    settings: &[
        Setting {
            name: "guidance",
            kind: Kind::Number,
            about: "the teacher's guidance scale, in the standard form",
            default: "3",
        },
        Setting {
            name: "k",
            kind: Kind::Count,
            about: "timesteps from one end of a sub-path to the other, a multiple of k-phi",
            default: "100",
        },
        Setting {
            name: "k-phi",
            kind: Kind::Count,
            about: "timesteps of one step of the teacher's solver",
            default: "20",
        },
        Setting {
            name: "sigma",
            kind: Kind::Word(&["linear", "variance"]),
            about: "how much noise a state between the ends is taken to hold",
            default: "linear",
        },
        Setting {
            name: "gamma-embed",
            kind: Kind::Word(&["zero_at_one", "official", "matched"]),
            about: "how the student is told gamma; matched calls it at the timestep that has as \
                    much noise, and needs no condition",
            default: "zero_at_one",
        },
        Setting {
            name: "gamma-one-probability",
            kind: Kind::Number,
            about: "how often gamma is exactly 1, the only gamma that sampling uses",
            default: "0",
        },
        Setting {
            name: "gamma-power",
            kind: Kind::Number,
            about: "gamma is a uniform number to this power; below 1 it favours gamma near 1",
            default: "1",
        },
        Setting {
            name: "grid",
            kind: Kind::Word(&["fine", "anchored"]),
            about: "where sub-paths start: at every k-phi-th timestep, or every k-th",
            default: "fine",
        },
        SOLVER,
        LOSS,
        HUBER_C,
    ],
    defaults: &[("lr", "8e-6"), ("ema-decay", "0.95"), ("steps", "4000")],
    set: |values, teacher| {
        let settings = Settings::of(values, teacher.prediction)?;
        settings.grid_timesteps(&teacher.schedule)?;
        Ok(Box::new(settings))
    },
};

/// The options of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What the outputs of teacher and student mean.
    pub prediction: PredictionType,
    /// The teacher's guidance scale in the standard form; 3 in the paper's main tables.
    pub guidance: f64,
    /// Timesteps from one end of a sub-path to the other: a multiple of `k_phi`.
    pub k: usize,
    /// Timesteps of one step of the teacher; 20 in the paper.
    pub k_phi: usize,
    /// What integrates the teacher's ODE; DDIM in the paper.
    pub solver: Solver,
    /// How much noise a state between the ends is taken to hold.
    pub sigma: Sigma,
    /// How the student is told γ.
    pub gamma_embed: GammaEmbed,
    /// Which timesteps a sample may start at.
    pub grid: Grid,
    /// How γ is drawn from 0..=1.
    pub gammas: Gammas,
    /// The distance to minimise; the pseudo-Huber one in the paper.
    pub loss: Loss,
}

/// How γ is drawn from 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gammas {
    /// The probability of exactly 1.
    pub one_probability: f64,
    /// Otherwise γ is a uniform number to this power; 1 in the paper.
    pub power: f64,
}

/// The noise of a state between the ends of a sub-path (spec 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sigma {
    /// `(1 − γ)·r·σ_s + γ·σ_t`, exact where the end is the teacher's word.
    Linear,
    /// `√((r·σ_s)² + γ²·(1 − r²))`, as the released script has it.
    Variance,
}

/// Where sub-paths may start (spec 1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Every timestep of the teacher's grid.
    Fine,
    /// Every `k`-th timestep.
    Anchored,
}

/// What is drawn for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The noisier end of the sub-path, one of [`Settings::grid_timesteps`].
    pub timestep: usize,
    /// Where on the sub-path the student stands, from 0 (the teacher's word) to 1.
    pub gamma: f64,
}

impl Settings {
    /// The settings that `values` stand for.
    fn of(values: &Values, prediction: PredictionType) -> Result<Settings, DistillError> {
        let sigmas = [("linear", Sigma::Linear), ("variance", Sigma::Variance)];
        let embeds = [
            ("zero_at_one", GammaEmbed::ZeroAtOne),
            ("official", GammaEmbed::Official),
            ("matched", GammaEmbed::Matched),
        ];
        let grids = [("fine", Grid::Fine), ("anchored", Grid::Anchored)];
        Ok(Settings {
            prediction,
            guidance: values.number("guidance"),
            k: values.positive("k")?,
            k_phi: values.positive("k-phi")?,
            solver: Solver::set(values),
            sigma: values.word("sigma", &sigmas),
            gamma_embed: values.word("gamma-embed", &embeds),
            grid: values.word("grid", &grids),
            gammas: Gammas {
                one_probability: values.number_within("gamma-one-probability", 0.0, 1.0)?,
                power: values.above_zero("gamma-power")?,
            },
            loss: Loss::set(values)?,
        })
    }

    /// The timesteps at which samples start, in rising order.
    ///
    /// # Errors
    /// When k is no multiple of k_phi, or neither leaves a timestep in the schedule.
    pub fn grid_timesteps(&self, schedule: &NoiseSchedule) -> Result<Vec<usize>, DistillError> {
        self.roll_out()?;
        let stride = match self.grid {
            Grid::Fine => self.k_phi,
            Grid::Anchored => self.k,
        };
        let count = schedule.alphas_cumprod().len() / stride;
        match count {
            0 => Err(DistillError::Setting {
                name: "k",
                found: self.k.to_string(),
                wanted: format!("at most {}", schedule.alphas_cumprod().len()),
            }),
            count => Ok((1..=count).map(|j| j * stride - 1).collect()),
        }
    }

    fn roll_out(&self) -> Result<RollOut, DistillError> {
        /// Calls of the teacher in one step; beyond, a program is out of all proportion.
        const STEPS_MAX: usize = 1000;
        let stride = self.k_phi;
        let steps = self.k.checked_div(stride).unwrap_or(0);
        if steps == 0 || steps > STEPS_MAX || !self.k.is_multiple_of(stride) {
            return Err(DistillError::Setting {
                name: "k",
                found: self.k.to_string(),
                wanted: format!("1 to {STEPS_MAX} times k_phi, which is {stride}"),
            });
        }
        Ok(RollOut {
            solver: self.solver,
            prediction: self.prediction,
            stride,
            steps,
            guided: true,
        })
    }
}

impl Method for Settings {
    fn draws(&self, schedule: &NoiseSchedule) -> Result<Vec<Draw>, DistillError> {
        let timesteps = self.grid_timesteps(schedule)?.into_iter();
        Ok(vec![
            Draw {
                name: "timesteps",
                distribution: Distribution::OneOf(timesteps.map(|t| t as f64).collect()),
            },
            Draw {
                name: "gamma",
                distribution: Distribution::Power {
                    low: 0.0,
                    high: 1.0,
                    power: self.gammas.power,
                    at_high: self.gammas.one_probability,
                },
            },
        ])
    }

    fn numbers(
        &self,
        schedule: &NoiseSchedule,
        features: Option<usize>,
        of: &Drawn,
    ) -> Result<Numbers, DistillError> {
        let timesteps = drawn_timesteps(of)?.into_iter();
        let pairs = timesteps.zip(drawn(of, "gamma")?);
        let sample = |(timestep, &gamma)| Sample { timestep, gamma };
        let samples: Vec<Sample> = pairs.map(sample).collect();
        numbers(self, schedule, features, &samples)
    }

    fn write(&self, scene: &mut Scene<'_>) -> Result<Written, DistillError> {
        write(scene, self)
    }

    fn student(&self) -> Student {
        Student {
            condition: (self.gamma_embed != GammaEmbed::Matched).then_some(CONDITION_WIDTH),
            adapter: None,
        }
    }

    fn result(&self) -> Outcome {
        let stride = match self.grid {
            Grid::Fine => self.k_phi,
            Grid::Anchored => self.k,
        };
        Outcome {
            sampler: Some(lcm_sampler(stride)),
            distilled: Some(Distilled {
                method: METHOD.name.to_owned(),
                steps: 4,
                guidance: Some(1.0),
                distilled_guidance: Some(self.guidance.to_string()),
                windows: None,
            }),
            condition: match self.gamma_embed {
                GammaEmbed::Matched => Folding::Keep,
                form @ (GammaEmbed::ZeroAtOne | GammaEmbed::Official) => Folding::Fold(form),
            },
        }
    }
}

/// The noise of the state at `gamma` between `start` and `end`.
pub fn sigma(form: Sigma, start: Point, end: Point, gamma: f64) -> f64 {
    let r = start.alpha / end.alpha;
    let a = r * end.sigma;
    match form {
        Sigma::Linear => (1.0 - gamma) * a + gamma * start.sigma,
        Sigma::Variance => (a * a + gamma * gamma * (1.0 - r * r)).sqrt(),
    }
}

/// The numbers of a step: the teacher's rows, `guidance`, `gamma.end` and `gamma.start` (the
/// factors of the ends in the student's state, spec 1.3 eq. 12), the timesteps and rows of student
/// and target, and for a student with a condition `student.timestep_cond` and
/// `target.timestep_cond` `[batch, features]`; for [`GammaEmbed::Matched`] the scale of what the
/// student is fed, `student.input` `[batch]`.
///
/// # Errors
/// When k is no multiple of k_phi, a timestep is not on the grid, or γ is not in 0..=1.
pub fn numbers(
    settings: &Settings,
    schedule: &NoiseSchedule,
    features: Option<usize>,
    samples: &[Sample],
) -> Result<Numbers, DistillError> {
    let teacher = settings.roll_out()?;
    let mut paths = Vec::new();
    for (place, sample) in samples.iter().enumerate() {
        paths.push(path(settings, &teacher, schedule, place, sample)?);
    }
    let of = |number: &dyn Fn(&Path, f64) -> f64| -> Vec<f64> {
        let pairs = paths.iter().zip(samples);
        pairs
            .map(|(path, sample)| number(path, sample.gamma))
            .collect()
    };
    let ends = of(&|path, gamma| (1.0 - gamma) * path.start().alpha / path.end().alpha);
    let sigmas = of(&|path, gamma| sigma(settings.sigma, path.start(), path.end(), gamma));
    let mut numbers = teacher.numbers(&paths);
    let mut add = |name: &str, tensor| numbers.insert(name.to_owned(), tensor);
    add("guidance", vector(&vec![settings.guidance; samples.len()]));
    add("gamma.end", vector(&ends));
    add("gamma.start", vector(&of(&|_, gamma| gamma)));
    if let Some(features) = features {
        let embeddings = |gammas: Vec<f64>| {
            let embedding = |&gamma: &f64| gamma_embedding(settings.gamma_embed, gamma, features);
            let all: Vec<f32> = gammas.iter().flat_map(embedding).collect();
            Tensor::from_f32(&[gammas.len(), features], &all)
        };
        add("student.timestep_cond", embeddings(of(&|_, gamma| gamma)));
        add("target.timestep_cond", embeddings(of(&|_, _| 1.0)));
    }
    let starts: Vec<(Point, f64)> = paths.iter().map(Path::start).zip(sigmas).collect();
    let ends = paths.iter().map(|path| (path.end(), path.end().sigma));
    numbers.extend(row::at_points("target", settings.prediction, ends));
    match settings.gamma_embed {
        GammaEmbed::ZeroAtOne | GammaEmbed::Official => {
            let starts = starts.into_iter();
            numbers.extend(row::at_points("student", settings.prediction, starts));
        }
        GammaEmbed::Matched => numbers.extend(matched(settings.prediction, schedule, &starts)),
    }
    Ok(numbers)
}

/// The student's numbers where it is called at the timestep whose noise is that of the state:
/// `student.input` is the scale of the state z of `alpha` of signal and `sigma` of noise that makes
/// it one of the schedule, `1/√(alpha² + sigma²)`; its clean latents are `(z − sigma·ε)/alpha`.
fn matched(
    prediction: PredictionType,
    schedule: &NoiseSchedule,
    states: &[(Point, f64)],
) -> Numbers {
    let norm = |&(point, sigma): &(Point, f64)| point.alpha.hypot(sigma);
    let scales: Vec<f64> = states.iter().map(|state| 1.0 / norm(state)).collect();
    let timestep = |(point, sigma): &(Point, f64)| schedule.timestep_of(sigma / point.alpha);
    let timesteps: Vec<f64> = states.iter().map(timestep).collect();
    let rows = states.iter().map(|state| {
        let (point, sigma) = *state;
        row::consistency_of_scaled(prediction, point, sigma, norm(state))
    });
    let rows: Vec<row::Row> = rows.collect();
    let all = |number: fn(&row::Row) -> f64| vector(&rows.iter().map(number).collect::<Vec<_>>());
    Numbers::from([
        ("student.input".to_owned(), vector(&scales)),
        ("student.timestep".to_owned(), vector(&timesteps)),
        ("student.state".to_owned(), all(|row| row.state)),
        ("student.output".to_owned(), all(|row| row.output)),
    ])
}

/// The teacher's way for one sample.
fn path(
    settings: &Settings,
    teacher: &RollOut,
    schedule: &NoiseSchedule,
    place: usize,
    sample: &Sample,
) -> Result<Path, DistillError> {
    if !(0.0..=1.0).contains(&sample.gamma) {
        return Err(DistillError::Sample {
            sample: place,
            name: "gamma",
            found: sample.gamma,
            wanted: "a number from 0 to 1".to_owned(),
        });
    }
    if settings.grid == Grid::Anchored && !(sample.timestep + 1).is_multiple_of(settings.k) {
        return Err(DistillError::Sample {
            sample: place,
            name: "timestep",
            found: sample.timestep as f64,
            wanted: format!("one less than a multiple of {}", settings.k),
        });
    }
    teacher.path(schedule, place, sample.timestep)
}

/// Writes the step.
fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
    let path = settings.roll_out()?.write(scene, "splad")?;
    let (z_t, z_s) = (path[0], stop_gradient(scene, path[path.len() - 1])?);
    let factors = [scene.numbers("gamma.end")?, scene.numbers("gamma.start")?];
    let z_gamma = row::combine(&mut scene.builder, factors, [z_s, z_t])?;
    let student = scene.flat_network(STUDENT)?;
    let ema = scene.flat_network(EMA)?;
    let features = condition(scene, settings, student.condition_features())?;
    let mut at = |who: &str, sample| -> Result<At, DistillError> {
        let name = format!("{who}.timestep_cond");
        let batch = scene.sizes.batch;
        let input = |features| {
            let ty = TensorType::new(DType::F32, [batch, features]);
            scene.builder.input(&name, ty)
        };
        let timestep_cond = features.map(input).transpose()?;
        Ok(At {
            sample,
            timestep: scene.numbers(&format!("{who}.timestep"))?,
            timestep_cond,
        })
    };
    let (mut at_gamma, at_end) = (at("student", z_gamma)?, at("target", z_s)?);
    if settings.gamma_embed == GammaEmbed::Matched {
        let scale = scene.numbers("student.input")?;
        let scale = row::per_image(&mut scene.builder, scale)?;
        at_gamma.sample = scene.builder.push(Mul, &[scale, z_gamma])?;
    }
    let (target_eps, target) = scene.consistent(&ema, "target", &at_end, z_s)?;
    let target = stop_gradient(scene, target)?;
    let (student_eps, model_pred) = scene.consistent(&student, "student", &at_gamma, z_gamma)?;
    let loss = settings
        .loss
        .write(&mut scene.builder, model_pred, target)?;
    let named = vec![
        ("z_t", z_t),
        ("z_s", z_s),
        ("z_gamma", z_gamma),
        ("target_eps", target_eps),
        ("target", target),
        ("student_eps", student_eps),
        ("model_pred", model_pred),
    ];
    Ok(Written { loss, named })
}

/// The features of the student's condition, checked against how it is told γ.
fn condition(
    scene: &Scene<'_>,
    settings: &Settings,
    features: Option<usize>,
) -> Result<Option<usize>, DistillError> {
    let wrong = |found: &str, wanted| DistillError::Interface {
        func: scene.bodies.student.name().to_owned(),
        found: found.to_owned(),
        wanted,
    };
    let matched = settings.gamma_embed == GammaEmbed::Matched;
    match (matched, features) {
        (true, Some(_)) => Err(wrong("an input \"timestep_cond\"", "no condition on gamma")),
        (false, None) => Err(wrong("no input \"timestep_cond\"", "a condition on gamma")),
        (true, None) | (false, Some(_)) => Ok(features),
    }
}
