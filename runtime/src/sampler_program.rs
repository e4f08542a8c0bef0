//! A sampler's step as a program, for devices that keep the latents.
//!
//! Takes a sampler's table, the latents' shape and the network's types; gives a program of
//! guidance, rows and the network's next input, and the numbers that it wants at each step. It
//! computes what [`crate::sampler_step`] computes, in f32. Dynamic thresholding, which sorts, it
//! does not know.

use compiler::graph::{Builder, GraphError, TensorType, Value};
use compiler::ops::{Add, Cast, Concat, Div, Max, Min, Mul, Neg, Op, ReduceMean, ReduceSum};
use compiler::ops::{Reshape, Slice, Sqrt, Sub};
use compiler::program::sampler::{Guidance, Limit, Row, SamplerStep, SamplerTable};
use compiler::program::{CompileError, Program};
use compiler::value::tensor::Tensor;
use compiler::{DType, Dim};

/// The input that holds the numbers of a step.
pub(crate) const COEFFICIENTS: &str = "coefficients";
/// The input and result that are the latents.
pub(crate) const LATENTS: &str = "x";
/// The input that is the network's answer.
pub(crate) const OUTPUT: &str = "output";
/// The input that is the step's draw; what is not drawn must be finite.
pub(crate) const NOISE: &str = "noise";
/// The result that the network sees next.
pub(crate) const SAMPLE: &str = "sample";

/// Deviations from here on are not zero.
const SPREAD_MIN: f32 = 1e-30;

/// The input and result that are a history slot.
pub(crate) fn slot_name(slot: usize) -> String {
    format!("history.{slot}")
}

/// A program that takes any step of one table.
#[derive(Debug)]
pub(crate) struct SamplerProgram {
    /// The program.
    pub(crate) program: Program,
    guidance: Option<Guidance>,
    coefficients: Vec<Coefficient>,
}

/// What a program for the steps of a table depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    /// Extents of the latents, images first.
    pub(crate) latents: &'a [usize],
    /// The type of the network's input, twice the images with guidance.
    pub(crate) sample: &'a TensorType,
    /// The type of the network's answer, with the same extents.
    pub(crate) output: &'a TensorType,
    /// How both halves of the answer are combined, if it has two.
    pub(crate) guidance: Option<Guidance>,
}

/// One number of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coefficient {
    InputScale,
    Guidance,
    Rescale,
    Bound,
    Of(Target, Operand),
}

/// What a row gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Estimate,
    Next,
    Slot(usize),
}

/// What a row reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    X,
    Output,
    Estimate,
    Noise,
    Slot(usize),
}

impl SamplerProgram {
    /// The program for the steps of a table; `None` where a step thresholds by a quantile.
    ///
    /// # Errors
    /// When the types do not belong to these latents.
    pub(crate) fn of(
        table: &SamplerTable,
        shape: Shape,
    ) -> Result<Option<SamplerProgram>, CompileError> {
        let mut clips = false;
        for step in &table.steps {
            match step.limit {
                Limit::None => {}
                Limit::Clip { .. } => clips = true,
                Limit::Threshold { .. } => return Ok(None),
            }
        }
        let mut coefficients = vec![Coefficient::InputScale];
        if let Some(guidance) = shape.guidance {
            coefficients.push(Coefficient::Guidance);
            coefficients.extend((guidance.rescale > 0.0).then_some(Coefficient::Rescale));
        }
        coefficients.extend(clips.then_some(Coefficient::Bound));
        for target in targets(table) {
            let read = operands(table, target).into_iter();
            coefficients.extend(read.map(|operand| Coefficient::Of(target, operand)));
        }
        let built = State::build(table, shape, &coefficients);
        let func = built.map_err(|error| CompileError::Bind {
            func: "sampler".to_owned(),
            error,
        })?;
        Ok(Some(SamplerProgram {
            program: Program::new(func)?,
            guidance: shape.guidance,
            coefficients,
        }))
    }

