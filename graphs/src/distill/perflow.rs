//! PeRFlow: straight lines inside time windows, from noised latents to where the teacher ends
//! (arXiv 2405.07510; spec 3).
//!
//! Takes settings, and the timestep drawn for each sample, 1 to the schedule's length: one more
//! than the index of the noise there (spec 3.1). Returns the nodes up to the loss, and the numbers
//! of a step. Each sample begins at the noisy end of the window that holds its timestep; the
//! teacher walks to the other end; the student stands on the line between and predicts its end.

use compiler::program::pipeline::Distilled;
use compiler::program::training::names::STUDENT;
use compiler::program::training::{Distribution, Draw, Drawn};
use serde_json::{Map, Value};

use super::adapter::{self, Adapter};
use super::error::DistillError;
use super::loss::{HUBER_C, LOSS, Loss};
use super::method::{Entry, Folding, Method, Outcome, Student, Teacher, drawn_timesteps};
use super::network::At;
use super::roll_out::{Path, RollOut, SOLVER, Solver};
use super::row::{self, Numbers, Point, vector};
use super::scene::{Scene, Written, stop_gradient};
use super::settings::{Kind, Setting, Values};
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// The method in the table.
pub(super) const METHOD: Entry = Entry {
    name: "perflow",
    about: "piecewise rectified flow: straight lines in time windows",
    settings: &[
        Setting {
            name: "windows",
            kind: Kind::Count,
            about: "time windows, each with a straight line",
            default: "4",
        },
        Setting {
            name: "solver-steps",
            kind: Kind::Count,
            about: "steps of the teacher's solver in a window",
            default: "8",
        },
        SOLVER,
        Setting {
            name: "output",
            kind: Kind::Word(&["ddim_eps", "diff_eps", "velocity"]),
            about: "what the student predicts: the noise of one DDIM jump over the window, that of \
                    the forward process, or the line's direction",
            default: "ddim_eps",
        },
        Setting {
            name: "guidance-mode",
            kind: Kind::Word(&["sync", "fixed"]),
            about: "sync: teacher and student see the same caption, and sampling is guided as \
                    before; fixed: the teacher is guided with the scale of --guidance",
            default: "sync",
        },
        Setting {
            name: "guidance",
            kind: Kind::Number,
            about: "the teacher's guidance scale in the standard form, for --guidance-mode fixed",
            default: "7.5",
        },
        Setting {
            name: "rank",
            about: "train low-rank matrices of this rank in place of all weights; 0 for all weights",
            default: "0",
            ..adapter::RANK
        },
        adapter::ALPHA,
        Setting {
            default: "l2",
            ..LOSS
        },
        HUBER_C,
    ],
    defaults: &[
        ("lr", "8e-5"),
        ("caption-dropout", "0.1"),
        ("ema-decay", "0.9999"),
        ("ema-warmup", "true"),
        ("steps", "4000"),
    ],
    set: |values, teacher| Ok(Box::new(Settings::of(values, teacher)?)),
};

/// The options of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What the teacher's output means.
    pub prediction: PredictionType,
    /// Time windows.
    pub windows: usize,
    /// Steps of the teacher in a window.
    pub solver_steps: usize,
    /// What integrates the teacher's ODE; DDIM in the released script.
    pub solver: Solver,
    /// What the student predicts.
    pub output: Output,
    /// The teacher's guidance scale in the standard form where the student sees captions of its
    /// own; `None` where both see the same caption and nothing is guided (spec 3.3).
    pub guidance: Option<f64>,
    /// The matrices that are trained in place of all weights.
    pub adapter: Option<Adapter>,
    /// The distance to minimise.
    pub loss: Loss,
}

/// What the student predicts (spec 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// ε of one DDIM jump over the window.
    DdimEpsilon,
    /// ε of the forward kernel over the window.
    DiffusionEpsilon,
    /// The line's direction `(z_e − z_s)/(t_e − t_s)`.
    Velocity,
}

/// The words for what the student predicts, which are those of the sampler's configuration.
const OUTPUTS: [(&str, Output); 3] = [
    ("ddim_eps", Output::DdimEpsilon),
    ("diff_eps", Output::DiffusionEpsilon),
    ("velocity", Output::Velocity),
];

