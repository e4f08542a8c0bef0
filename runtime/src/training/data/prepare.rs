//! Pictures at the size of a training: resized, mirrored, cropped.
//!
//! Takes a decoded picture, a size and draws, returns pixels from -1 to 1 and what size
//! conditioning says of them. The picture is resized until it covers the size, as much as needed.

use compiler::value::tensor::Tensor;

use super::order::place;
use crate::pictures::{Picture, PictureError, covering, middle};
use crate::pipeline::PictureSizes;
use crate::training::draws::{Address, Draws, Purpose};

/// How pictures become those that are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preparation {
    /// Where they are cropped.
    pub crop: Crop,
    /// Whether half of them are mirrored, drawn anew each time.
    pub flip: bool,
}

/// Which part of a resized picture is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// The middle.
    Center,
    /// Any, drawn anew each time.
    Random,
}

/// A picture that is ready to be encoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prepared {
    /// f32 `[1, 3, rows, columns]`, from -1 to 1.
    pub(super) pixels: Tensor,
    /// What size conditioning says of it: the crop is in pixels of the resized picture.
    pub(super) sizes: PictureSizes,
}

/// Whether the picture at an address is mirrored.
pub(super) fn is_flipped(preparation: Preparation, draws: Draws, at: Address) -> bool {
    let mut uniforms = draws.uniforms(Purpose::Flip, at);
    preparation.flip && uniforms.next().is_some_and(|uniform| uniform < 0.5)
}

/// How many times the pixels of the target a resized picture may have.
const NARROW: usize = 64;

/// Prepares a picture for `[rows, columns]` pixels.
///
/// # Errors
/// When the picture is so narrow that most of it would be cropped off.
///
/// # Source
/// Spec 1.10 and 2.2; torchvision `Resize(shorter side)`, `CenterCrop` and `RandomCrop`; diffusers
/// `train_text_to_image_sdxl.py`, `preprocess_train`: it mirrors before it crops, so that the crop
/// is that of the mirrored picture.
pub(super) fn prepare(
    picture: &Picture,
    size: [usize; 2],
    preparation: Preparation,
    draws: Draws,
    at: Address,
) -> Result<Prepared, PictureError> {
    let original = picture.size();
    let covering = covering(original, size);
    let pixels = |[rows, columns]: [usize; 2]| rows.saturating_mul(columns);
    if pixels(covering) > pixels(size).saturating_mul(NARROW) {
        let [rows, columns] = original;
        return Err(PictureError::Narrow {
            rows,
            columns,
            size,
        });
    }
    let resized = picture.resized(covering);
    let resized = match is_flipped(preparation, draws, at) {
        true => resized.mirrored(),
        false => resized,
    };
    let mut uniforms = draws.uniforms(Purpose::Crop, at);
    let spare = [0, 1].map(|axis| resized.size()[axis] - size[axis]);
    let crop = spare.map(|spare| match preparation.crop {
        Crop::Center => middle(spare),
        Crop::Random => place(uniforms.next().unwrap_or(0.0), spare + 1),
    });
    Ok(Prepared {
        pixels: resized.cropped(crop, size).tensor(),
        sizes: PictureSizes {
            original,
            crop,
            target: size,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_pictures_are_refused() {
        let preparation = Preparation {
            crop: Crop::Center,
            flip: false,
        };
        let at = Address { step: 0, sample: 0 };
        let mut file = Vec::new();
        let line = image::RgbImage::new(9000, 1);
        let written = line.write_to(
            &mut std::io::Cursor::new(&mut file),
            image::ImageFormat::Png,
        );
        written.expect("a picture");
        let picture = Picture::decode(&file).expect("a picture");
        let refused = prepare(&picture, [512, 512], preparation, Draws::new(0), at);
        let message = refused.expect_err("it is narrow").to_string();
        assert_eq!(message, "it has 9000x1 pixels, too narrow for 512x512");
    }

    #[test]
    fn pictures_cover_their_size_as_torchvision_resizes_and_crops() {
        // Of torchvision 0.21's functions: size, shorter side, resized size.
        let cases = [
            ([750, 1000], [512, 512], [512, 682]),
            ([1000, 750], [512, 512], [682, 512]),
            ([512, 512], [512, 512], [512, 512]),
            ([100, 301], [64, 64], [64, 192]),
            ([1, 1], [64, 64], [64, 64]),
            ([600, 1000], [512, 768], [512, 853]),
            ([1000, 1000], [512, 768], [768, 768]),
        ];
        for (from, size, wanted) in cases {
            assert_eq!(covering(from, size), wanted, "{from:?} to {size:?}");
        }
        let halves: Vec<usize> = (0..9).map(middle).collect();
        assert_eq!(halves, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
    }
}
