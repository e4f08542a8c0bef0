//! The denoising network of Stable Diffusion 1, 2 and XL: diffusers' `UNet2DConditionModel`.
//!
//! Takes a configuration, gives a function
//! `sample timestep encoder_hidden_states [timestep_cond] [text_embeds time_ids]` → `out_sample`
//! with the weights as parameters. Sizes stay symbols: `batch`, `height` and `width` of the
//! latents, `tokens` of the text. It reads no file and knows no sampler.

use compiler::graph::{Func, GraphError, Value};
use compiler::ops::{Concat, Mul, Sub};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;

use crate::models::embedding::{Sinusoid, sinusoid};
use crate::models::layers::{Layers, Window};
use crate::models::resnet::{Norm, Padding, downsample, resnet, upsample};
use crate::models::transformer::{Attention, transformer};
use crate::models::{Options, Timestep};

mod config;

/// What the network looks like, with every default resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Channels of the latents that go in.
    pub in_channels: usize,
    /// Channels of the result.
    pub out_channels: usize,
    /// Height and width of the latents it was trained with, if known.
    pub sample_size: Option<[usize; 2]>,
    /// Whether latents in 0..1 are mapped to −1..1 first.
    pub center_input: bool,
    /// Rows and columns of the first and the last convolution.
    pub kernels: [usize; 2],
    /// Groups of every group normalisation.
    pub groups: usize,
    /// Epsilon of the normalisations of residual blocks and of the last one.
    pub epsilon: f64,
    /// Features of the text embeddings.
    pub text_width: usize,
    /// The sinusoids of times and sizes.
    pub sinusoid: Sinusoid,
    /// Features of the time embedding.
    pub time_width: usize,
    /// Features of `timestep_cond`, the embedding of a guidance scale or of γ, if there is one.
    pub condition_width: Option<usize>,
    /// The embedding of pooled text and sizes, if there is one.
    pub added: Option<Added>,
    /// Where the convolutions between levels pad.
    pub padding: Padding,
    /// The levels, from fine to coarse.
    pub down: Vec<Level>,
    /// What lies between the halves.
    pub mid: Mid,
    /// The levels of the second half, from coarse to fine.
    pub up: Vec<Level>,
    /// Keys of the configuration that nothing reads.
    pub ignored: Vec<String>,
}

/// The embedding of pooled text and sizes of SDXL.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// Features of the pooled text.
    pub text_width: usize,
    /// Numbers in `time_ids`: the sizes of the original and the target and the crop.
    pub ids: usize,
    /// Features of the sinusoid of each number.
    pub id_width: usize,
}

/// One level of resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Channels of its residual blocks.
    pub channels: usize,
    /// Residual blocks.
    pub resnets: usize,
    /// The transformer after each residual block, and its depth there.
    pub attention: Option<(Attention, Vec<usize>)>,
}

/// What lies between the halves.
#[derive(Debug, Clone, PartialEq)]
pub enum Mid {
    /// Nothing.
    Absent,
    /// One residual block.
    Resnet,
    /// Two residual blocks and a transformer of this depth between them.
    Transformer(Attention, usize),
}

