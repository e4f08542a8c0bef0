//! One sampler step on the host: guidance and the linear rows of a sampler table, on f32 slices.
//!
//! Takes a step of a [`SamplerTable`], the network's output and a normal draw; changes the state.
//! It is the reference for the fused kernels of the devices and branches on nothing but the numbers
//! of the table: no sampler has a name here. It never draws noise and never calls a network.

use compiler::program::sampler::{Guidance, Limit, Row, SamplerStep, SamplerTable};
use thiserror::Error;

/// Latents and history of a run, each `[images, channels, height, width]` in one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerState {
    /// The latents, in the sampler's own scale.
    pub x: Vec<f32>,
    /// The last step's limited estimate of the clean latents; before the first step, zero.
    pub x0: Vec<f32>,
    history: Vec<Vec<f32>>,
    images: usize,
}

/// Why a step cannot be taken. All are mistakes of the caller or of the table's maker.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SamplerStepError {
    /// A slice has another length than the state.
    #[error("{what} holds {found} numbers, wanted {wanted}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        found: usize,
        /// Length of the state.
        wanted: usize,
    },
    /// The latents do not divide into images.
    #[error("{elements} numbers do not divide into {images} images")]
    Images {
        /// Length of the state.
        elements: usize,
        /// Images it should hold.
        images: usize,
    },
    /// The step adds noise, and none was given.
    #[error("the step adds noise draw {draw}, and no noise was given")]
    NoNoise {
        /// Index of the draw.
        draw: usize,
    },
    /// The table writes a slot beyond those it says it uses.
    #[error("the step writes history slot {slot} of {slots}")]
    Slot {
        /// Slot written.
        slot: usize,
        /// Slots of the state.
        slots: usize,
    },
}

impl SamplerState {
    /// The state before the first step: `noise`, standard normal, times the table's initial sigma.
    ///
    /// # Errors
    /// When `noise` does not divide into `images`, or the table has more slots than a row.
    pub fn new(
        table: &SamplerTable,
        noise: &[f32],
        images: usize,
    ) -> Result<SamplerState, SamplerStepError> {
        let elements = noise.len();
        if images == 0 || elements == 0 || !elements.is_multiple_of(images) {
            return Err(SamplerStepError::Images { elements, images });
        }
        let slots = compiler::program::sampler::HISTORY_SLOTS;
        if table.history_slots > slots {
            return Err(SamplerStepError::Slot {
                slot: table.history_slots - 1,
                slots,
            });
        }
        let scale = table.init_noise_sigma as f32;
        Ok(SamplerState {
            x: noise.iter().map(|z| z * scale).collect(),
            x0: vec![0.0; elements],
            history: vec![vec![0.0; elements]; table.history_slots],
            images,
        })
    }

    /// What the network sees at `step`: the latents times the step's input scale.
    pub fn network_input(&self, step: &SamplerStep) -> Vec<f32> {
        let scale = step.input_scale as f32;
        self.x.iter().map(|x| x * scale).collect()
    }

    /// Takes one step: `output` is the guided network output, `noise` the step's draw, which may be
    /// left out if the step has none.
    ///
    /// # Errors
    /// When a slice has another length than the latents, or noise is missing. The state is then as
    /// before.
    pub fn advance(
        &mut self,
        step: &SamplerStep,
        output: &[f32],
        noise: Option<&[f32]>,
    ) -> Result<(), SamplerStepError> {
        let wanted = self.x.len();
        expect_length("the network output", output.len(), wanted)?;
        let noise = match (step.draw, noise) {
            (None, _) => &[][..],
            (Some(draw), None) => return Err(SamplerStepError::NoNoise { draw }),
            (Some(_), Some(noise)) => {
                expect_length("the noise", noise.len(), wanted)?;
                noise
            }
        };
        let slots = self.history.len();
        if let Some(store) = step.stores.iter().find(|store| store.slot >= slots) {
            return Err(SamplerStepError::Slot {
                slot: store.slot,
                slots,
            });
        }
        let x0 = self.combine(&step.estimate, output, &[], noise);
        self.x0 = limit(step.limit, x0, self.images);
        let next = self.combine(&step.next, output, &self.x0, noise);
        let stored: Vec<Vec<f32>> = step
            .stores
            .iter()
            .map(|store| self.combine(&store.row, output, &self.x0, noise))
            .collect();
        self.x = next;
        for (store, content) in step.stores.iter().zip(stored) {
            self.history[store.slot] = content;
        }
        Ok(())
    }

