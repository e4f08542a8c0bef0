//! The teacher's roll-out: guided DDIM steps from a noised latent towards the data.
//!
//! Takes a solver step and the timesteps at which samples start; gives the points that each sample
//! passes, the numbers of every step, and the nodes. A sample that has arrived stays: its row is
//! (1, 0). It knows no loss.

use compiler::graph::{TensorType, Value};
use compiler::ops::{Add, Concat, Mul, Reshape, Slice, Sub};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::error::DistillError;
use super::network::At;
use super::row::{self, Point, Row};
use super::row::{Numbers, vector};
use super::scene::Scene;
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// How a teacher walks.
#[derive(Debug, Clone, Copy)]
pub(super) struct RollOut {
    pub(super) prediction: PredictionType,
    /// Timesteps of one step of the solver.
    pub(super) stride: usize,
    /// Steps at most.
    pub(super) steps: usize,
}

/// A sample's way: where it starts, and where it is after each step.
pub(super) struct Path {
    pub(super) points: Vec<Point>,
}

impl Path {
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
        let points: Option<Vec<Point>> = timesteps.map(|t| Point::of(schedule, t)).collect();
        let points = points.ok_or_else(wrong)?;
        Ok(Path { points })
    }

    /// The numbers of every step: `teacher.timestep`, `teacher.state` and `teacher.output`
    /// `[steps, batch]`, `start.alpha` and `start.sigma` `[batch]`.
    pub(super) fn numbers(&self, paths: &[Path]) -> Numbers {
        let (mut timesteps, mut states, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..self.steps {
            for path in paths {
                let (from, to) = (path.points[step], path.points[step + 1]);
                let row = match from == to {
                    true => Row::STAY,
                    false => row::ddim(self.prediction, from, to),
                };
                timesteps.push(from.timestep as f32);
                states.push(row.state as f32);
                outputs.push(row.output as f32);
            }
        }
        let table = |numbers: &[f32]| Tensor::from_f32(&[self.steps, paths.len()], numbers);
        let start = |number: fn(Point) -> f64| {
            let numbers: Vec<f64> = paths.iter().map(|path| number(path.start())).collect();
            vector(&numbers)
        };
        Numbers::from([
            ("teacher.timestep".to_owned(), table(&timesteps)),
            ("teacher.state".to_owned(), table(&states)),
            ("teacher.output".to_owned(), table(&outputs)),
            ("start.alpha".to_owned(), start(|point| point.alpha)),
            ("start.sigma".to_owned(), start(|point| point.sigma)),
        ])
    }

    /// Noises the latents and lets the teacher walk, with the caption and without as one batch of
    /// twice the size. Gives the state before each step and the last one. Reads `guidance`
    /// `[batch]` in the standard form `o_u + guidance·(o_c − o_u)`.
    pub(super) fn write(
        &self,
        scene: &mut Scene<'_>,
        method: &'static str,
    ) -> Result<Vec<Value>, DistillError> {
        let start = [scene.numbers("start.alpha")?, scene.numbers("start.sigma")?];
        let ends = [scene.latents, scene.noise];
        let mut path = vec![row::combine(&mut scene.builder, start, ends)?];
        let teacher = scene.teacher(method)?;
        let conditions = scene.doubled_conditions()?;
        let guidance = scene.numbers("guidance")?;
        let guidance = row::per_image(&mut scene.builder, guidance)?;
        let shape = TensorType::new(DType::F32, [self.steps, scene.sizes.batch]);
        let tables = ["teacher.timestep", "teacher.state", "teacher.output"];
        let mut inputs = Vec::new();
        for name in tables {
            inputs.push(scene.builder.input(name, shape.clone())?);
        }
        for step in 0..self.steps {
            let state = path[step];
            let timestep = line(scene, inputs[0], step)?;
            let numbers = [line(scene, inputs[1], step)?, line(scene, inputs[2], step)?];
            let builder = &mut scene.builder;
            let at = At {
                sample: builder.push(Concat { axis: 0 }, &[state, state])?,
                timestep: builder.push(Concat { axis: 0 }, &[timestep, timestep])?,
                timestep_cond: None,
            };
            let both = teacher.call(builder, &at, &conditions)?;
            let [without, with] = [half(scene, both, 0)?, half(scene, both, 1)?];
            let builder = &mut scene.builder;
            let towards = builder.push(Sub, &[with, without])?;
            let towards = builder.push(Mul, &[guidance, towards])?;
            let output = builder.push(Add, &[without, towards])?;
            path.push(row::combine(builder, numbers, [state, output])?);
        }
        Ok(path)
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
