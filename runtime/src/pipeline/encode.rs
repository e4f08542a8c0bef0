//! Prompts to what the denoising network is conditioned on.
//!
//! Takes token ids and sessions of the text encoders, gives a tensor for each input of the
//! denoising network that stays the same in all steps.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::program::pipeline::{Component, InputRole, Pipeline, SizeId, TextEncoder};
use compiler::value::tensor::Tensor;

use crate::pipeline::error::{self, SamplingError, finite};
use crate::pipeline::ports::{floats, input_type, output};
use crate::session::Session;

/// What one encoder makes of prompts, f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// `[batch, tokens, features]`.
    pub hidden: Tensor,
    /// `[batch, features]`, of the encoder that pools.
    pub pooled: Option<Tensor>,
}

/// The pictures that size conditioning speaks of: rows, then columns, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSizes {
    /// The original picture's size.
    pub original: [usize; 2],
    /// What was cropped off: at the top, at the left.
    pub crop: [usize; 2],
    /// The target's size.
    pub target: [usize; 2],
}

/// The scores of prompts and of negative prompts (diffusers
/// `StableDiffusionXLImg2ImgPipeline.__call__`).
const AESTHETICS: [f32; 2] = [6.0, 2.5];

/// Encodes token ids `[batch, tokens]`.
///
/// # Errors
/// When the encoder fails, has another interface, or returns NaN or infinity.
pub fn encode(
    session: &Session,
    encoder: &TextEncoder,
    ids: &Tensor,
) -> Result<Text, SamplingError> {
    let name = &encoder.component;
    let ty = input_type(session.inputs(), name, "input_ids")?;
    let inputs = BTreeMap::from([("input_ids".to_owned(), ids.cast(ty.dtype))]);
    let mut results = session.run(&inputs)?;
    let mut take = |wanted: &str| output(&mut results, name, wanted);
    let hidden = finite(take(&encoder.hidden)?, error::OUTPUT, None)?.cast(DType::F32);
    let pooled = encoder.pooled.as_deref().map(take).transpose()?;
    let pooled = pooled.map(|pooled| finite(pooled, error::OUTPUT, None));
    let pooled = pooled.transpose()?.map(|pooled| pooled.cast(DType::F32));
    Ok(Text { hidden, pooled })
}

impl Text {
    /// Zeros in place of all features.
    pub fn zeros(&self) -> Text {
        let zeros =
            |tensor: &Tensor| Tensor::from_f32(tensor.shape(), &vec![0.0; tensor.elements()]);
        Text {
            hidden: zeros(&self.hidden),
            pooled: self.pooled.as_ref().map(zeros),
        }
    }
}

impl PictureSizes {
    /// The numbers of size conditioning for one picture.
    fn numbers(&self, ids: &[SizeId], is_negative: bool) -> Vec<f32> {
        let number = |id: &SizeId| match id {
            SizeId::OriginalHeight => self.original[0] as f32,
            SizeId::OriginalWidth => self.original[1] as f32,
            SizeId::CropTop => self.crop[0] as f32,
            SizeId::CropLeft => self.crop[1] as f32,
            SizeId::TargetHeight => self.target[0] as f32,
            SizeId::TargetWidth => self.target[1] as f32,
            SizeId::AestheticsScore => AESTHETICS[usize::from(is_negative)],
        };
        ids.iter().map(number).collect()
    }
}

/// What the denoising network is fed for prompts: by the name of the input, f32.
/// `texts` holds what each encoder of the pipeline makes of them, in order; `guidance` is the
/// embedded scale of a network that takes it.
///
/// # Errors
/// When texts do not fit one another.
pub fn condition(
    pipeline: &Pipeline,
    denoiser: &Component,
    texts: &[Text],
    (sizes, is_negative): (&PictureSizes, bool),
    guidance: Option<&[f32]>,
) -> Result<BTreeMap<String, Tensor>, SamplingError> {
    let hidden = side_by_side(texts)?;
    let batch = hidden.shape().first().copied().unwrap_or(0);
    let rows = |row: &[f32]| Tensor::from_f32(&[batch, row.len()], &row.repeat(batch));
    let mut inputs = BTreeMap::new();
    for input in &denoiser.inputs {
        let tensor = match input.role {
            Some(InputRole::HiddenStates) => Some(hidden.clone()),
            Some(InputRole::PooledText) => texts.iter().find_map(|text| text.pooled.clone()),
            Some(InputRole::SizeIds) => Some(rows(
                &sizes.numbers(&pipeline.prompts.size_ids, is_negative),
            )),
            Some(InputRole::GuidanceScale) => guidance.map(rows),
            Some(
                InputRole::TokenIds | InputRole::Latents | InputRole::Picture | InputRole::Timestep,
            )
            | None => None,
        };
        inputs.extend(tensor.map(|tensor| (input.name.clone(), tensor)));
    }
    Ok(inputs)
}

/// The features of all encoders, those of a token side by side.
fn side_by_side(texts: &[Text]) -> Result<Tensor, SamplingError> {
    if let [text] = texts {
        return Ok(text.hidden.clone());
    }
    let mut tokens = None;
    let mut parts = Vec::new();
    for Text { hidden, .. } in texts {
        let fits = |tokens: &[usize]| hidden.shape().starts_with(tokens);
        let &[batch, length, width] = hidden.shape() else {
            return Err(SamplingError::Shape {
                what: "the hidden states of a text encoder",
                found: hidden.shape().to_vec(),
                wanted: vec![1, 77, 768],
            });
        };
        let tokens = tokens.get_or_insert([batch, length]);
        if !fits(tokens) {
            return Err(SamplingError::Shape {
                what: "the hidden states of a text encoder",
                found: hidden.shape().to_vec(),
                wanted: vec![tokens[0], tokens[1], width],
            });
        }
        parts.push((floats(hidden), width));
    }
    let [batch, length] = tokens.unwrap_or([0, 0]);
    let mut values = Vec::new();
    for token in 0..batch * length {
        for (part, width) in &parts {
            values.extend_from_slice(&part[token * width..][..*width]);
        }
    }
    let width = parts.iter().map(|(_, width)| width).sum();
    Ok(Tensor::from_f32(&[batch, length, width], &values))
}
