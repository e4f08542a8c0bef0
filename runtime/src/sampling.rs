//! The sampling loop: prompts to embeddings, noise to latents by a sampler's table, latents to
//! pictures.
//!
//! Takes sessions of a pipeline's components, token ids, a table and noise; gives latents and
//! decoded images. It knows no sampler and no noise schedule: the table holds every number.

use std::collections::BTreeMap;

use compiler::program::sampler::{Guidance, SamplerStep, SamplerTable};
use compiler::value::tensor::Tensor;

use crate::pipeline::error::{self, OnStep, SamplingError, finite};
use crate::pipeline::ports::{floats, input_type, output, timestep};
use crate::resident::Resident;
use crate::sampler_step::{SamplerState, guide};
use crate::session::Session;
use crate::staged::{Stage, StagedSession};
use crate::tiling::{Planes, Tiling};

/// What a run of the denoising network is steered by.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// What the network is fed for the prompts, by the input's name; each has the batch first.
    pub prompt: BTreeMap<String, Tensor>,
    /// The same for the negative prompts, of the same shapes; `None` runs without guidance.
    pub negative: Option<BTreeMap<String, Tensor>>,
    /// The guidance that combines both.
    pub guidance: Guidance,
}

/// How often the inputs of a denoising network change in a run. All prompts of a run are in one
/// tensor, with the negative ones; of timesteps few-step samplers and most others have at most 64,
/// and what depends on them is small.
pub const STAGES: [Stage; 2] = [
    Stage {
        name: "text",
        per: "prompt",
        inputs: &["encoder_hidden_states", "text_embeds", "time_ids"],
        remembered_max: 1,
    },
    Stage {
        name: "time",
        per: "timestep",
        inputs: &["timestep", "timestep_cond"],
        remembered_max: 64,
    },
];

/// Runs every step of `table` from unit normal noise `latents` `[batch, channels, height, width]`.
/// The network's stages are [`STAGES`]. `draw` gives the noise of each draw in order. Gives the
/// final latents, f32. On an adapter they stay there from step to step where they can.
///
/// # Errors
/// When the network fails, has another interface, or gives what is not a number.
pub fn denoise(
    unet: &StagedSession,
    table: &SamplerTable,
    conditioning: &Conditioning,
    latents: &Tensor,
    draw: &mut dyn FnMut(usize) -> Vec<f32>,
    on_step: &mut OnStep<'_>,
) -> Result<Tensor, SamplingError> {
    if let Some(step) = table.steps.first() {
        let shape = latents.shape();
        let fixed = fixed_inputs(unet, conditioning)?;
        let guidance = conditioning.negative.as_ref();
        let guidance = guidance.map(|_| conditioning.guidance);
        if let Some(resident) = Resident::of(unet, table, guidance, &fixed, shape)? {
            let batch = shape.first().copied().unwrap_or(0);
            let state = SamplerState::new(table, &floats(latents), batch)?;
            let inputs = inputs(unet, conditioning, &fixed, step, (shape, &state))?;
            return resident.run(&state, &inputs, draw, on_step);
        }
    }
    denoise_on_host(unet, table, conditioning, latents, draw, on_step)
}

/// Does what [`denoise`] does, each step on the host: the reference of what devices do.
///
/// # Errors
/// As [`denoise`].
pub fn denoise_on_host(
    unet: &StagedSession,
    table: &SamplerTable,
    conditioning: &Conditioning,
    latents: &Tensor,
    draw: &mut dyn FnMut(usize) -> Vec<f32>,
    on_step: &mut OnStep<'_>,
) -> Result<Tensor, SamplingError> {
    let shape = latents.shape().to_vec();
    let batch = shape.first().copied().unwrap_or(0);
    let mut state = SamplerState::new(table, &floats(latents), batch)?;
    let fixed = fixed_inputs(unet, conditioning)?;
    for (call, step) in table.steps.iter().enumerate() {
        let inputs = inputs(unet, conditioning, &fixed, step, (&shape, &state))?;
        let answer = output(&mut unet.run(&inputs)?, "unet", "out_sample")?;
        let answer = floats(&finite(answer, error::OUTPUT, Some(call))?);
        let guided = match conditioning.negative {
            Some(_) => {
                let (negative, positive) = answer.split_at(answer.len() / 2);
                guide(conditioning.guidance, batch, negative, positive)?
            }
            None => answer,
        };
        let noise = step.draw.map(&mut *draw);
        state.advance(step, &guided, noise.as_deref())?;
        let latents = Tensor::from_f32(&shape, &state.x);
        let latents = finite(latents, error::LATENTS, Some(call))?;
        on_step(call, &|| Ok(latents.clone()))?;
    }
    Ok(Tensor::from_f32(&shape, &state.x))
}

