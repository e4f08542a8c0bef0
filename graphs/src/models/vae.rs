//! The autoencoder of latent diffusion: diffusers' `AutoencoderKL`.
//!
//! Takes a configuration, gives the decoder `latent_sample` → `sample` and the encoder `sample` →
//! `latent_parameters`, with the weights as parameters. Sizes stay symbols: `batch`, `height` and
//! `width` of what goes in. Scaling the latents is the caller's; the factors are data here.

use compiler::graph::{Func, GraphError, Value};
use compiler::value::dim::Dim;
use compiler::value::tensor::Tensor;
use serde_json::json;

use crate::models::Options;
use crate::models::fields::{ConfigError, Fields};
use crate::models::layers::{Layers, Window};
use crate::models::resnet::{Norm, Padding, downsample, resnet, upsample};

/// Most levels of resolution; each halves height and width.
const LEVELS_MAX: usize = 8;
/// Most layers of a level; keeps a hostile file from building forever.
const LAYERS_MAX: usize = 16;
/// Most channels.
const WIDTH_MAX: usize = 1 << 16;
/// Epsilon of every normalisation (spec 6.3).
const EPSILON: f64 = 1e-6;
/// What latents are multiplied with when the configuration is older than the key (spec 6.3).
const SCALING_FACTOR: f64 = 0.18215;

/// What the autoencoder looks like, with every default resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Channels of the image that is encoded.
    pub in_channels: usize,
    /// Channels of the decoded image.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of the levels, from fine to coarse.
    pub channels: Vec<usize>,
    /// Residual blocks of an encoder's level; a decoder's has one more.
    pub layers: usize,
    /// Groups of every normalisation.
    pub groups: usize,
    /// Whether there is attention between the residual blocks of the middle.
    pub mid_attention: bool,
    /// Whether a convolution follows the encoder.
    pub quant_conv: bool,
    /// Whether a convolution precedes the decoder.
    pub post_quant_conv: bool,
    /// Latents are multiplied by it after encoding and divided by it before decoding.
    pub scaling_factor: f64,
    /// Subtracted from encoded latents before scaling, added back before decoding.
    pub shift_factor: f64,
    /// Keys of the configuration that nothing reads.
    pub ignored: Vec<String>,
}

impl Config {
    /// The configuration in `text`, the contents of `file`.
    ///
    /// # Errors
    /// When a key asks for a variant that is not built, naming it.
    ///
    /// # Source
    /// diffusers `AutoencoderKL.__init__`: its keys and their defaults.
    pub fn parse(file: &str, text: &[u8]) -> Result<Config, ConfigError> {
        let mut fields = Fields::parse(file, text)?;
        fields.name("act_fn", "silu", &[("silu", ()), ("swish", ())])?;
        // Sizes are the caller's; arithmetic is f32, so nothing needs upcasting.
        fields.irrelevant(&["sample_size", "force_upcast"]);
        fields.only("latents_mean", json!(null))?;
        fields.only("latents_std", json!(null))?;
        let key = "block_out_channels";
        let channels = fields.counts(key, &[64], LEVELS_MAX, WIDTH_MAX)?;
        for (key, kind) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            fields.names(key, &[kind], &[(kind, ())], channels.len())?;
        }
        let mut config = Config {
            in_channels: fields.count("in_channels", 3, WIDTH_MAX)?,
            out_channels: fields.count("out_channels", 3, WIDTH_MAX)?,
            latent_channels: fields.count("latent_channels", 4, WIDTH_MAX)?,
            channels,
            layers: fields.count("layers_per_block", 1, LAYERS_MAX)?,
            groups: fields.count("norm_num_groups", 32, WIDTH_MAX)?,
            mid_attention: fields.flag("mid_block_add_attention", true)?,
            quant_conv: fields.flag("use_quant_conv", true)?,
            post_quant_conv: fields.flag("use_post_quant_conv", true)?,
            scaling_factor: fields.number("scaling_factor", SCALING_FACTOR)?,
            shift_factor: fields.number("shift_factor", 0.0)?,
            ignored: Vec::new(),
        };
        config.ignored = fields.finish();
        Ok(config)
    }

    /// Pixels per latent, in both directions.
    pub fn factor(&self) -> usize {
        1 << self.channels.len().saturating_sub(1)
    }

    fn norm(&self) -> Norm {
        Norm {
            groups: self.groups,
            epsilon: EPSILON,
        }
    }

    fn coarsest(&self) -> usize {
        self.channels
            .last()
            .copied()
            .unwrap_or(self.latent_channels)
    }
}

/// Builds the decoder as the function `name`: `latent_sample` `[batch, latent_channels, height,
/// width]` (already divided by the scaling factor) → `sample` `[batch, out_channels,
/// factor·height, factor·width]` in −1..1, not clipped; f32.
///
/// # Errors
/// When the configuration's numbers do not fit each other (groups and channels).
///
/// # Source
/// Spec 6.3; diffusers `AutoencoderKL._decode`, `Decoder`.
pub fn build_decoder(name: &str, config: &Config, options: &Options) -> Result<Func, GraphError> {
    let mut layers = Layers::new(name, options.dtype);
    let [batch, height, width] = ["batch", "height", "width"].map(Dim::symbol);
    let shape = vec![batch, config.latent_channels.into(), height, width];
    let mut x = layers.input("latent_sample", shape)?;
    if config.post_quant_conv {
        x = layers.conv(
            "post_quant_conv",
            x,
            config.latent_channels,
            Window::same(1),
        )?;
    }
    x = layers.conv("decoder.conv_in", x, config.coarsest(), Window::same(3))?;
    x = mid(&mut layers, "decoder.mid_block", x, config)?;
    for (index, &channels) in config.channels.iter().rev().enumerate() {
        let path = format!("decoder.up_blocks.{index}");
        for layer in 0..=config.layers {
            let path = format!("{path}.resnets.{layer}");
            x = resnet(&mut layers, &path, x, channels, None, config.norm())?;
        }
        if index + 1 < config.channels.len() {
            let two = Dim::from(2);
            let shape = layers.shape(x);
            let size = [shape[2].mul(&two), shape[3].mul(&two)];
            x = upsample(&mut layers, &path, x, channels, size)?;
        }
    }
    x = layers.group_norm("decoder.conv_norm_out", x, config.groups, EPSILON)?;
    x = layers.silu(x)?;
    x = layers.conv("decoder.conv_out", x, config.out_channels, Window::same(3))?;
    layers.result("sample", x)?;
    Ok(layers.finish())
}

