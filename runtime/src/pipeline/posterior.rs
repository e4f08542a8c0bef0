//! Pictures to latents: the distribution that an autoencoder's encoder returns, and samples of it.
//!
//! Takes a session of the encoder and pixels, returns mean and log-variance, or latents for unit
//! normals. It draws nothing.

use std::collections::BTreeMap;

use compiler::program::pipeline::{Component, InputRole, Latents};
use compiler::value::tensor::Tensor;

use crate::pipeline::error::{self, SamplingError, finite};
use crate::pipeline::ports::{floats, input_type, output};
use crate::session::Session;

/// The result of encoders of pictures, as optimum names it.
const PARAMETERS: &str = "latent_parameters";

/// The bounds of log-variances (spec 1.10; diffusers `DiagonalGaussianDistribution`).
const LOG_VARIANCE: [f32; 2] = [-30.0, 20.0];

/// The latents of one picture as independent normals.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// f32 `[channels, height, width]`, not scaled.
    pub mean: Tensor,
    /// f32 of the same shape, from -30 to 20.
    pub log_variance: Tensor,
}

/// Encodes one picture `[1, 3, rows, columns]` with values from -1 to 1.
///
/// # Errors
/// When the encoder fails, has another interface, or returns NaN or infinity.
pub fn encode_picture(
    session: &Session,
    encoder: &Component,
    picture: &Tensor,
) -> Result<Posterior, SamplingError> {
    let name = encoder.input(InputRole::Picture);
    let name = name.map_or("sample", |input| input.name.as_str());
    let ty = input_type(session.inputs(), &encoder.name, name)?;
    let inputs = BTreeMap::from([(name.to_owned(), picture.cast(ty.dtype))]);
    let parameters = output(&mut session.run(&inputs)?, &encoder.name, PARAMETERS)?;
    let parameters = finite(parameters, error::OUTPUT, None)?;
    let &[1, both, height, width] = parameters.shape() else {
        return Err(SamplingError::Shape {
            what: "the encoded picture",
            found: parameters.shape().to_vec(),
            wanted: vec![1, 8, 64, 64],
        });
    };
    let shape = [both / 2, height, width];
    let values = floats(&parameters);
    let (mean, rest) = values.split_at(shape.iter().product());
    let [low, high] = LOG_VARIANCE;
    let clamped: Vec<f32> = rest.iter().map(|value| value.clamp(low, high)).collect();
    if mean.len() != clamped.len() {
        return Err(SamplingError::Shape {
            what: "the encoded picture",
            found: parameters.shape().to_vec(),
            wanted: vec![1, 2 * shape[0], height, width],
        });
    }
    Ok(Posterior {
        mean: Tensor::from_f32(&shape, mean),
        log_variance: Tensor::from_f32(&shape, &clamped),
    })
}

impl Posterior {
    /// The latents for unit normals, in the scale in which the pipeline denoises them: `(mean +
    /// exp(log_variance / 2)·normal − shift)·scale`. Missing normals count as 0.
    pub fn sample(&self, latents: &Latents, normals: impl Iterator<Item = f32>) -> Vec<f32> {
        let (scale, shift) = (latents.scaling_factor as f32, latents.shift_factor as f32);
        let moments = floats(&self.mean)
            .into_iter()
            .zip(floats(&self.log_variance));
        let normals = normals.chain(std::iter::repeat(0.0));
        let latent = |((mean, log_variance), normal): ((f32, f32), f32)| {
            let deviation = libm::expf(0.5 * log_variance);
            (mean + deviation * normal - shift) * scale
        };
        moments.zip(normals).map(latent).collect()
    }
}
