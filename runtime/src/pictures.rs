//! Pictures as networks see them: decoded, resized, cropped, mirrored, as numbers from -1 to 1.
//!
//! Takes the bytes of JPEG, PNG and WebP files, returns 8-bit RGB and tensors. Orientation of EXIF
//! is applied, as `datasets` and diffusers' `load_image` do; transparency is dropped and not
//! blended, as PIL's `convert("RGB")` does; 16-bit values keep their upper half. Resizing is
//! Pillow's, to the bit of its versions up to 12. It opens no file.

use std::io::Cursor;

use compiler::value::tensor::Tensor;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use thiserror::Error;

mod fit;
mod resize;
mod rule;

pub(crate) use fit::{covering, middle};
use resize::CHANNELS;
pub use resize::Filter;
pub use rule::{Fit, PictureRule, Range, Resize};

/// The largest extent of a picture, in pixels: what JPEG can store.
const EXTENT_MAX: u32 = 65_535;

/// The most bytes that decoding a picture may allocate.
const DECODED_BYTES_MAX: u64 = 1 << 30;

/// A picture of 8-bit RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Rows and columns.
    size: [usize; 2],
    /// Row by row, the three channels of a pixel side by side.
    pixels: Vec<u8>,
}

/// Why bytes are not a picture.
#[derive(Debug, Error)]
pub enum PictureError {
    /// The bytes begin like no format that is read.
    #[error("it is not a picture; expected a JPEG, PNG or WebP file")]
    Format,
    /// The picture is damaged, larger than the bounds, or of a kind that the decoder does not know.
    #[error("it cannot be decoded: {reason}")]
    Decode {
        /// What the decoder says.
        reason: String,
    },
    /// It is much longer than wide, or wider than long: resized it would be very large.
    #[error("it has {columns}x{rows} pixels, too narrow for {}x{}", .size[1], .size[0])]
    Narrow {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
        /// Rows and columns that it has to cover.
        size: [usize; 2],
    },
    /// There are no pixels.
    #[error("it has {columns}x{rows} pixels; expected at least 1x1")]
    Empty {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
}

impl Picture {
    /// Decodes a JPEG, PNG or WebP file, of an animation the first picture. What the file is named
    /// does not matter.
    ///
    /// # Errors
    /// When the bytes are of another format, damaged or cut, or the picture has more than 65,535
    /// pixels along an axis or needs more than 1 GiB.
    pub fn decode(file: &[u8]) -> Result<Picture, PictureError> {
        let mut decoder = decoder(file)?;
        // A damaged orientation is none.
        let orientation = decoder.orientation().ok();
        let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
        if let Some(orientation) = orientation {
            image.apply_orientation(orientation);
        }
        let image = image.into_rgb8();
        let size = [image.height() as usize, image.width() as usize];
        Picture::new(size, image.into_raw())
    }

    /// A picture of `[rows, columns]` pixels.
    fn new(size: [usize; 2], pixels: Vec<u8>) -> Result<Picture, PictureError> {
        let [rows, columns] = size;
        match size.contains(&0) {
            true => Err(PictureError::Empty { rows, columns }),
            false => Ok(Picture { size, pixels }),
        }
    }

    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The picture at `[rows, columns]` pixels, each at least 1, by Pillow's bilinear filter.
    pub fn resized(&self, size: [usize; 2]) -> Picture {
        self.resized_by(Filter::Bilinear, size)
    }

    /// The picture at `[rows, columns]` pixels, each at least 1.
    ///
    /// # Source
    /// Pillow `Image.resize(size, resample)`; `Resample.c`, `ImagingResampleInner`: columns first,
    /// then rows, each rounded to 8 bits. Pillow 13 takes rows first for some sizes, which changes
    /// values by a level.
    pub fn resized_by(&self, filter: Filter, size: [usize; 2]) -> Picture {
        let size = size.map(|extent| extent.max(1));
        Picture {
            size,
            pixels: resize::rounded(&self.pixels, self.size, filter, size),
        }
    }

    /// The part of `[rows, columns]` pixels whose upper left corner is at `[top, left]`.
    ///
    /// # Panics
    /// When the part is not within the picture: the caller chose it.
    pub fn cropped(&self, [top, left]: [usize; 2], [rows, columns]: [usize; 2]) -> Picture {
        let is_within = top + rows <= self.size[0] && left + columns <= self.size[1];
        assert!(is_within, "a crop is within its picture");
        let lines = self.pixels.chunks_exact(self.size[1] * CHANNELS);
        let kept = lines.skip(top).take(rows);
        let pixels = kept.flat_map(|line| &line[left * CHANNELS..][..columns * CHANNELS]);
        Picture {
            size: [rows, columns],
            pixels: pixels.copied().collect(),
        }
    }