    fn combine(&self, row: &Row, output: &[f32], x0: &[f32], noise: &[f32]) -> Vec<f32> {
        let own = [
            (row.x, &self.x[..]),
            (row.output, output),
            (row.x0, x0),
            (row.noise, noise),
        ];
        let history = row
            .history
            .iter()
            .zip(&self.history)
            .map(|(c, h)| (*c, &h[..]));
        let mut total = vec![0.0; self.x.len()];
        for (coefficient, values) in own.into_iter().chain(history) {
            let coefficient = coefficient as f32;
            if coefficient != 0.0 {
                for (sum, value) in total.iter_mut().zip(values) {
                    *sum += coefficient * value;
                }
            }
        }
        total
    }
}

/// Guidance over `images` equal parts of the outputs: see [`Guidance`].
///
/// # Errors
/// When the two outputs differ in length, or do not divide into images.
pub fn guide(
    guidance: Guidance,
    images: usize,
    unconditional: &[f32],
    conditional: &[f32],
) -> Result<Vec<f32>, SamplerStepError> {
    let elements = conditional.len();
    expect_length("the unconditional output", unconditional.len(), elements)?;
    if images == 0 || elements == 0 || !elements.is_multiple_of(images) {
        return Err(SamplerStepError::Images { elements, images });
    }
    let scale = guidance.scale as f32;
    let pairs = unconditional.iter().zip(conditional);
    let mut guided: Vec<f32> = pairs.map(|(u, c)| u + scale * (c - u)).collect();
    if guidance.rescale > 0.0 {
        let size = elements / images;
        for (guided, conditional) in guided.chunks_mut(size).zip(conditional.chunks(size)) {
            let spread = deviation(guided);
            // Outputs without any deviation have nothing to rescale.
            let ratio = if spread > 0.0 {
                deviation(conditional) / spread
            } else {
                1.0
            };
            let factor = guidance.rescale * ratio + (1.0 - guidance.rescale);
            guided.iter_mut().for_each(|value| *value *= factor as f32);
        }
    }
    Ok(guided)
}

fn expect_length(what: &'static str, found: usize, wanted: usize) -> Result<(), SamplerStepError> {
    if found == wanted {
        Ok(())
    } else {
        Err(SamplerStepError::Length {
            what,
            found,
            wanted,
        })
    }
}