    /// The numbers of a step `[count]`; `next` is the one that comes after it.
    pub(crate) fn coefficients(&self, step: &SamplerStep, next: Option<&SamplerStep>) -> Tensor {
        let guidance = self.guidance.unwrap_or(Guidance {
            scale: 1.0,
            rescale: 0.0,
        });
        let value = |coefficient: &Coefficient| match *coefficient {
            Coefficient::InputScale => next.map_or(1.0, |next| next.input_scale),
            Coefficient::Guidance => guidance.scale,
            Coefficient::Rescale => guidance.rescale,
            Coefficient::Bound => match step.limit {
                Limit::Clip { bound } => bound,
                Limit::None | Limit::Threshold { .. } => f64::from(f32::MAX),
            },
            Coefficient::Of(target, operand) => coefficient_of(&row(step, target), operand),
        };
        let values: Vec<f32> = self.coefficients.iter().map(|c| value(c) as f32).collect();
        Tensor::from_f32(&[values.len()], &values)
    }
}

/// What the rows of a table give, the estimate first.
fn targets(table: &SamplerTable) -> Vec<Target> {
    let slots = (0..table.history_slots).map(Target::Slot);
    [Target::Estimate, Target::Next]
        .into_iter()
        .chain(slots)
        .collect()
}

/// What a row reads at some step, in the order in which the host adds it up.
fn operands(table: &SamplerTable, target: Target) -> Vec<Operand> {
    use Operand::{Estimate, Noise, Output, Slot, X};
    let slots = (0..table.history_slots).map(Slot);
    let all = [X, Output, Estimate, Noise].into_iter().chain(slots);
    let is_read = |operand: &Operand| {
        let mut steps = table.steps.iter();
        steps.any(|step| coefficient_of(&row(step, target), *operand) != 0.0)
    };
    let read: Vec<Operand> = all.filter(is_read).collect();
    match read.is_empty() {
        true => vec![X],
        false => read,
    }
}

/// The row of a step; a slot that it does not store to stays.
fn row(step: &SamplerStep, target: Target) -> Row {
    match target {
        Target::Estimate => step.estimate,
        Target::Next => step.next,
        Target::Slot(slot) => match step.stores.iter().find(|store| store.slot == slot) {
            Some(store) => store.row,
            None => {
                let mut row = Row::default();
                row.history[slot] = 1.0;
                row
            }
        },
    }
}

fn coefficient_of(row: &Row, operand: Operand) -> f64 {
    match operand {
        Operand::X => row.x,
        Operand::Output => row.output,
        Operand::Estimate => row.x0,
        Operand::Noise => row.noise,
        Operand::Slot(slot) => row.history[slot],
    }
}

/// A program in the making.
struct State<'a> {
    builder: Builder,
    coefficients: &'a [Coefficient],
    /// The input that holds them.
    given: Value,
    images: usize,
    latents: Vec<Dim>,
}