/// Builds the function `name`.
///
/// Inputs, all f32: `sample` `[batch, in_channels, height, width]`, `timestep` `[]` or `[batch]`,
/// `encoder_hidden_states` `[batch, tokens, text_width]`, where the configuration has them
/// `timestep_cond` `[batch, condition_width]`, `text_embeds` `[batch, …]` and `time_ids`
/// `[batch, ids]`. Result: `out_sample` `[batch, out_channels, height, width]`, f32.
///
/// # Errors
/// When the configuration's numbers do not fit each other (groups and channels).
///
/// # Source
/// Spec 6.2; diffusers `UNet2DConditionModel.forward`.
pub fn build(name: &str, config: &Config, options: &Options) -> Result<Func, GraphError> {
    let mut layers = Layers::new(name, options.dtype);
    let [batch, height, width] = ["batch", "height", "width"].map(Dim::symbol);
    let shape = vec![batch.clone(), config.in_channels.into(), height, width];
    let sample = layers.input("sample", shape)?;
    let timestep = time_input(&mut layers, options.timestep, &batch)?;
    let text_shape = vec![
        batch.clone(),
        Dim::symbol("tokens"),
        config.text_width.into(),
    ];
    let text = layers.input("encoder_hidden_states", text_shape)?;
    let time = time_embedding(&mut layers, config, timestep, &batch)?;

    let mut x = sample;
    if config.center_input {
        let [two, one] = [layers.scalar(2.0)?, layers.scalar(1.0)?];
        x = layers.push(Mul, &[x, two])?;
        x = layers.push(Sub, &[x, one])?;
    }
    let first = config
        .down
        .first()
        .map_or(config.out_channels, |level| level.channels);
    x = layers.conv("conv_in", x, first, Window::same(config.kernels[0]))?;
    let mut network = Network {
        config,
        time,
        text,
        skips: vec![x],
    };
    x = network.down(&mut layers, x)?;
    x = network.mid(&mut layers, x)?;
    x = network.up(&mut layers, x)?;
    x = layers.group_norm("conv_norm_out", x, config.groups, config.epsilon)?;
    x = layers.silu(x)?;
    x = layers.conv(
        "conv_out",
        x,
        config.out_channels,
        Window::same(config.kernels[1]),
    )?;
    layers.result("out_sample", x)?;
    Ok(layers.finish())
}

/// The timesteps as f32 `[1]` or `[batch]`.
fn time_input(layers: &mut Layers, form: Timestep, batch: &Dim) -> Result<Value, GraphError> {
    match form {
        Timestep::PerSample => layers.typed_input("timestep", DType::F32, vec![batch.clone()]),
        Timestep::Scalar => {
            let scalar = layers.typed_input("timestep", DType::F32, Vec::new())?;
            layers.reshape(scalar, vec![Dim::from(1)])
        }
    }
}

/// The time embedding, activated as every residual block wants it: `[1 or batch, time_width]`.
fn time_embedding(
    layers: &mut Layers,
    config: &Config,
    timestep: Value,
    batch: &Dim,
) -> Result<Value, GraphError> {
    let channels = config.down.first().map_or(0, |level| level.channels);
    layers.at("time_proj");
    let embedded = sinusoid(layers, timestep, channels, config.sinusoid)?;
    let mut embedded = layers.cast_to_model(embedded)?;
    if let Some(condition_width) = config.condition_width {
        let shape = vec![batch.clone(), condition_width.into()];
        let condition = layers.input("timestep_cond", shape)?;
        let path = "time_embedding.cond_proj";
        let projected = layers.linear_without_bias(path, condition, channels)?;
        embedded = layers.add(embedded, projected)?;
    }
    let mut time = two_layers(layers, "time_embedding", embedded, config.time_width)?;
    if let Some(added) = &config.added {
        let features = added_features(layers, added, config.sinusoid, batch)?;
        let extra = two_layers(layers, "add_embedding", features, config.time_width)?;
        time = layers.add(time, extra)?;
    }
    layers.silu(time)
}

/// `linear_2(silu(linear_1(x)))`.
fn two_layers(
    layers: &mut Layers,
    path: &str,
    x: Value,
    width: usize,
) -> Result<Value, GraphError> {
    let x = layers.linear(&format!("{path}.linear_1"), x, width)?;
    let x = layers.silu(x)?;
    layers.linear(&format!("{path}.linear_2"), x, width)
}

