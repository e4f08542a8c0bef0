//! A sampling run between calls of the network.
//!
//! Takes a configuration, a number of steps and a seed; gives what the network sees at each step,
//! and takes its answer. All arithmetic is `runtime`'s, all tables are `graphs`'.

use compiler::program::sampler::{Guidance, SamplerTable};
use graphs::guidance::guidance_embedding;
use graphs::samplers::{self, SamplerConfig};
use runtime::noise::{Generator, Noise};
use runtime::sampler_step::{SamplerState, guide};

use crate::fault::Fault;
use crate::fields::Fields;

/// A configuration, and what is under way.
#[derive(Debug)]
pub struct Run {
    config: SamplerConfig,
    table: Option<SamplerTable>,
    started: Option<(SamplerState, Noise)>,
    images: usize,
}

impl Run {
    /// Reads a configuration: the classes that the index names for the scheduler and for the
    /// pipeline, the sampler to use instead (each a text, empty for none), and the options of
    /// `scheduler_config.json`.
    ///
    /// # Errors
    /// When the bytes are not that, or there is no such sampler.
    pub fn configure(bytes: &[u8]) -> Result<Run, Fault> {
        let mut fields = Fields::new(bytes);
        let (scheduler, pipeline) = (fields.text()?, fields.text()?);
        let sampler = fields.text()?;
        let mut config = SamplerConfig::from_options(fields.options()?);
        if !scheduler.is_empty() {
            config = config.of_index(scheduler);
        }
        if !pipeline.is_empty() {
            config = config.in_pipeline(pipeline);
        }
        if !sampler.is_empty() {
            config = config.with_sampler(sampler)?;
        }
        config.sampler_name()?;
        Ok(Run {
            config,
            table: None,
            started: None,
            images: 1,
        })
    }

    /// The name of the sampler.
    ///
    /// # Errors
    /// When its class is not supported.
    pub fn sampler(&self) -> Result<&'static str, Fault> {
        Ok(self.config.sampler_name()?)
    }

    /// Makes the table for a number of steps; returns the number of calls of the network.
    ///
    /// # Errors
    /// When the sampler does not support this number of steps.
    pub fn tabulate(&mut self, steps: usize) -> Result<usize, Fault> {
        let table = samplers::table(&self.config, steps)?;
        let calls = table.steps.len();
        self.table = Some(table);
        self.started = None;
        Ok(calls)
    }

    /// The timestep of a call, 0..1000 for most samplers.
    ///
    /// # Errors
    /// When there is no such call.
    pub fn timestep(&self, call: usize) -> Result<f64, Fault> {
        let table = self.table.as_ref().ok_or(Fault::Call)?;
        Ok(table.steps.get(call).ok_or(Fault::Call)?.timestep)
    }

    /// Draws the first latents `[batch, channels, height, width]` of a seed.
    ///
    /// # Errors
    /// When there is no table, or the latents are too large.
    pub fn begin(
        &mut self,
        generator: Generator,
        seed: u64,
        shape: [usize; 4],
    ) -> Result<(), Fault> {
        let table = self.table.as_ref().ok_or(Fault::Call)?;
        let mut noise = Noise::new(generator, seed, shape).map_err(|_| Fault::Size)?;
        let state = SamplerState::new(table, &noise.draw(), shape[0])?;
        self.images = shape[0];
        self.started = Some((state, noise));
        Ok(())
    }

    /// What the network sees at a call, of the latents' shape.
    ///
    /// # Errors
    /// When nothing has begun, or there is no such call.
    pub fn network_input(&self, call: usize) -> Result<Vec<f32>, Fault> {
        let table = self.table.as_ref().ok_or(Fault::Call)?;
        let (state, _) = self.started.as_ref().ok_or(Fault::Call)?;
        Ok(state.network_input(table.steps.get(call).ok_or(Fault::Call)?))
    }

    /// Takes a step with the network's answer: of the latents' shape or, with guidance, twice as
    /// much with the answer for the negative prompt first.
    ///
    /// # Errors
    /// When the answer has another length, or it or the new latents hold NaN or infinity.
    pub fn advance(
        &mut self,
        call: usize,
        answer: &[f32],
        guidance: Option<Guidance>,
    ) -> Result<(), Fault> {
        let table = self.table.as_ref().ok_or(Fault::Call)?;
        let (state, noise) = self.started.as_mut().ok_or(Fault::Call)?;
        let step = table.steps.get(call).ok_or(Fault::Call)?;
        check_finite(answer)?;
        let guided = match guidance {
            None => answer.to_vec(),
            Some(guidance) => {
                let (negative, positive) = answer.split_at(answer.len() / 2);
                guide(guidance, self.images, negative, positive)?
            }
        };
        let drawn = step.draw.map(|_| noise.draw());
        state.advance(step, &guided, drawn.as_deref())?;
        check_finite(&state.x)
    }

    /// The latents, in the sampler's own scale.
    ///
    /// # Errors
    /// When nothing has begun.
    pub fn latents(&self) -> Result<&[f32], Fault> {
        let (state, _) = self.started.as_ref().ok_or(Fault::Call)?;
        Ok(&state.x)
    }

    /// The last step's estimate of the clean latents: zero before the first step.
    ///
    /// # Errors
    /// When nothing has begun.
    pub fn estimate(&self) -> Result<&[f32], Fault> {
        let (state, _) = self.started.as_ref().ok_or(Fault::Call)?;
        Ok(&state.x0)
    }
}