impl State<'_> {
    fn build(
        table: &SamplerTable,
        shape: Shape,
        coefficients: &[Coefficient],
    ) -> Result<compiler::graph::Func, GraphError> {
        let mut builder = Builder::new("sampler");
        let float = |shape: &[usize]| TensorType::new(DType::F32, shape.iter().copied());
        let given = builder.input(COEFFICIENTS, float(&[coefficients.len()]))?;
        let x = builder.input(LATENTS, float(shape.latents))?;
        let answer = builder.input(OUTPUT, shape.output.clone())?;
        let noise = builder.input(NOISE, float(shape.latents))?;
        let slots = (0..table.history_slots)
            .map(|slot| builder.input(&slot_name(slot), float(shape.latents)))
            .collect::<Result<Vec<Value>, GraphError>>()?;
        let mut state = State {
            builder,
            coefficients,
            given,
            images: shape.latents.first().copied().unwrap_or(0),
            latents: shape.latents.iter().map(|&extent| extent.into()).collect(),
        };
        let answer = state.push(Cast { dtype: DType::F32 }, &[answer])?;
        let output = match shape.guidance {
            Some(_) => state.guided(answer)?,
            None => answer,
        };
        let mut read = Read {
            x,
            output,
            estimate: x,
            noise,
            slots,
        };
        let estimate = state.combine(Target::Estimate, &read)?;
        read.estimate = state.limited(estimate)?;
        let next = state.combine(Target::Next, &read)?;
        let mut stored = Vec::new();
        for slot in 0..table.history_slots {
            stored.push(state.combine(Target::Slot(slot), &read)?);
        }
        let sample = state.network_input(next, shape)?;
        state.builder.result(LATENTS, next)?;
        state.builder.result(SAMPLE, sample)?;
        for (slot, value) in stored.into_iter().enumerate() {
            state.builder.result(&slot_name(slot), value)?;
        }
        Ok(state.builder.finish())
    }

    fn push(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, GraphError> {
        self.builder.push(op, operands)
    }

    /// A number of the step `[1]`, if it has one.
    fn coefficient(&mut self, wanted: Coefficient) -> Result<Option<Value>, GraphError> {
        let found = self.coefficients.iter().position(|own| *own == wanted);
        let given = self.given;
        found.map(|place| self.part(given, place, 1)).transpose()
    }

    /// A number that is always the same `[1]`.
    fn constant(&mut self, value: f32) -> Result<Value, GraphError> {
        self.builder.constant(Tensor::from_f32(&[1], &[value]))
    }

    /// Some of the first axis.
    fn part(&mut self, value: Value, start: usize, length: usize) -> Result<Value, GraphError> {
        let slice = Slice {
            axis: 0,
            start: start.into(),
            length: length.into(),
            step: 1,
        };
        self.push(slice, &[value])
    }

    /// See [`Guidance`]; the negative half comes first.
    fn guided(&mut self, answer: Value) -> Result<Value, GraphError> {
        let negative = self.part(answer, 0, self.images)?;
        let positive = self.part(answer, self.images, self.images)?;
        let mut guided = self.push(Sub, &[positive, negative])?;
        if let Some(scale) = self.coefficient(Coefficient::Guidance)? {
            guided = self.push(Mul, &[guided, scale])?;
        }
        guided = self.push(Add, &[negative, guided])?;
        let Some(rescale) = self.coefficient(Coefficient::Rescale)? else {
            return Ok(guided);
        };
        let wanted = self.deviation(positive)?;
        let spread = self.deviation(guided)?;
        let one = self.constant(1.0)?;
        // Outputs without any deviation have nothing to rescale: there the ratio is 1. Numbers, for
        // truth values have no kernels: 0 without any, else 1.
        let largest = self.constant(1.0 / SPREAD_MIN)?;
        let is_spread = self.push(Mul, &[spread, largest])?;
        let is_spread = self.push(Min, &[is_spread, one])?;
        let smallest = self.constant(SPREAD_MIN)?;
        let spread = self.push(Max, &[spread, smallest])?;
        let ratio = self.push(Div, &[wanted, spread])?;
        let change = self.push(Sub, &[ratio, one])?;
        let change = self.push(Mul, &[change, is_spread])?;
        let change = self.push(Mul, &[change, rescale])?;
        let factor = self.push(Add, &[change, one])?;
        let mut shape: Vec<Dim> = vec![1usize.into(); self.latents.len()];
        shape[0] = self.images.into();
        let factor = self.push(Reshape { shape }, &[factor])?;
        self.push(Mul, &[guided, factor])
    }

    /// The standard deviation of each image up to a factor that cancels in a ratio, `[images, 1]`.
    fn deviation(&mut self, value: Value) -> Result<Value, GraphError> {
        let size: usize = self.latents[1..].iter().filter_map(Dim::extent).product();
        let shape = vec![self.images.into(), size.into()];
        let value = self.push(Reshape { shape }, &[value])?;
        let (axes, keep) = (vec![1], true);
        let mean = ReduceMean {
            axes: axes.clone(),
            keep,
        };
        let mean = self.push(mean, &[value])?;
        let centred = self.push(Sub, &[value, mean])?;
        let squares = self.push(Mul, &[centred, centred])?;
        let sum = self.push(ReduceSum { axes, keep }, &[squares])?;
        self.push(Sqrt, &[sum])
    }

    /// The estimate within the bounds. Devices may bound what is no number, too: its product with
    /// zero tells of it.
    fn limited(&mut self, estimate: Value) -> Result<Value, GraphError> {
        let Some(bound) = self.coefficient(Coefficient::Bound)? else {
            return Ok(estimate);
        };
        let below = self.push(Neg, &[bound])?;
        let limited = self.push(Max, &[estimate, below])?;
        let limited = self.push(Min, &[limited, bound])?;
        let zero = self.constant(0.0)?;
        let nothing = self.push(Mul, &[estimate, zero])?;
        self.push(Add, &[limited, nothing])
    }

    /// A row's sum.
    fn combine(&mut self, target: Target, read: &Read) -> Result<Value, GraphError> {
        let mut sum = None;
        for coefficient in self.coefficients {
            let Coefficient::Of(own, operand) = *coefficient else {
                continue;
            };
            let factor = match own == target {
                true => self.coefficient(*coefficient)?,
                false => None,
            };
            if let Some(factor) = factor {
                let term = self.push(Mul, &[read.of(operand), factor])?;
                sum = Some(match sum {
                    Some(sum) => self.push(Add, &[sum, term])?,
                    None => term,
                });
            }
        }
        Ok(sum.unwrap_or(read.x))
    }

    /// What the network sees of the latents, in its type.
    fn network_input(&mut self, latents: Value, shape: Shape) -> Result<Value, GraphError> {
        let mut seen = latents;
        if let Some(scale) = self.coefficient(Coefficient::InputScale)? {
            seen = self.push(Mul, &[seen, scale])?;
        }
        let dtype = shape.sample.dtype;
        seen = self.push(Cast { dtype }, &[seen])?;
        match shape.guidance {
            Some(_) => self.push(Concat { axis: 0 }, &[seen, seen]),
            None => Ok(seen),
        }
    }
}