/// Builds the encoder as the function `name`: `sample` `[batch, in_channels, height, width]`,
/// pixels in −1..1 → `latent_parameters` `[batch, 2·latent_channels, height/factor,
/// width/factor]`, rounded down: mean, then log-variance as the network gives it (samplers of it
/// clamp it to −30..20); f32.
///
/// # Errors
/// When the configuration's numbers do not fit each other (groups and channels).
///
/// # Source
/// Spec 6.3; diffusers `AutoencoderKL._encode`, `Encoder`, `DiagonalGaussianDistribution`.
pub fn build_encoder(name: &str, config: &Config, options: &Options) -> Result<Func, GraphError> {
    let mut layers = Layers::new(name, options.dtype);
    let [batch, height, width] = ["batch", "height", "width"].map(Dim::symbol);
    let shape = vec![batch, config.in_channels.into(), height, width];
    let mut x = layers.input("sample", shape)?;
    let finest = config
        .channels
        .first()
        .copied()
        .unwrap_or(config.latent_channels);
    x = layers.conv("encoder.conv_in", x, finest, Window::same(3))?;
    for (index, &channels) in config.channels.iter().enumerate() {
        let path = format!("encoder.down_blocks.{index}");
        for layer in 0..config.layers {
            let path = format!("{path}.resnets.{layer}");
            x = resnet(&mut layers, &path, x, channels, None, config.norm())?;
        }
        if index + 1 < config.channels.len() {
            x = downsample(&mut layers, &path, x, channels, Padding::After)?;
        }
    }
    x = mid(&mut layers, "encoder.mid_block", x, config)?;
    x = layers.group_norm("encoder.conv_norm_out", x, config.groups, EPSILON)?;
    x = layers.silu(x)?;
    let parameters = 2 * config.latent_channels;
    x = layers.conv("encoder.conv_out", x, parameters, Window::same(3))?;
    if config.quant_conv {
        x = layers.conv("quant_conv", x, parameters, Window::same(1))?;
    }
    layers.result("latent_parameters", x)?;
    Ok(layers.finish())
}

fn mid(layers: &mut Layers, path: &str, x: Value, config: &Config) -> Result<Value, GraphError> {
    let channels = config.coarsest();
    let first = format!("{path}.resnets.0");
    let mut x = resnet(layers, &first, x, channels, None, config.norm())?;
    if config.mid_attention {
        x = attention(layers, &format!("{path}.attentions.0"), x, channels, config)?;
    }
    let second = format!("{path}.resnets.1");
    resnet(layers, &second, x, channels, None, config.norm())
}

/// `x` plus attention of its pixels to each other, in one head with biases everywhere.
fn attention(
    layers: &mut Layers,
    path: &str,
    x: Value,
    channels: usize,
    config: &Config,
) -> Result<Value, GraphError> {
    let at = |part: &str| format!("{path}.{part}");
    let h = layers.group_norm(&at("group_norm"), x, config.groups, EPSILON)?;
    let h = layers.tokens(h)?;
    let q = layers.linear(&at("to_q"), h, channels)?;
    let k = layers.linear(&at("to_k"), h, channels)?;
    let v = layers.linear(&at("to_v"), h, channels)?;
    layers.at(path);
    let h = layers.attention([q, k, v], 1, false)?;
    let h = layers.linear(&at("to_out.0"), h, channels)?;
    let h = layers.image(h, x)?;
    layers.add(h, x)
}

/// Names of the middle's attention before diffusers 0.14, and what they are now.
const OLD_NAMES: [(&str, &str); 4] = [
    ("query", "to_q"),
    ("key", "to_k"),
    ("value", "to_v"),
    ("proj_attn", "to_out.0"),
];

/// The name and the tensor that this tensor of a checkpoint is today: older ones call the
/// projections of the middle's attention by other names, or store them as 1×1 convolutions.
///
/// # Source
/// Spec 6.5; diffusers `Attention._convert_deprecated_attention_blocks`.
pub fn modernise(name: &str, tensor: Tensor) -> (String, Tensor) {
    let Some((block, layer)) = name.split_once(".mid_block.attentions.0.") else {
        return (name.to_owned(), tensor);
    };
    let renamed = OLD_NAMES.iter().find_map(|(old, new)| {
        let end = layer.strip_prefix(old)?.strip_prefix('.')?;
        Some(format!("{block}.mid_block.attentions.0.{new}.{end}"))
    });
    let squeezed = match *tensor.shape() {
        [rows, columns, 1, 1] => tensor.reshaped(vec![rows, columns]).ok(),
        _ => None,
    };
    let name = renamed.unwrap_or_else(|| name.to_owned());
    (name, squeezed.unwrap_or(tensor))
}
