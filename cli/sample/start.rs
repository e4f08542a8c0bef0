//! Where a sampling run starts: sizes, latents, and the noise of later draws.
//!
//! Takes the seed or a file of latents, returns tensors whose shapes fit one another and the model.

use std::path::PathBuf;

use compiler::DType;
use compiler::program::pipeline::{LatentSize, Latents};
use compiler::value::tensor::{Tensor, Values};
use runtime::noise::{Generator, Noise};

use crate::error::{At, Failure};
use crate::tensors;

use super::arguments::{Arguments, Rng};

/// Where a run starts: sizes, unit normal latents, and the noise of later draws.
pub(crate) struct Start {
    pub(crate) size: LatentSize,
    pub(crate) latents: Tensor,
    pub(crate) draws: Draws,
}

/// Noise of later draws: from a file, or from the seed.
pub(crate) enum Draws {
    File {
        path: PathBuf,
        noise: Option<Tensor>,
    },
    Seed(Noise),
}

impl Start {
    pub(crate) fn new(arguments: &Arguments, model: &Latents) -> Result<Start, Failure> {
        let prompts = arguments.prompt.len().max(arguments.negative.len()).max(1);
        let Some(path) = &arguments.latents_in else {
            let batch = arguments.batch.unwrap_or(prompts);
            let size = model.of_pixels(batch, arguments.width, arguments.height)?;
            let shape = [batch, model.channels, size.height, size.width];
            let generator = match arguments.rng {
                Rng::Philox => Generator::Philox,
                Rng::TorchCpu => Generator::TorchCpu,
            };
            let mut noise = Noise::new(generator, arguments.seed.number, shape).at("noise")?;
            let latents = Tensor::from_f32(&shape, &noise.draw());
            return Ok(Start {
                size,
                latents,
                draws: Draws::Seed(noise),
            });
        };
        let mut given = tensors::read(path)?;
        let place = path.display();
        let latents = given.remove("init_latents").ok_or_else(|| {
            let found: Vec<&String> = given.keys().collect();
            Failure::job(format!(
                "{place} lacks the tensor \"init_latents\"; it holds {found:?}"
            ))
        })?;
        let &[batch, channels, height, width] = latents.shape() else {
            let shape = latents.shape();
            let expected = "expected [batch, channels, height, width]";
            return Err(Failure::job(format!(
                "{place}: init_latents has shape {shape:?}; {expected}"
            )));
        };
        let asked = |axis, pixels: Option<usize>, own: usize| match pixels {
            Some(pixels) => model.extent(axis, pixels),
            None => model.extent(axis, own.saturating_mul(model.pixels)),
        };
        let wanted = [
            arguments.batch.unwrap_or(batch),
            model.channels,
            asked("height", arguments.height, height)?,
            asked("width", arguments.width, width)?,
        ];
        if wanted != [batch, channels, height, width] || batch == 0 || !latents.dtype().is_float() {
            let found = format!("{} of shape {:?}", latents.dtype(), latents.shape());
            let message =
                format!("{place}: init_latents is {found}; expected floats of {wanted:?}");
            return Err(Failure::job(message));
        }
        let size = LatentSize {
            batch,
            height,
            width,
        }
        .checked()?;
        match latents.not_finite() {
            0 => {}
            count => {
                let message =
                    format!("{place}: init_latents holds {count} values that are NaN or infinite");
                return Err(Failure::job(message));
            }
        }
        let latents = latents.cast(DType::F32);
        let noise = given.remove("step_noise");
        if noise.as_ref().is_some_and(|noise| noise.not_finite() > 0) {
            let message = format!("{place}: step_noise holds values that are NaN or infinite");
            return Err(Failure::job(message));
        }
        let noise = noise.map(|noise| noise.cast(DType::F32));
        Ok(Start {
            size,
            latents,
            draws: Draws::File {
                path: path.clone(),
                noise,
            },
        })
    }
}

impl Draws {
    /// Checks that there are `draws` draws for latents of `shape` before any work is done.
    pub(crate) fn check(&self, draws: usize, shape: &[usize]) -> Result<(), Failure> {
        let Draws::File { path, noise } = self else {
            return Ok(());
        };
        if draws == 0 {
            return Ok(());
        }
        let found = noise.as_ref().map(|noise| noise.shape().to_vec());
        let enough = found.as_ref().is_some_and(|found| {
            found.first().is_some_and(|&count| count >= draws) && found[1..] == *shape
        });
        match enough {
            true => Ok(()),
            false => {
                let wanted = [&[draws], shape].concat();
                let found = found.map_or("is missing".to_owned(), |shape| {
                    format!("has shape {shape:?}")
                });
                Err(Failure::job(format!(
                    "{}: step_noise {found}; expected shape {wanted:?}",
                    path.display()
                ))
                .hint("the sampler draws noise at each step; store it in order of drawing"))
            }
        }
    }

    pub(crate) fn draw(&mut self, index: usize) -> Vec<f32> {
        match self {
            Draws::Seed(noise) => noise.draw(),
            Draws::File { noise, .. } => {
                let noise = noise.as_ref().expect("checked before the first step");
                let size: usize = noise.shape()[1..].iter().product();
                floats(noise)[index * size..][..size].to_vec()
            }
        }
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    match tensor.values() {
        Values::Float(values) => values.iter().map(|&v| v as f32).collect(),
        Values::Int(_) | Values::Bool(_) => Vec::new(),
    }
}