/// The embedding `[width]` of a guidance scale in the standard form, for a network that takes it.
pub(crate) fn embedding(scale: f64, width: usize) -> Vec<f32> {
    // Such a network is fed the scale minus one (spec 0.4).
    guidance_embedding(scale - 1.0, width)
}

fn check_finite(values: &[f32]) -> Result<(), Fault> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(Fault::NotANumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    /// A configuration without options.
    fn fields(scheduler: &str, sampler: &str) -> Vec<u8> {
        [text(scheduler), text(""), text(sampler), vec![0; 4]].concat()
    }

    #[test]
    fn a_run_is_what_the_rooms_compute() {
        let mut run = Run::configure(&fields("LCMScheduler", "")).expect("a configuration");
        assert_eq!(run.sampler(), Ok("lcm"));
        assert_eq!(run.tabulate(4), Ok(4));
        assert_eq!(run.timestep(0), Ok(999.0));
        run.begin(Generator::Philox, 42, [1, 1, 3, 4])
            .expect("small latents");
        let first = run.network_input(0).expect("it has begun");
        // The published value of Philox at seed 42; LCM begins with unit noise.
        assert!((first[0] - 0.194_018_9).abs() < 1e-6, "{first:?}");
        for call in 0..4 {
            run.advance(call, &[0.25; 12], None).expect("a step");
        }
        assert!(
            run.latents()
                .expect("it has begun")
                .iter()
                .all(|x| x.is_finite())
        );
    }

    #[test]
    fn what_is_wrong_is_told_by_number() {
        let refused = |scheduler, sampler| Run::configure(&fields(scheduler, sampler)).err();
        assert_eq!(refused("LCMScheduler", "none"), Some(Fault::Name));
        assert_eq!(refused("NoScheduler", ""), Some(Fault::Class));
        assert_eq!(Run::configure(&[1, 2]).err(), Some(Fault::Call));
        let mut run = Run::configure(&fields("LCMScheduler", "")).expect("a configuration");
        assert_eq!(run.timestep(0), Err(Fault::Call));
        assert_eq!(run.tabulate(0), Err(Fault::Steps));
        assert_eq!(run.tabulate(51), Err(Fault::Steps));
        assert_eq!(run.tabulate(2), Ok(2));
        assert_eq!(
            run.begin(Generator::Philox, 0, [0, 4, 2, 2]),
            Err(Fault::Size)
        );
        run.begin(Generator::TorchCpu, 0, [1, 4, 2, 2])
            .expect("small latents");
        assert_eq!(run.advance(0, &[0.0; 3], None), Err(Fault::Call));
        assert_eq!(
            run.advance(0, &[f32::NAN; 16], None),
            Err(Fault::NotANumber)
        );
        assert_eq!(run.advance(2, &[0.0; 16], None), Err(Fault::Call));
    }
}
