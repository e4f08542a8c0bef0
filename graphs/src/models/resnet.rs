//! The residual block and the samplers between levels, which the UNet and the autoencoder share.
//!
//! Takes an image, gives an image. Paths are diffusers'.

use compiler::graph::{GraphError, Value};
use compiler::ops::UpsampleNearest;
use compiler::value::dim::Dim;

use crate::models::layers::{Layers, Window};

/// The normalisation of residual blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Norm {
    /// Groups of channels.
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) epsilon: f64,
}

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`, from the channels of `x` to
/// `channels`. `time` is the activated time embedding `[1 or batch, width]`, if the model has one.
///
/// # Source
/// Spec 6.2; diffusers `ResnetBlock2D` with `time_embedding_norm="default"`.
pub(crate) fn resnet(
    layers: &mut Layers,
    path: &str,
    x: Value,
    channels: usize,
    time: Option<Value>,
    norm: Norm,
) -> Result<Value, GraphError> {
    let at = |part: &str| format!("{path}.{part}");
    let mut h = layers.group_norm(&at("norm1"), x, norm.groups, norm.epsilon)?;
    h = layers.silu(h)?;
    h = layers.conv(&at("conv1"), h, channels, Window::same(3))?;
    if let Some(time) = time {
        let shift = layers.linear(&at("time_emb_proj"), time, channels)?;
        let mut shape = layers.shape(shift);
        shape.extend([Dim::from(1), Dim::from(1)]);
        let shift = layers.reshape(shift, shape)?;
        h = layers.add(h, shift)?;
    }
    h = layers.group_norm(&at("norm2"), h, norm.groups, norm.epsilon)?;
    h = layers.silu(h)?;
    h = layers.conv(&at("conv2"), h, channels, Window::same(3))?;
    let mut shortcut = x;
    if layers.shape(x)[1] != Dim::from(channels) {
        shortcut = layers.conv(&at("conv_shortcut"), x, channels, Window::same(1))?;
    }
    layers.at(path);
    layers.add(shortcut, h)
}

/// A convolution that halves height and width, keeping the channels.
pub(crate) fn downsample(
    layers: &mut Layers,
    path: &str,
    x: Value,
    channels: usize,
    padding: Padding,
) -> Result<Value, GraphError> {
    let (before, after) = match padding {
        Padding::Both => (1, 1),
        Padding::After => (0, 1),
    };
    let window = Window {
        kernel: 3,
        stride: 2,
        before,
        after,
    };
    layers.conv(&format!("{path}.downsamplers.0.conv"), x, channels, window)
}

/// Where [`downsample`] adds a row and a column of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// On every side: an odd size rounds up.
    Both,
    /// Below and to the right: an odd size rounds down.
    After,
}

/// The nearest pixels at `height` and `width`, then a convolution that keeps the channels.
pub(crate) fn upsample(
    layers: &mut Layers,
    path: &str,
    x: Value,
    channels: usize,
    size: [Dim; 2],
) -> Result<Value, GraphError> {
    let path = format!("{path}.upsamplers.0.conv");
    layers.at(&path);
    let x = layers.push(UpsampleNearest { size: size.into() }, &[x])?;
    layers.conv(&path, x, channels, Window::same(3))
}