    /// The picture with left and right exchanged.
    pub fn mirrored(&self) -> Picture {
        let lines = self.pixels.chunks_exact(self.size[1] * CHANNELS);
        let pixels = lines.flat_map(|line| line.chunks_exact(CHANNELS).rev().flatten());
        Picture {
            size: self.size,
            pixels: pixels.copied().collect(),
        }
    }

    /// The picture as f32 `[1, 3, rows, columns]`, from -1 for black to 1 for white.
    ///
    /// # Source
    /// torchvision `ToTensor` and `Normalize([0.5], [0.5])`: `(v / 255 − 0.5) / 0.5`.
    pub fn tensor(&self) -> Tensor {
        let number = |value: &u8| (f32::from(*value) / 255.0 - 0.5) / 0.5;
        let plane = |channel| self.pixels.iter().skip(channel).step_by(CHANNELS);
        let numbers: Vec<f32> = (0..CHANNELS).flat_map(plane).map(number).collect();
        let [rows, columns] = self.size;
        Tensor::from_f32(&[1, CHANNELS, rows, columns], &numbers)
    }
}

/// Rows and columns of a picture whose file begins like this, as [`Picture::decode`] would return
/// them; `None` if that takes more of the file, or it is not a picture.
pub fn size(file: &[u8]) -> Option<[usize; 2]> {
    let mut decoder = decoder(file).ok()?;
    let (columns, rows) = decoder.dimensions();
    let size = [rows as usize, columns as usize];
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Some(match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => [size[1], size[0]],
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => size,
    })
}

/// A decoder that has read the header.
fn decoder(file: &[u8]) -> Result<impl ImageDecoder, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(file));
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(EXTENT_MAX);
    limits.max_image_height = Some(EXTENT_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let reader = reader.with_guessed_format().map_err(failed)?;
    match reader.format() {
        Some(_) => reader.into_decoder().map_err(failed),
        None => Err(PictureError::Format),
    }
}