/// The values that rows read.
struct Read {
    x: Value,
    output: Value,
    estimate: Value,
    noise: Value,
    slots: Vec<Value>,
}

impl Read {
    fn of(&self, operand: Operand) -> Value {
        match operand {
            Operand::X => self.x,
            Operand::Output => self.output,
            Operand::Estimate => self.estimate,
            Operand::Noise => self.noise,
            Operand::Slot(slot) => self.slots[slot],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use compiler::program::sampler::Store;
    use compiler::tile::Tuning;

    use super::*;
    use crate::place::{Options, Place};
    use crate::sampler_step::{SamplerState, guide};
    use crate::session::Session;

    /// Extents of two images.
    const LATENTS_SHAPE: [usize; 4] = [2, 4, 3, 5];

    /// Numbers between -1 and 1 that look drawn: a multiplicative congruential sequence.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D);
            (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
        }

        fn many(&mut self, count: usize) -> Vec<f32> {
            (0..count).map(|_| self.next() as f32).collect()
        }

        fn row(&mut self, slots: usize, reads_estimate: bool) -> Row {
            let mut row = Row {
                x: self.next(),
                output: self.next(),
                x0: if reads_estimate { self.next() } else { 0.0 },
                noise: self.next(),
                ..Row::default()
            };
            row.history[..slots].fill_with(|| self.next());
            row
        }

        fn table(&mut self, slots: usize, clips: bool) -> SamplerTable {
            let steps = (0..4).map(|step| SamplerStep {
                timestep: 0.0,
                input_scale: self.next(),
                draw: Some(step),
                estimate: self.row(slots, false),
                limit: match clips && step != 2 {
                    true => Limit::Clip { bound: 0.3 },
                    false => Limit::None,
                },
                next: self.row(slots, true),
                // One slot after the other; the others stay.
                stores: (0..slots)
                    .filter(|slot| step % slots == *slot)
                    .map(|slot| Store {
                        slot,
                        row: self.row(slots, true),
                    })
                    .collect(),
            });
            SamplerTable {
                init_noise_sigma: 1.0,
                draws: 4,
                history_slots: slots,
                steps: steps.collect(),
            }
        }
    }

    fn close(found: &Tensor, wanted: &[f32], what: &str) {
        let found = crate::pipeline::ports::floats(found);
        assert_eq!(found.len(), wanted.len(), "{what}");
        let largest = wanted
            .iter()
            .fold(0.0f32, |most, value| most.max(value.abs()));
        let pairs = found.iter().zip(wanted);
        let error = pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(
            error <= 2e-6 * largest,
            "{what}: off by {error} of {largest}"
        );
    }

    fn check(slots: usize, clips: bool, guidance: Option<Guidance>) {
        let mut numbers = Numbers(2 * slots as u64 + 1);
        let table = numbers.table(slots, clips);
        let halves = if guidance.is_some() { 2 } else { 1 };
        let ty = TensorType::new(DType::F32, [halves * LATENTS_SHAPE[0], 4, 3, 5]);
        let shape = Shape {
            latents: &LATENTS_SHAPE,
            sample: &ty,
            output: &ty,
            guidance,
        };
        let step_program = SamplerProgram::of(&table, shape).expect("the types fit");
        let step_program = step_program.expect("nothing is thresholded");
        let place = Place::cpu(Options {
            threads: Some(1),
            exact: true,
        });
        let session = Session::open(
            &step_program.program,
            BTreeMap::new(),
            &place,
            &Tuning::default(),
        );
        let session = session.expect("there is nothing to load");
        let elements: usize = LATENTS_SHAPE.iter().product();
        let mut state = SamplerState::new(&table, &numbers.many(elements), 2).expect("two images");
        let tensor = |values: &[f32]| Tensor::from_f32(&LATENTS_SHAPE, values);
        let mut kept = BTreeMap::from([(LATENTS.to_owned(), tensor(&state.x))]);
        kept.extend((0..slots).map(|slot| (slot_name(slot), tensor(&vec![0.0; elements]))));
        for (call, step) in table.steps.iter().enumerate() {
            let what = format!("{slots} slots, {guidance:?}, call {call}");
            let answer = numbers.many(halves * elements);
            let noise = numbers.many(elements);
            let output = match guidance {
                Some(guidance) => {
                    let (negative, positive) = answer.split_at(elements);
                    guide(guidance, 2, negative, positive).expect("they fit")
                }
                None => answer.clone(),
            };
            state.advance(step, &output, Some(&noise)).expect("it fits");
            let next = table.steps.get(call + 1);
            kept.insert(
                COEFFICIENTS.to_owned(),
                step_program.coefficients(step, next),
            );
            let extents = ty.extents().expect("they are known");
            kept.insert(OUTPUT.to_owned(), Tensor::from_f32(&extents, &answer));
            kept.insert(NOISE.to_owned(), tensor(&noise));
            kept.extend(session.run(&kept).expect("it runs"));
            let sample = kept.remove(SAMPLE).expect("it is a result");
            if let Some(next) = next {
                close(&sample, &state.network_input(next).repeat(halves), &what);
            }
            close(&kept[LATENTS], &state.x, &what);
        }
    }

    #[test]
    fn the_program_takes_the_steps_of_the_host() {
        for slots in [1, 3, 5] {
            for clips in [false, true] {
                check(slots, clips, None);
                for rescale in [0.0, 0.7] {
                    let scale = 7.5;
                    check(slots, clips, Some(Guidance { scale, rescale }));
                }
            }
        }
    }

    #[test]
    fn thresholds_are_left_to_the_host() {
        let mut table = Numbers(1).table(1, false);
        table.steps[1].limit = Limit::Threshold {
            quantile: 0.99,
            bound_max: 1.0,
        };
        let ty = TensorType::new(DType::F32, LATENTS_SHAPE);
        let shape = Shape {
            latents: &LATENTS_SHAPE,
            sample: &ty,
            output: &ty,
            guidance: None,
        };
        let step_program = SamplerProgram::of(&table, shape).expect("the types fit");
        assert!(step_program.is_none());
    }
}
