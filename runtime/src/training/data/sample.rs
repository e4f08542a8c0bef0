//! A picture and its captions: where they are stored, and reading them.
//!
//! Takes places in files, returns the picture's bytes and its captions. It decodes no picture.

use serde_json::Value;

use super::error::Unreadable;
use super::files::{DataFiles, Section};

/// The keys of captions in JSON, the first that is there.
pub(super) const CAPTION_KEYS: [&str; 2] = ["text", "caption"];

/// One sample that is not encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PictureSample {
    /// Its name in messages.
    pub(super) name: String,
    /// The bytes of the picture.
    pub(super) picture: Section,
    /// Its captions.
    pub(super) captions: Captions,
}

/// Where captions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Captions {
    /// In memory, at least one.
    Given(Vec<String>),
    /// The whole of a text.
    Text(Section),
    /// Under one of [`CAPTION_KEYS`] of a JSON object.
    Json(Section),
    /// Nowhere.
    Missing,
}

impl Captions {
    /// The captions, at least one.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(super) fn read(&self, files: &dyn DataFiles) -> Result<Vec<String>, Unreadable> {
        let wrong = |section: &Section, reason: String| Unreadable::Caption {
            file: section.file.to_string(),
            reason,
        };
        match self {
            Captions::Given(captions) => Ok(captions.clone()),
            Captions::Text(section) => {
                let bytes = section.read(files)?;
                let text = std::str::from_utf8(&bytes);
                let text = text.map_err(|_| wrong(section, "it is not UTF-8 text".to_owned()))?;
                Ok(vec![trimmed(text)])
            }
            Captions::Json(section) => {
                let value: Value = serde_json::from_slice(&section.read(files)?)
                    .map_err(|error| wrong(section, error.to_string()))?;
                let captions = captions(&value).map_err(|reason| wrong(section, reason))?;
                captions.ok_or(Unreadable::NoCaption)
            }
            Captions::Missing => Err(Unreadable::NoCaption),
        }
    }
}

/// The captions of a JSON object: a text, or a list of texts; `None` if it has no such key, or the
/// list is empty.
///
/// # Errors
/// When the value is neither an object nor the caption a text or a list of texts.
pub(super) fn captions(value: &Value) -> Result<Option<Vec<String>>, String> {
    let object = value.as_object().ok_or("expected a JSON object")?;
    let found = CAPTION_KEYS.into_iter().find_map(|key| {
        let value = object.get(key)?;
        Some((key, value))
    });
    let Some((key, value)) = found else {
        return Ok(None);
    };
    let text = |value: &Value| value.as_str().map(trimmed);
    let captions = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.iter().map(text).collect(),
        other => text(other).map(|text| vec![text]),
    };
    let captions = captions.ok_or_else(|| format!("expected {key:?} to be a text or a list"))?;
    Ok((!captions.is_empty()).then_some(captions))
}

/// A caption without a byte-order mark and the space around it.
fn trimmed(text: &str) -> String {
    text.trim_start_matches('\u{feff}').trim().to_owned()
}
