//! The teacher's roll-out: guided steps of a solver from a noised latent towards the data.
//!
//! Takes a solver and the timesteps at which samples start; gives the points that each sample
//! passes, the numbers of every step, and the nodes. A sample that has arrived stays: its row is
//! (1, 0). It knows no loss.

use std::collections::BTreeMap;

use compiler::graph::{TensorType, Value};
use compiler::ops::{Add, Concat, Mul, Reshape, Slice, Sub};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::error::DistillError;
use super::network::{At, Network};
use super::row::{self, Point, Row};
use super::row::{Numbers, vector};
use super::scene::Scene;
use super::settings::{Kind, Setting, Values};
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// What integrates the teacher's ODE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// DDIM, of first order (arXiv 2010.02502, eq. 12).
    Ddim,
    /// DPM-Solver++(2M), of second order from a roll-out's second step on (arXiv 2211.01095,
    /// algorithm 2; spec 4.4).
    DpmPlusPlus2M,
}

/// The setting of the solver.
pub(super) const SOLVER: Setting = Setting {
    name: "solver",
    kind: Kind::Word(&["ddim", "dpm++2m"]),
    about: "what integrates the teacher's ODE; dpm++2m is of second order where a roll-out has \
            several steps",
    default: "ddim",
};

impl Solver {
    /// The solver that [`SOLVER`] stands for.
    pub(super) fn set(values: &Values) -> Solver {
        let words = [("ddim", Solver::Ddim), ("dpm++2m", Solver::DpmPlusPlus2M)];
        values.word(SOLVER.name, &words)
    }
}

/// How a teacher walks.
#[derive(Debug, Clone, Copy)]
pub(super) struct RollOut {
    pub(super) solver: Solver,
    pub(super) prediction: PredictionType,
    /// Timesteps of one step of the solver.
    pub(super) stride: usize,
    /// Steps at most.
    pub(super) steps: usize,
    /// Whether the teacher is called with and without the caption.
    pub(super) guided: bool,
}

/// A sample's way: where it starts, and where it is after each step.
pub(super) struct Path {
    pub(super) points: Vec<Point>,
}

impl Path {
    /// The way through `timesteps`; none when the schedule lacks one.
    pub(super) fn through(
        schedule: &NoiseSchedule,
        timesteps: impl Iterator<Item = usize>,
    ) -> Option<Path> {
        let points = timesteps.map(|timestep| Point::of(schedule, timestep));
        let points = points.collect::<Option<_>>()?;
        Some(Path { points })
    }

    pub(super) fn start(&self) -> Point {
        self.points[0]
    }

    pub(super) fn end(&self) -> Point {
        self.points[self.points.len() - 1]
    }
}

impl RollOut {
    /// The way from `timestep`, which is one less than a multiple of the stride; the last stride
    /// ends at timestep 0 (spec 1.6).
    ///
    /// # Errors
    /// When the schedule or the grid does not hold the timestep.
    pub(super) fn path(
        &self,
        schedule: &NoiseSchedule,
        sample: usize,
        timestep: usize,
    ) -> Result<Path, DistillError> {
        let stride = self.stride;
        let wrong = || DistillError::Sample {
            sample,
            name: "timestep",
            found: timestep as f64,
            wanted: format!(
                "one less than a multiple of {stride}, below {}",
                schedule.alphas_cumprod().len()
            ),
        };
        if !(timestep + 1).is_multiple_of(stride) {
            return Err(wrong());
        }
        let timesteps = (0..=self.steps).map(|i| timestep.saturating_sub(i.saturating_mul(stride)));
        Path::through(schedule, timesteps).ok_or_else(wrong)
    }