impl Settings {
    /// The settings that `values` stand for.
    fn of(values: &Values, teacher: &Teacher) -> Result<Settings, DistillError> {
        let guidance = match values.word("guidance-mode", &[("sync", false), ("fixed", true)]) {
            true => Some(values.number("guidance")),
            false => None,
        };
        let adapter = match values.count("rank") {
            0 => None,
            _ => Some(Adapter::set(values)?),
        };
        let length = teacher.schedule.alphas_cumprod().len();
        let (windows, solver_steps) = (
            values.positive("windows")?,
            values.positive("solver-steps")?,
        );
        if !length.is_multiple_of(windows) {
            return Err(values.wrong("windows", format!("a divisor of {length}")));
        }
        if solver_steps > length / windows {
            return Err(values.wrong("solver-steps", format!("at most {}", length / windows)));
        }
        let output = values.word("output", &OUTPUTS);
        let last = Point::of(&teacher.schedule, length - 1);
        if output != Output::Velocity && last.is_some_and(|last| last.alpha == 0.0) {
            // Clean latents cannot be told from noise alone.
            let wanted = "velocity, because the teacher's last timestep holds no signal";
            return Err(values.wrong("output", wanted.to_owned()));
        }
        Ok(Settings {
            prediction: teacher.prediction,
            windows,
            solver_steps,
            solver: Solver::set(values),
            output,
            guidance,
            adapter,
            loss: Loss::set(values)?,
        })
    }

    fn roll_out(&self) -> RollOut {
        RollOut {
            solver: self.solver,
            prediction: self.prediction,
            // A path is given by its points; its steps are not all of one length.
            stride: 1,
            steps: self.solver_steps,
            guided: self.guidance.is_some(),
        }
    }
}

impl Method for Settings {
    fn draws(&self, schedule: &NoiseSchedule) -> Result<Vec<Draw>, DistillError> {
        let timesteps = 1..=schedule.alphas_cumprod().len();
        Ok(vec![Draw {
            name: "timesteps",
            distribution: Distribution::OneOf(timesteps.map(|t| t as f64).collect()),
        }])
    }

    fn numbers(
        &self,
        schedule: &NoiseSchedule,
        _features: Option<usize>,
        drawn: &Drawn,
    ) -> Result<Numbers, DistillError> {
        numbers(self, schedule, &drawn_timesteps(drawn)?)
    }

    fn write(&self, scene: &mut Scene<'_>) -> Result<Written, DistillError> {
        write(scene, self)
    }

    fn student(&self) -> Student {
        Student {
            condition: None,
            adapter: self.adapter,
        }
    }

    fn result(&self) -> Outcome {
        let word = OUTPUTS.iter().find(|(_, output)| *output == self.output);
        let options = [
            ("prediction_type", Value::from(word.map(|(word, _)| *word))),
            ("num_time_windows", Value::from(self.windows)),
            ("t_noise", Value::from(1)),
            ("t_clean", Value::from(0)),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value));
        Outcome {
            sampler: Some(("PeRFlowScheduler", Map::from_iter(options))),
            distilled: Some(Distilled {
                method: METHOD.name.to_owned(),
                steps: self.windows,
                // Sampled as before where captions are shared, guided a little where the teacher
                // was (spec 3.3).
                guidance: self.guidance.map(|_| 2.0),
                distilled_guidance: self.guidance.map(|scale| scale.to_string()),
                windows: Some(self.windows),
            }),
            condition: Folding::Keep,
        }
    }
}

/// A window with the timesteps, in thousandths of the time for a schedule of 1000, of its ends.
struct Window {
    start: usize,
    end: usize,
}

impl Window {
    /// The window that holds `timestep`, 1 to `length` (spec 3.1).
    fn of(windows: usize, length: usize, timestep: usize) -> Window {
        let width = length / windows;
        let end = (timestep - 1) / width * width;
        Window {
            start: end + width,
            end,
        }
    }

    /// The teacher's way from the start to the end: as many steps as asked for, each from the index
    /// of the noise nearest to an even division, ties to even (spec 3.2).
    fn path(&self, schedule: &NoiseSchedule, steps: usize) -> Option<Path> {
        let width = (self.start - self.end) as f64;
        let index = |step: usize| {
            let timestep = self.start as f64 - width * step as f64 / steps as f64;
            (timestep - 1.0).max(0.0).round_ties_even() as usize
        };
        Path::through(schedule, (0..=steps).map(index))
    }
}