fn failed(error: impl std::fmt::Display) -> PictureError {
    PictureError::Decode {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tensor_file;

    macro_rules! golden {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/golden/pictures/", $name)).as_slice()
        };
    }

    /// What Pillow says of a picture.
    fn wanted(name: &str) -> Picture {
        let file = Bytes::from_static(golden!("pictures.safetensors"));
        let tensors = tensor_file::read(&file).expect("the golden file is whole");
        let &[rows, columns, 3] = tensors[name].shape() else {
            panic!("{name} is not a picture");
        };
        Picture {
            size: [rows, columns],
            pixels: tensors[name].bytes().to_vec(),
        }
    }

    /// Checks that a file decodes to Pillow's pixels, none further off than `bound`.
    fn check(name: &str, file: &[u8], bound: u8) {
        let (found, wanted) = (Picture::decode(file), wanted(name));
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.size(), wanted.size(), "{name}");
        assert_eq!(size(file), Some(wanted.size()), "{name}");
        let furthest = furthest(&found, &wanted);
        assert!(furthest <= bound, "{name}: {furthest}");
    }

    /// The greatest difference of two pictures of one size.
    fn furthest(found: &Picture, wanted: &Picture) -> u8 {
        assert_eq!(found.size, wanted.size);
        let pairs = found.pixels.iter().zip(&wanted.pixels);
        let differences = pairs.map(|(own, other)| own.abs_diff(*other));
        differences.max().unwrap_or(0)
    }

    #[test]
    fn pixels_are_those_of_pillow() {
        check("noise.png", golden!("noise.png"), 0);
        check("transparent.png", golden!("transparent.png"), 0);
        check("palette.png", golden!("palette.png"), 0);
        check("grey.png", golden!("grey.png"), 0);
        check("lossless.webp", golden!("lossless.webp"), 0);
        // Decoders of JPEG may round the inverse transform, the colours and the halved channels
        // differently, each by a level or two.
        check("grey.jpg", golden!("grey.jpg"), 2);
        check("turned.jpg", golden!("turned.jpg"), 4);
        check("halved.jpg", golden!("halved.jpg"), 6);
    }

    #[test]
    fn resizing_is_pillows() {
        let noise = Picture::decode(golden!("noise.png")).expect("a picture");
        // Pillow 13, which made the golden file, resizes rows first in the cases that may be a
        // level off; Pillow 12 resizes columns first everywhere and is equal in all of them.
        for (size, bound) in [
            ([16, 16], 1),
            ([5, 64], 1),
            ([23, 12], 0),
            ([50, 61], 0),
            ([37, 23], 0),
            ([1, 1], 1),
            ([37, 22], 0),
            ([36, 23], 0),
        ] {
            let name = format!("{}x{}", size[0], size[1]);
            let furthest = furthest(&noise.resized(size), &wanted(&name));
            assert!(furthest <= bound, "{name}: {furthest}");
        }
    }

    #[test]
    fn other_filters_and_rules_are_those_of_pillow_and_torch() {
        let noise = Picture::decode(golden!("noise.png")).expect("a picture");
        let file = Bytes::from_static(golden!("pictures.safetensors"));
        let tensors = tensor_file::read(&file).expect("the golden file is whole");
        // Of 16x16 Pillow 13, which made the golden file, resizes rows first; where values are cut to
        // 8 bits in between, both orders differ by some levels.
        for (size, bound) in [([16, 16], 12), ([23, 12], 0), ([50, 61], 0)] {
            let [rows, columns] = size;
            for (name, filter) in [("bicubic", Filter::Bicubic), ("lanczos", Filter::Lanczos)] {
                let wanted = wanted(&format!("{name} {rows}x{columns}"));
                let furthest = furthest(&noise.resized_by(filter, size), &wanted);
                assert!(furthest <= bound, "{name} {size:?}: {furthest}");
            }
            for (name, resize) in [("clean", Resize::Clean), ("torch", Resize::Torch)] {
                let rule = PictureRule {
                    resize,
                    fit: Fit::Stretch,
                    range: Range::Byte,
                };
                let found = rule.numbers(&noise, size).expect("a size");
                let wanted = tensors[&format!("{name} {rows}x{columns}")].values();
                let compiler::value::tensor::Values::Float(wanted) = wanted else {
                    panic!("{name} holds floats");
                };
                assert_eq!(found.len(), wanted.len());
                for (found, wanted) in found.iter().zip(wanted) {
                    let difference = (f64::from(*found) - wanted).abs();
                    assert!(difference < 1e-3, "{name} {size:?}: {found} {wanted}");
                }
            }
        }
    }

    #[test]
    fn parts_and_mirrors_keep_their_pixels() {
        let pixels = (0..18).collect();
        let picture = Picture::new([2, 3], pixels).expect("a picture");
        let part = picture.cropped([1, 1], [1, 2]);
        assert_eq!(part.pixels, [12, 13, 14, 15, 16, 17]);
        assert_eq!(part.mirrored().pixels, [15, 16, 17, 12, 13, 14]);
        let tensor = Picture::new([1, 2], vec![0, 255, 51, 0, 0, 255])
            .expect("a picture")
            .tensor();
        let wanted = [-1.0, -1.0, 1.0, -1.0, -0.6, 1.0];
        assert_eq!(tensor, Tensor::from_f32(&[1, 3, 1, 2], &wanted));
    }

    #[test]
    fn damaged_files_are_errors() {
        let names = ["noise.png", "turned.jpg", "lossless.webp"];
        let files = [
            golden!("noise.png"),
            golden!("turned.jpg"),
            golden!("lossless.webp"),
        ];
        for (name, file) in names.into_iter().zip(files) {
            for length in 0..file.len() {
                // A decoder may fill up what a JPEG lacks, as viewers do, and ignore the last chunk
                // of a PNG, which holds no pixels.
                let is_whole = name.ends_with(".jpg") || length + 12 >= file.len();
                let cut = Picture::decode(&file[..length]);
                assert!(cut.is_err() || is_whole, "{name} of {length} bytes");
                size(&file[..length]);
            }
            for place in 0..file.len() {
                let mut changed = file.to_vec();
                changed[place] ^= 0x55;
                // It may be a picture still.
                let _ = Picture::decode(&changed);
            }
        }
        let text = Picture::decode(b"GIF89a, which is not read");
        assert!(matches!(
            text,
            Err(PictureError::Format | PictureError::Decode { .. })
        ));
    }
}