/// The pooled text and the sinusoids of the sizes, side by side (spec 6.2).
fn added_features(
    layers: &mut Layers,
    added: &Added,
    form: Sinusoid,
    batch: &Dim,
) -> Result<Value, GraphError> {
    let text = layers.input("text_embeds", vec![batch.clone(), added.text_width.into()])?;
    let shape = vec![batch.clone(), added.ids.into()];
    let ids = layers.typed_input("time_ids", DType::F32, shape)?;
    layers.at("add_time_proj");
    let all = batch.mul(&added.ids.into());
    let ids = layers.reshape(ids, vec![all])?;
    let embedded = sinusoid(layers, ids, added.id_width, form)?;
    let embedded = layers.cast_to_model(embedded)?;
    let width = added.ids.saturating_mul(added.id_width);
    let embedded = layers.reshape(embedded, vec![batch.clone(), width.into()])?;
    layers.push(Concat { axis: 1 }, &[text, embedded])
}

/// The two halves and what they share.
struct Network<'a> {
    config: &'a Config,
    time: Value,
    text: Value,
    skips: Vec<Value>,
}

impl Network<'_> {
    fn down(&mut self, layers: &mut Layers, mut x: Value) -> Result<Value, GraphError> {
        let last = self.config.down.len().saturating_sub(1);
        for (index, level) in self.config.down.iter().enumerate() {
            let path = format!("down_blocks.{index}");
            for layer in 0..level.resnets {
                x = self.layer(layers, &path, level, layer, x)?;
                self.skips.push(x);
            }
            if index < last {
                x = downsample(layers, &path, x, level.channels, self.config.padding)?;
                self.skips.push(x);
            }
        }
        Ok(x)
    }

    fn mid(&self, layers: &mut Layers, mut x: Value) -> Result<Value, GraphError> {
        let channels = self.config.down.last().map_or(0, |level| level.channels);
        let resnet = |layers: &mut Layers, x, index| {
            let path = format!("mid_block.resnets.{index}");
            resnet(layers, &path, x, channels, Some(self.time), self.norm())
        };
        match &self.config.mid {
            Mid::Absent => {}
            Mid::Resnet => x = resnet(layers, x, 0)?,
            Mid::Transformer(attention, depth) => {
                x = resnet(layers, x, 0)?;
                let path = "mid_block.attentions.0";
                x = transformer(layers, path, x, self.text, *depth, attention)?;
                x = resnet(layers, x, 1)?;
            }
        }
        Ok(x)
    }

    fn up(&mut self, layers: &mut Layers, mut x: Value) -> Result<Value, GraphError> {
        let last = self.config.up.len().saturating_sub(1);
        for (index, level) in self.config.up.iter().enumerate() {
            let path = format!("up_blocks.{index}");
            for layer in 0..level.resnets {
                let skip = self
                    .skips
                    .pop()
                    .expect("the configuration pairs the halves");
                layers.at(&path);
                x = layers.push(Concat { axis: 1 }, &[x, skip])?;
                x = self.layer(layers, &path, level, layer, x)?;
            }
            if index < last {
                // The size of what comes next: twice this one, or one less where a size was odd.
                let next = *self
                    .skips
                    .last()
                    .expect("the configuration pairs the halves");
                let [_, _, height, width] = dims(layers, next);
                x = upsample(layers, &path, x, level.channels, [height, width])?;
            }
        }
        Ok(x)
    }

    /// One residual block and the transformer after it, if the level has any.
    fn layer(
        &self,
        layers: &mut Layers,
        path: &str,
        level: &Level,
        layer: usize,
        x: Value,
    ) -> Result<Value, GraphError> {
        let resnet_path = format!("{path}.resnets.{layer}");
        let time = Some(self.time);
        let x = resnet(layers, &resnet_path, x, level.channels, time, self.norm())?;
        match &level.attention {
            None => Ok(x),
            Some((attention, depths)) => {
                let path = format!("{path}.attentions.{layer}");
                transformer(layers, &path, x, self.text, depths[layer], attention)
            }
        }
    }

    fn norm(&self) -> Norm {
        Norm {
            groups: self.config.groups,
            epsilon: self.config.epsilon,
        }
    }
}

fn dims(layers: &Layers, image: Value) -> [Dim; 4] {
    layers
        .shape(image)
        .try_into()
        .expect("images have four axes")
}