/// Standard deviation up to a factor that cancels in a ratio.
fn deviation(values: &[f32]) -> f64 {
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    values
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn limit(limit: Limit, mut x0: Vec<f32>, images: usize) -> Vec<f32> {
    match limit {
        Limit::None => {}
        Limit::Clip { bound } => clamp(&mut x0, bound as f32),
        Limit::Threshold {
            quantile,
            bound_max,
        } => {
            let size = x0.len() / images;
            for image in x0.chunks_mut(size) {
                let bound = magnitude_quantile(image, quantile).max(1.0).min(bound_max) as f32;
                clamp(image, bound);
                image.iter_mut().for_each(|value| *value /= bound);
            }
        }
    }
    x0
}

fn clamp(values: &mut [f32], bound: f32) {
    // Unlike the methods `max` and `min`, comparisons let a value that is no number pass.
    for value in values {
        if *value > bound {
            *value = bound;
        } else if *value < -bound {
            *value = -bound;
        }
    }
}

/// The quantile of the magnitudes, linear between order statistics (torch.quantile).
fn magnitude_quantile(values: &[f32], quantile: f64) -> f64 {
    let mut magnitudes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    magnitudes.sort_unstable_by(f32::total_cmp);
    let rank = quantile.clamp(0.0, 1.0) * (magnitudes.len() - 1) as f64;
    let (low, high) = (rank.floor() as usize, rank.ceil() as usize);
    let (low_value, high_value) = (f64::from(magnitudes[low]), f64::from(magnitudes[high]));
    low_value + (high_value - low_value) * (rank - low as f64)
}

#[cfg(test)]
mod tests {
    use compiler::program::sampler::{
        Guidance, HISTORY_SLOTS, Limit, Row, SamplerStep, SamplerTable, Store,
    };

    use super::{SamplerState, SamplerStepError, deviation, guide, limit};

    const ZERO: Row = Row {
        x: 0.0,
        output: 0.0,
        x0: 0.0,
        noise: 0.0,
        history: [0.0; 5],
    };

    /// One step that keeps the old state in a slot and adds everything it can read.
    fn table() -> SamplerTable {
        let mut history = [0.0; HISTORY_SLOTS];
        history[0] = 1.0;
        let step = SamplerStep {
            timestep: 1.0,
            input_scale: 0.5,
            draw: Some(0),
            estimate: Row {
                x: 1.0,
                output: -1.0,
                ..ZERO
            },
            limit: Limit::Clip { bound: 2.0 },
            next: Row {
                x: 1.0,
                output: 10.0,
                x0: 100.0,
                noise: 1000.0,
                history,
            },
            stores: vec![Store {
                slot: 0,
                row: Row { x: 1.0, ..ZERO },
            }],
        };
        SamplerTable {
            init_noise_sigma: 3.0,
            draws: 1,
            history_slots: 1,
            steps: vec![step],
        }
    }

    #[test]
    fn a_step_reads_the_old_state_everywhere() {
        let table = table();
        let mut state = SamplerState::new(&table, &[1.0, 2.0], 2).expect("two images");
        assert_eq!(state.network_input(&table.steps[0]), [1.5, 3.0]);
        for wanted in [[3.0 + 20.0 + 100.0, 6.0 + 50.0 + 100.0], [346.0, 412.0]] {
            state
                .advance(&table.steps[0], &[2.0, 5.0], Some(&[0.0, 0.0]))
                .expect("it fits");
            assert_eq!(state.x, wanted);
        }
    }

    #[test]
    fn slices_that_do_not_fit_are_refused() {
        let table = table();
        let step = &table.steps[0];
        let mut state = SamplerState::new(&table, &[1.0, 2.0], 1).expect("one image");
        let (before, two) = (state.clone(), Some(&[0.0, 0.0][..]));
        let refusals = [
            (
                state.advance(step, &[1.0], two),
                "the network output holds 1 numbers, wanted 2",
            ),
            (
                state.advance(step, &[1.0, 1.0], Some(&[0.0])),
                "the noise holds 1 numbers, wanted 2",
            ),
            (
                state.advance(step, &[1.0, 1.0], None),
                "the step adds noise draw 0, and no noise was given",
            ),
        ];
        for (refusal, wanted) in refusals {
            assert_eq!(
                refusal.map_err(|error| error.to_string()),
                Err(wanted.to_owned())
            );
        }
        assert_eq!(state, before);
        let images = SamplerStepError::Images {
            elements: 2,
            images: 3,
        };
        assert_eq!(SamplerState::new(&table, &[1.0, 2.0], 3), Err(images));
    }

    #[test]
    fn limits_act_on_each_image_alone() {
        let rule = Limit::Threshold {
            quantile: 0.5,
            bound_max: 4.0,
        };
        let limited = limit(rule, vec![-1.0, 3.0, 5.0, 0.1, 0.2, -0.3], 2);
        assert_eq!(limited, [-1.0 / 3.0, 1.0, 1.0, 0.1, 0.2, -0.3]);
        assert_eq!(
            limit(Limit::Clip { bound: 0.5 }, vec![-1.0, 0.2], 1),
            [-0.5, 0.2]
        );
        assert!(limit(Limit::Clip { bound: 0.5 }, vec![f32::NAN], 1)[0].is_nan());
    }

    #[test]
    fn guidance_is_the_standard_form_with_deviations_of_each_image() {
        let (unconditional, conditional) = ([0.0, 1.0, 2.0, 0.0], [1.0, 3.0, 2.5, -0.5]);
        let plain = Guidance {
            scale: 3.0,
            rescale: 0.0,
        };
        let guided = guide(plain, 2, &unconditional, &conditional).expect("they fit");
        assert_eq!(guided, [3.0, 7.0, 3.5, -1.5]);
        let rescaled = Guidance {
            scale: 3.0,
            rescale: 1.0,
        };
        let rescaled = guide(rescaled, 2, &unconditional, &conditional).expect("they fit");
        for (found, wanted) in rescaled.chunks(2).zip(conditional.chunks(2)) {
            assert!((deviation(found) - deviation(wanted)).abs() < 1e-6);
        }
        assert!(guide(plain, 3, &unconditional, &conditional).is_err());
        assert!(guide(plain, 2, &unconditional[1..], &conditional).is_err());
    }

    #[test]
    fn a_constant_output_is_guided_to_a_constant() {
        let guidance = Guidance {
            scale: 2.0,
            rescale: 0.7,
        };
        let guided = guide(guidance, 1, &[1.0, 1.0], &[2.0, 2.0]).expect("they fit");
        assert_eq!(guided, [3.0, 3.0]);
    }
}
