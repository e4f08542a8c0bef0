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
            let ratio = deviation(conditional) / deviation(guided);
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
    values
        .iter_mut()
        .for_each(|value| *value = value.max(-bound).min(bound));
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