/// Decodes latents `[batch, channels, height, width]`, picture by picture, to images
/// `[batch, 3, H, W]` in [-1, 1] (not clamped). The decoder sees `latents / scaling + shift`: all
/// of a picture, or its tiles one by one, see [`crate::tiling`]. `on_call` is told of each call of
/// it.
///
/// # Errors
/// When the decoder fails, has another interface or returns NaN or infinity, or the latents do not
/// fit the tiles.
pub fn decode(
    decoder: &Session,
    latents: &Tensor,
    (scaling, shift): (f64, f64),
    tiling: Option<&Tiling>,
    on_call: &mut dyn FnMut(),
) -> Result<Tensor, SamplingError> {
    let &[batch, channels, height, width] = latents.shape() else {
        return Err(SamplingError::Shape {
            what: "the latents",
            found: latents.shape().to_vec(),
            wanted: vec![1, 4, 64, 64],
        });
    };
    let ty = input_type(decoder.inputs(), "vae decoder", "latent_sample")?.clone();
    let per_call = ty.shape.first().and_then(|dim| dim.extent());
    let per_call = per_call.unwrap_or(1).max(1);
    let (scaling, shift) = (scaling as f32, shift as f32);
    let values = floats(latents);
    let values: Vec<f32> = values.iter().map(|x| x / scaling + shift).collect();
    let mut call = |seen: Planes| {
        let [planes, rows, columns] = seen.extents;
        let pictures = planes / channels.max(1);
        let input = Tensor::from_f32(&[pictures, channels, rows, columns], &seen.values);
        let inputs = BTreeMap::from([("latent_sample".to_owned(), input.cast(ty.dtype))]);
        let image = output(&mut decoder.run(&inputs)?, "vae decoder", "sample")?;
        let image = finite(image, error::OUTPUT, None)?;
        on_call();
        match image.shape() {
            &[pictures, channels, rows, columns] => Ok(Planes {
                extents: [pictures * channels, rows, columns],
                values: floats(&image),
            }),
            shape => Err(SamplingError::Shape {
                what: "the decoded picture",
                found: shape.to_vec(),
                wanted: vec![pictures, 3, rows, columns],
            }),
        }
    };
    let (mut pixels, mut extents) = (Vec::new(), [0, height, width]);
    for chunk in values.chunks((channels * height * width * per_call).max(1)) {
        let seen = Planes {
            extents: [chunk.len() / (height * width).max(1), height, width],
            values: chunk.to_vec(),
        };
        let image = match tiling {
            Some(tiling) => tiling.decode(&seen, &mut call)?,
            None => call(seen)?,
        };
        extents = [
            extents[0] + image.extents[0],
            image.extents[1],
            image.extents[2],
        ];
        pixels.extend(image.values);
    }
    let [planes, height, width] = extents;
    Ok(Tensor::from_f32(
        &[batch, planes / batch.max(1), height, width],
        &pixels,
    ))
}

/// The inputs that stay the same at every step, stacked with the negative half first.
fn fixed_inputs(
    unet: &StagedSession,
    conditioning: &Conditioning,
) -> Result<BTreeMap<String, Tensor>, SamplingError> {
    let mut inputs = BTreeMap::new();
    for (name, prompt) in &conditioning.prompt {
        let negative = match &conditioning.negative {
            Some(negative) => Some(negative.get(name).unwrap_or(prompt)),
            None => None,
        };
        let both = match negative {
            Some(negative) if negative.shape() != prompt.shape() => {
                return Err(SamplingError::Shape {
                    what: "what the negative prompt conditions",
                    found: negative.shape().to_vec(),
                    wanted: prompt.shape().to_vec(),
                });
            }
            Some(negative) => stack(negative, prompt),
            None => prompt.clone(),
        };
        let ty = input_type(unet.inputs(), "unet", name)?;
        inputs.insert(name.clone(), both.cast(ty.dtype));
    }
    Ok(inputs)
}

/// All inputs of the network at a step of latents of this shape.
fn inputs(
    unet: &StagedSession,
    conditioning: &Conditioning,
    fixed: &BTreeMap<String, Tensor>,
    step: &SamplerStep,
    (shape, state): (&[usize], &SamplerState),
) -> Result<BTreeMap<String, Tensor>, SamplingError> {
    let seen = Tensor::from_f32(shape, &state.network_input(step));
    let seen = match conditioning.negative {
        Some(_) => stack(&seen, &seen),
        None => seen,
    };
    let mut inputs = fixed.clone();
    let ty = input_type(unet.inputs(), "unet", "sample")?;
    inputs.insert("sample".to_owned(), seen.cast(ty.dtype));
    let ty = input_type(unet.inputs(), "unet", "timestep")?;
    inputs.insert("timestep".to_owned(), timestep(step.timestep, ty));
    Ok(inputs)
}

/// Two tensors of one type, one after the other along the first axis.
fn stack(first: &Tensor, second: &Tensor) -> Tensor {
    let mut shape = first.shape().to_vec();
    shape[0] *= 2;
    let bytes = [first.bytes().as_ref(), second.bytes().as_ref()].concat();
    Tensor::new(first.dtype(), shape, bytes.into()).expect("both halves have the first's shape")
}
