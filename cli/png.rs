//! Pictures as PNG files, with the `parameters` text that A1111 and ComfyUI read.
//!
//! Takes decoded images in [-1, 1] and returns the bytes of a PNG; never opens a file.

use std::collections::BTreeMap;

use compiler::value::tensor::{Tensor, Values};

use crate::error::{At, Failure};

/// Encodes picture `index` of `decoded` `[batch, 3, height, width]`, values in [-1, 1].
pub(crate) fn encode(
    decoded: &Tensor,
    index: usize,
    texts: &BTreeMap<&str, String>,
) -> Result<Vec<u8>, Failure> {
    let (pixels, [height, width]) = pixels(decoded, index)?;
    let (Ok(wide), Ok(high)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(Failure::job(format!(
            "a picture of {width}x{height} does not fit a PNG"
        )));
    };
    encode_rgb(&pixels, (wide, high), texts)
}

/// Picture `index` of `decoded` `[batch, 3, height, width]`, values in [-1, 1] (more is clamped), as
/// 8-bit RGB row by row: `round((x / 2 + 0.5) · 255)`, as diffusers' `VaeImageProcessor`. Returns
/// rows and columns too.
pub(crate) fn pixels(decoded: &Tensor, index: usize) -> Result<(Vec<u8>, [usize; 2]), Failure> {
    let &[batch, 3, height, width] = decoded.shape() else {
        let shape = decoded.shape();
        let message =
            format!("the decoder returned shape {shape:?}; expected [batch, 3, height, width]");
        return Err(Failure::job(message));
    };
    assert!(index < batch, "the caller counts the pictures");
    let Values::Float(values) = decoded.values() else {
        return Err(Failure::job(format!(
            "the decoder returned {}; expected floats",
            decoded.dtype()
        )));
    };
    let plane = height * width;
    let image = &values[index * 3 * plane..][..3 * plane];
    let mut pixels = Vec::with_capacity(3 * plane);
    for position in 0..plane {
        for channel in 0..3 {
            pixels.push(level(image[channel * plane + position]));
        }
    }
    Ok((pixels, [height, width]))
}

/// Encodes pixels, 8-bit RGB row by row, of a picture of `(columns, rows)`.
pub(crate) fn encode_rgb(
    pixels: &[u8],
    (wide, high): (u32, u32),
    texts: &BTreeMap<&str, String>,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, wide, high);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        // Latin-1 text is what other tools look for first; anything else needs an iTXt chunk.
        let keyword = (*keyword).to_owned();
        match text.is_ascii() {
            true => encoder.add_text_chunk(keyword, text.clone()),
            false => encoder.add_itxt_chunk(keyword, text.clone()),
        }
        .at("PNG text")?;
    }
    let mut writer = encoder.write_header().at("PNG header")?;
    writer.write_image_data(pixels).at("PNG pixels")?;
    writer.finish().at("PNG end")?;
    Ok(bytes)
}

/// One channel of one pixel; a NaN becomes black.
fn level(x: f64) -> u8 {
    ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_other_tools() {
        let cases = [
            (-1.0, 0),
            (1.0, 255),
            (0.0, 128),
            (-7.0, 0),
            (7.0, 255),
            (f64::NAN, 0),
        ];
        for (x, wanted) in cases {
            assert_eq!(level(x), wanted, "{x}");
        }
    }

    #[test]
    fn pixels_are_interleaved_and_text_survives() {
        let decoded = Tensor::from_f32(&[1, 3, 1, 2], &[-1.0, 1.0, -1.0, 1.0, 1.0, -1.0]);
        let texts = BTreeMap::from([("parameters", "a caf\u{e9}".to_owned())]);
        let bytes = encode(&decoded, 0, &texts).expect("a picture");
        let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        let mut reader = decoder.read_info().expect("a header");
        let mut pixels = vec![0; 6];
        reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!(pixels, [0, 0, 255, 255, 255, 0]);
        let text = reader.info().utf8_text[0].get_text().expect("text");
        assert_eq!(text, "a caf\u{e9}");
    }
}