    /// The numbers of every step: `teacher.timestep`, `teacher.state` and `teacher.output`
    /// `[steps, batch]`, `start.alpha` and `start.sigma` `[batch]`; of a solver that remembers also
    /// `teacher.clean_state` and `teacher.clean_output`, which give the clean latents, and
    /// `teacher.previous`, the factor of those of the step before.
    pub(super) fn numbers(&self, paths: &[Path]) -> Numbers {
        let (mut timesteps, mut states, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut clean_states, mut clean_outputs) = (Vec::new(), Vec::new());
        let mut previous = Vec::new();
        for step in 0..self.steps {
            for path in paths {
                let (from, to) = (path.points[step], path.points[step + 1]);
                let before = step.checked_sub(1).map(|before| path.points[before]);
                let before = before.filter(|_| self.solver == Solver::DpmPlusPlus2M);
                let (row, factor) = match (from == to, before) {
                    (true, _) => (Row::STAY, 0.0),
                    (false, None) => (row::ddim(self.prediction, from, to), 0.0),
                    (false, Some(before)) => row::dpm_2m(self.prediction, [before, from, to]),
                };
                let clean = row::clean(self.prediction, from.alpha, from.sigma);
                timesteps.push(from.timestep as f32);
                states.push(row.state as f32);
                outputs.push(row.output as f32);
                clean_states.push(clean.state as f32);
                clean_outputs.push(clean.output as f32);
                previous.push(factor as f32);
            }
        }
        let table = |numbers: &[f32]| Tensor::from_f32(&[self.steps, paths.len()], numbers);
        let start = |number: fn(Point) -> f64| {
            let numbers: Vec<f64> = paths.iter().map(|path| number(path.start())).collect();
            vector(&numbers)
        };
        let mut numbers = Numbers::from([
            ("teacher.timestep".to_owned(), table(&timesteps)),
            ("teacher.state".to_owned(), table(&states)),
            ("teacher.output".to_owned(), table(&outputs)),
            ("start.alpha".to_owned(), start(|point| point.alpha)),
            ("start.sigma".to_owned(), start(|point| point.sigma)),
        ]);
        if self.remembers() {
            let tables = [&clean_states, &clean_outputs, &previous];
            let tables = MEMORY.iter().zip(tables);
            numbers.extend(tables.map(|(name, numbers)| ((*name).to_owned(), table(numbers))));
        }
        numbers
    }

    /// Whether a step reads what the one before computed.
    fn remembers(&self) -> bool {
        self.solver == Solver::DpmPlusPlus2M && self.steps > 1
    }

    /// Noises the latents and lets the teacher walk, where it is guided with the caption and without
    /// as one batch of twice the size. Returns the state before each step and the last one. Reads
    /// `guidance` `[batch]` in the standard form `o_u + guidance·(o_c − o_u)`.
    pub(super) fn write(
        &self,
        scene: &mut Scene<'_>,
        method: &'static str,
    ) -> Result<Vec<Value>, DistillError> {
        let start = [scene.numbers("start.alpha")?, scene.numbers("start.sigma")?];
        let ends = [scene.latents, scene.noise];
        let mut path = vec![row::combine(&mut scene.builder, start, ends)?];
        let guide = Guide::of(scene, method, self.guided)?;
        let shape = TensorType::new(DType::F32, [self.steps, scene.sizes.batch]);
        let tables = ["teacher.timestep", "teacher.state", "teacher.output"];
        let mut inputs = Vec::new();
        for name in tables {
            inputs.push(scene.builder.input(name, shape.clone())?);
        }
        let mut memory = Vec::new();
        if self.remembers() {
            for name in MEMORY {
                memory.push(scene.builder.input(name, shape.clone())?);
            }
        }
        let mut clean = None;
        for step in 0..self.steps {
            let state = path[step];
            let timestep = line(scene, inputs[0], step)?;
            let numbers = [line(scene, inputs[1], step)?, line(scene, inputs[2], step)?];
            let output = guide.call(scene, state, timestep)?;
            let mut next = row::combine(&mut scene.builder, numbers, [state, output])?;
            if let [clean_state, clean_output, previous] = memory[..] {
                if let Some(before) = clean {
                    let factor = line(scene, previous, step)?;
                    let factor = row::per_image(&mut scene.builder, factor)?;
                    let before = scene.builder.push(Mul, &[factor, before])?;
                    next = scene.builder.push(Add, &[next, before])?;
                }
                let numbers = [
                    line(scene, clean_state, step)?,
                    line(scene, clean_output, step)?,
                ];
                clean = Some(row::combine(&mut scene.builder, numbers, [state, output])?);
            }
            path.push(next);
        }
        Ok(path)
    }
}

/// The tables of a solver that remembers: the factors of a state and an output in the clean
/// latents, and that of the clean latents before.
const MEMORY: [&str; 3] = [
    "teacher.clean_state",
    "teacher.clean_output",
    "teacher.previous",
];

/// The teacher as a roll-out calls it.
struct Guide {
    teacher: Network,
    conditions: BTreeMap<String, Value>,
    /// The scale per image; `None` where the caption alone conditions.
    guidance: Option<Value>,
}