/// The numbers of a step: the teacher's rows and `guidance`, `student.timestep`, the factors
/// `line.start` and `line.end` of the window's ends in the student's state, and `target.start` and
/// `target.end` of those in what it predicts, each `[batch]`.
///
/// # Errors
/// When a timestep is 0 or beyond the schedule.
pub fn numbers(
    settings: &Settings,
    schedule: &NoiseSchedule,
    timesteps: &[usize],
) -> Result<Numbers, DistillError> {
    let length = schedule.alphas_cumprod().len();
    let (mut paths, mut lines) = (Vec::new(), Vec::new());
    for (sample, &timestep) in timesteps.iter().enumerate() {
        let wrong = || DistillError::Sample {
            sample,
            name: "timestep",
            found: timestep as f64,
            wanted: format!("1 to {length}"),
        };
        if !(1..=length).contains(&timestep) {
            return Err(wrong());
        }
        let window = Window::of(settings.windows, length, timestep);
        paths.push(
            window
                .path(schedule, settings.solver_steps)
                .ok_or_else(wrong)?,
        );
        let towards_end = (window.start - timestep) as f64 / (window.start - window.end) as f64;
        lines.push((
            towards_end,
            (window.start - window.end) as f64 / length as f64,
        ));
    }
    let mut numbers = settings.roll_out().numbers(&paths);
    let mut add = |name: &str, values: Vec<f64>| {
        numbers.insert(name.to_owned(), vector(&values));
    };
    if let Some(guidance) = settings.guidance {
        add("guidance", vec![guidance; timesteps.len()]);
    }
    add(
        "student.timestep",
        timesteps.iter().map(|&t| t as f64).collect(),
    );
    add(
        "line.start",
        lines.iter().map(|(end, _)| 1.0 - end).collect(),
    );
    add("line.end", lines.iter().map(|(end, _)| *end).collect());
    let targets = paths.iter().zip(&lines);
    let targets: Vec<(f64, f64)> = targets
        .map(|(path, (_, width))| target(settings.output, path, *width))
        .collect();
    add(
        "target.start",
        targets.iter().map(|(start, _)| *start).collect(),
    );
    add("target.end", targets.iter().map(|(_, end)| *end).collect());
    Ok(numbers)
}

/// The factors of a window's ends in what the student predicts. From `z_e = λ·z_s + η·ε`, ε is
/// `(z_e − λ·z_s)/η`; the velocity is `(z_e − z_s)/(t_e − t_s)` (spec 3.4).
fn target(output: Output, path: &Path, width: f64) -> (f64, f64) {
    let (start, end) = (path.start(), path.end());
    let lambda = end.alpha / start.alpha;
    let eta = match output {
        Output::DdimEpsilon => end.sigma - lambda * start.sigma,
        Output::DiffusionEpsilon => {
            let gamma = start.alpha / end.alpha;
            -(1.0 - gamma * gamma).sqrt() / gamma
        }
        Output::Velocity => return (1.0 / width, -1.0 / width),
    };
    (-lambda / eta, 1.0 / eta)
}

/// Writes the step.
fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
    let path = settings.roll_out().write(scene, METHOD.name)?;
    let z_start = path[0];
    let z_end = stop_gradient(scene, path[path.len() - 1])?;
    let ends = [z_start, z_end];
    let line = [scene.numbers("line.start")?, scene.numbers("line.end")?];
    let z_t = row::combine(&mut scene.builder, line, ends)?;
    let factors = [scene.numbers("target.start")?, scene.numbers("target.end")?];
    let target = row::combine(&mut scene.builder, factors, ends)?;
    let student = scene.flat_network(STUDENT)?;
    let at = At {
        sample: z_t,
        timestep: scene.numbers("student.timestep")?,
        timestep_cond: None,
    };
    let conditions = match settings.guidance {
        Some(_) => scene.student_conditions()?,
        None => scene.conditions.clone(),
    };
    let output = student.call(&mut scene.builder, &at, &conditions)?;
    let loss = settings.loss.write(&mut scene.builder, output, target)?;
    let named = vec![
        ("z_start", z_start),
        ("z_end", z_end),
        ("z_t", z_t),
        ("student_out", output),
        ("target", target),
    ];
    Ok(Written { loss, named })
}
