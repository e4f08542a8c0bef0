//! The captions of pictures: beside them, or written into them.
//!
//! Takes a set of pictures; returns a caption for each, or says which one has none.

use std::io::Cursor;

use runtime::training::data::{PictureSet, Unreadable};

/// The keyword of the text that A1111, ComfyUI and `splamc sample` write.
const PARAMETERS: &str = "parameters";

/// The caption of a picture: its `.txt` or row of metadata, or else the prompt in its PNG.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(super) fn caption(pictures: &PictureSet, sample: usize) -> Result<String, Unreadable> {
    match pictures.captions(sample) {
        Ok(captions) => Ok(captions.into_iter().next().unwrap_or_default()),
        Err(Unreadable::NoCaption) => {
            let file = pictures.file(sample)?;
            prompt(&file).ok_or(Unreadable::NoCaption)
        }
        Err(error) => Err(error),
    }
}

/// The prompt in the `parameters` text of a PNG file.
fn prompt(file: &[u8]) -> Option<String> {
    let reader = png::Decoder::new(Cursor::new(file)).read_info().ok()?;
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter();
    let plain = plain.map(|text| (&text.keyword, Some(text.text.clone())));
    let unicode = info.utf8_text.iter();
    let unicode = unicode.map(|text| (&text.keyword, text.get_text().ok()));
    let mut texts = plain.chain(unicode);
    let (_, text) = texts.find(|(keyword, _)| *keyword == PARAMETERS)?;
    let text = text?;
    // What follows the prompt begins on a line of its own.
    let lines = text.lines();
    let own = lines
        .take_while(|line| !line.starts_with("Negative prompt:") && !line.starts_with("Steps: "));
    Some(own.collect::<Vec<_>>().join("\n").trim().to_owned())
}