impl Guide {
    fn of(
        scene: &mut Scene<'_>,
        method: &'static str,
        guided: bool,
    ) -> Result<Guide, DistillError> {
        if !guided {
            return Ok(Guide {
                teacher: scene.teacher(method, 1)?,
                conditions: scene.conditions.clone(),
                guidance: None,
            });
        }
        let teacher = scene.teacher(method, 2)?;
        let conditions = scene.doubled_conditions()?;
        let guidance = scene.numbers("guidance")?;
        Ok(Guide {
            teacher,
            conditions,
            guidance: Some(row::per_image(&mut scene.builder, guidance)?),
        })
    }

    /// What the teacher says of a state, guided if it is to be.
    fn call(
        &self,
        scene: &mut Scene<'_>,
        state: Value,
        timestep: Value,
    ) -> Result<Value, DistillError> {
        let at = |sample, timestep| At {
            sample,
            timestep,
            timestep_cond: None,
        };
        let builder = &mut scene.builder;
        let Some(guidance) = self.guidance else {
            return self
                .teacher
                .call(builder, &at(state, timestep), &self.conditions);
        };
        let states = builder.push(Concat { axis: 0 }, &[state, state])?;
        let timesteps = builder.push(Concat { axis: 0 }, &[timestep, timestep])?;
        let both = self
            .teacher
            .call(builder, &at(states, timesteps), &self.conditions)?;
        let [without, with] = [half(scene, both, 0)?, half(scene, both, 1)?];
        let builder = &mut scene.builder;
        let towards = builder.push(Sub, &[with, without])?;
        let towards = builder.push(Mul, &[guidance, towards])?;
        Ok(builder.push(Add, &[without, towards])?)
    }
}

/// Line `step` of a table `[steps, batch]`: `[batch]`.
fn line(scene: &mut Scene<'_>, table: Value, step: usize) -> Result<Value, DistillError> {
    let line = scene.builder.push(Slice::new(0, step, 1), &[table])?;
    let shape = vec![Dim::from(scene.sizes.batch)];
    Ok(scene.builder.push(Reshape { shape }, &[line])?)
}

/// One batch of the two in `both`.
fn half(scene: &mut Scene<'_>, both: Value, which: usize) -> Result<Value, DistillError> {
    let batch = scene.sizes.batch;
    let slice = Slice::new(0, which * batch, batch);
    Ok(scene.builder.push(slice, &[both])?)
}

#[cfg(test)]
mod tests {
    use compiler::value::tensor::Values;

    use super::*;
    use crate::noise_schedule::{BetaSchedule, NoiseScheduleSpec};

    /// diffusers 0.42.1, `DPMSolverMultistepScheduler` with `solver_order=2` and
    /// `timesteps=[999, 899, 799, 699, 599]` on the output `0.3·x + 0.1` from x = 1.
    const STATES: [f64; 4] = [
        1.449_762_111_695,
        1.970_333_786_218,
        2.550_731_490_507,
        3.153_870_514_029,
    ];

    #[test]
    fn a_roll_out_of_second_order_is_that_of_diffusers() {
        let schedule = NoiseSchedule::new(&NoiseScheduleSpec {
            num_train_timesteps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            trained_betas: None,
            zero_terminal_snr: false,
        });
        let schedule = schedule.expect("a schedule");
        let roll_out = RollOut {
            solver: Solver::DpmPlusPlus2M,
            prediction: PredictionType::Epsilon,
            stride: 100,
            steps: STATES.len(),
            guided: false,
        };
        let path = roll_out.path(&schedule, 0, 999).expect("a timestep");
        let numbers = roll_out.numbers(&[path]);
        let table = |name: &str| match numbers[name].values() {
            Values::Float(values) => values,
            Values::Int(_) | Values::Bool(_) => panic!("{name} holds floats"),
        };
        let [states, outputs] = ["teacher.state", "teacher.output"].map(table);
        let [clean_states, clean_outputs, previous] = MEMORY.map(table);
        let (mut x, mut clean) = (1.0, 0.0);
        for (step, wanted) in STATES.iter().enumerate() {
            let output = 0.3 * x + 0.1;
            let next = states[step] * x + outputs[step] * output + previous[step] * clean;
            clean = clean_states[step] * x + clean_outputs[step] * output;
            x = next;
            // Both tables are f32.
            assert!(
                (x - wanted).abs() < 1e-5,
                "step {step}: {x}, wanted {wanted}"
            );
        }
    }
}
