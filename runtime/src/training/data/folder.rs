//! A folder of pictures: captions beside them or in metadata files.
//!
//! Takes the names of files, returns the samples. With metadata files in any folder, their rows are
//! the samples; without, every picture is one, and its caption is the `.txt` of its name.

use super::error::DataError;
use super::files::{DataFiles, Section, extension, is_picture, read};
use super::metadata::{self, Row};
use super::sample::{Captions, PictureSample};

/// The samples among files of these sorted names.
///
/// # Errors
/// When a metadata file cannot be read or is malformed.
pub(super) fn samples(
    files: &dyn DataFiles,
    names: &[String],
) -> Result<Vec<PictureSample>, DataError> {
    let shown: Vec<&String> = names.iter().filter(|name| !is_hidden(name)).collect();
    let mut metadata = shown.iter().filter(|name| metadata::is_metadata(name));
    let mut samples = Vec::new();
    match metadata.next() {
        Some(first) => {
            for name in [first].into_iter().chain(metadata) {
                let rows = metadata::rows(name, &read(files, name)?)?;
                samples.extend(rows.into_iter().map(of_row));
            }
        }
        None => {
            let pictures = shown.iter().filter(|name| is_picture(&extension(name)));
            samples.extend(pictures.map(|name| beside(name, names)));
        }
    }
    Ok(samples)
}

/// Whether a file or a folder around it is one that systems hide.
fn is_hidden(name: &str) -> bool {
    let mut parts = name.split('/');
    parts.any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn of_row(row: Row) -> PictureSample {
    PictureSample {
        picture: Section::whole(&row.picture),
        name: row.picture,
        captions: row.captions.map_or(Captions::Missing, Captions::Given),
    }
}

/// A picture with the text of its name.
fn beside(name: &str, names: &[String]) -> PictureSample {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let text = format!("{stem}.txt");
    PictureSample {
        name: name.to_owned(),
        picture: Section::whole(name),
        captions: match names.binary_search(&text) {
            Ok(_) => Captions::Text(Section::whole(&text)),
            Err(_) => Captions::Missing,
        },
    }
}
