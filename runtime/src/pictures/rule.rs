//! What a network that looks at pictures is fed: the resize rule, the fit and the range.
//!
//! Takes a decoded picture and the size that the network wants, returns numbers. The three choices
//! are what makes published scores comparable or not, so that each is said by name.

use super::fit::{covering, middle};
use super::resize::{self, CHANNELS, Filter};
use super::{Picture, PictureError};

/// How many times the pixels of the target a covering picture may have.
const NARROW: usize = 64;

/// How a picture becomes the input of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureRule {
    /// How pixels are resized.
    pub resize: Resize,
    /// How another aspect is met.
    pub fit: Fit,
    /// What numbers black and white become.
    pub range: Range,
}

/// How pixels are resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// As Pillow resizes pictures of bytes, rounded to 8 bits.
    Pillow(Filter),
    /// As clean-fid: Pillow's bicubic filter on floats, cut to 0 to 255 and not rounded.
    Clean,
    /// As pytorch-fid: between neighbouring pixels only, in floats and without antialiasing.
    Torch,
}

/// How a picture of another aspect is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The whole picture, stretched.
    Stretch,
    /// The middle of the picture that covers the size.
    Crop,
}

/// What numbers black and white become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// 0 to 1.
    Unit,
    /// -1 to 1.
    Signed,
    /// 0 to 255.
    Byte,
    /// 0 to 1 less torchvision's means, divided by its deviations.
    ImageNet,
    /// 0 to 1 less CLIP's means, divided by its deviations.
    Clip,
}

/// torchvision's means and deviations of the channels.
const IMAGENET: [[f32; CHANNELS]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
/// CLIP's (transformers `OPENAI_CLIP_MEAN` and `OPENAI_CLIP_STD`).
const CLIP: [[f32; CHANNELS]; 2] = [
    [0.481_454_66, 0.457_827_5, 0.408_210_73],
    [0.268_629_54, 0.261_302_6, 0.275_777_1],
];

impl Range {
    /// What a channel's byte becomes.
    fn number(self, byte: f32, channel: usize) -> f32 {
        let normal = |[mean, deviation]: [[f32; CHANNELS]; 2]| {
            (byte / 255.0 - mean[channel]) / deviation[channel]
        };
        match self {
            Range::Unit => byte / 255.0,
            Range::Signed => (byte / 255.0 - 0.5) / 0.5,
            Range::Byte => byte,
            Range::ImageNet => normal(IMAGENET),
            Range::Clip => normal(CLIP),
        }
    }
}

impl PictureRule {
    /// The numbers `[3, rows, columns]` of a picture for a network that wants `[rows, columns]`
    /// pixels.
    ///
    /// # Errors
    /// When the picture is so narrow that most of it would be cropped off.
    pub fn numbers(&self, picture: &Picture, size: [usize; 2]) -> Result<Vec<f32>, PictureError> {
        let size = size.map(|extent| extent.max(1));
        let whole = match self.fit {
            Fit::Stretch => size,
            Fit::Crop => covering(picture.size, size),
        };
        let pixels = |[rows, columns]: [usize; 2]| rows.saturating_mul(columns);
        if pixels(whole) > pixels(size).saturating_mul(NARROW) {
            let [rows, columns] = picture.size;
            return Err(PictureError::Narrow {
                rows,
                columns,
                size,
            });
        }
        let bytes = |pixels: &[u8]| pixels.iter().map(|byte| f32::from(*byte)).collect();
        let floats: Vec<f32> = match self.resize {
            Resize::Pillow(filter) => bytes(&picture.resized_by(filter, whole).pixels),
            Resize::Clean => {
                let pixels: Vec<f32> = bytes(&picture.pixels);
                let resized = resize::smooth(&pixels, picture.size, Filter::Bicubic, whole);
                resized.into_iter().map(|x| x.clamp(0.0, 255.0)).collect()
            }
            Resize::Torch => {
                let pixels: Vec<f32> = bytes(&picture.pixels);
                resize::interpolated(&pixels, picture.size, whole)
            }
        };
        let [top, left] = [0, 1].map(|axis| middle(whole[axis] - size[axis]));
        let lines = floats.chunks_exact(whole[1] * CHANNELS);
        let lines: Vec<&[f32]> = lines.skip(top).take(size[0]).collect();
        let plane = |channel: usize| {
            let kept = lines.iter().flat_map(move |line| {
                let line = &line[left * CHANNELS..][..size[1] * CHANNELS];
                line.iter().skip(channel).step_by(CHANNELS)
            });
            kept.map(move |byte| self.range.number(*byte, channel))
        };
        Ok((0..CHANNELS).flat_map(plane).collect())
    }
}
