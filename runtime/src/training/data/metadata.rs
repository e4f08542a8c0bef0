//! `metadata.jsonl` and `metadata.csv`: one row for each picture, as `datasets` reads them.
//!
//! Takes the text of such a file, returns the picture's name and its captions, row by row. A column
//! `file_name` is relative to the file's folder; captions are in `text` or `caption`.

use serde_json::Value;

use super::error::DataError;
use super::sample::{self, CAPTION_KEYS};

/// The column of the picture's name.
const NAME: &str = "file_name";

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The picture, from the top of the data set.
    pub(super) picture: String,
    /// Its captions; `None` if it has none.
    pub(super) captions: Option<Vec<String>>,
}

/// Whether a file of this name holds captions of others.
pub(super) fn is_metadata(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    ["metadata.jsonl", "metadata.csv"].contains(&file)
}

/// The rows of a file of this name.
///
/// # Errors
/// When a line is malformed, or there is no column `file_name`.
pub(super) fn rows(name: &str, content: &[u8]) -> Result<Vec<Row>, DataError> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = |picture: &str| match folder {
        "" => picture.trim_start_matches("./").to_owned(),
        folder => format!("{folder}/{}", picture.trim_start_matches("./")),
    };
    let rows = match name.ends_with(".csv") {
        true => csv_rows(content),
        false => json_rows(content),
    };
    let rows = rows.map_err(|(line, reason)| DataError::Metadata {
        file: name.to_owned(),
        line,
        reason,
    })?;
    let row = |(picture, captions): (String, _)| Row {
        picture: joined(&picture),
        captions,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// A picture's name and its captions, or the line that is wrong and why.
type Rows = Result<Vec<(String, Option<Vec<String>>)>, (u64, String)>;

fn json_rows(content: &[u8]) -> Rows {
    let text = std::str::from_utf8(content).map_err(|_| (1, "it is not UTF-8 text".to_owned()))?;
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(line).map_err(|error| (number, error.to_string()))?;
        let captions = sample::captions(&value).map_err(|reason| (number, reason))?;
        let picture = value.get(NAME).and_then(Value::as_str);
        let picture = picture.ok_or_else(|| (number, format!("expected a text {NAME:?}")))?;
        rows.push((picture.to_owned(), captions));
    }
    Ok(rows)
}

fn csv_rows(content: &[u8]) -> Rows {
    let marked = content.strip_prefix("\u{feff}".as_bytes());
    let mut reader = csv::Reader::from_reader(marked.unwrap_or(content));
    let wrong = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        (line, error.to_string())
    };
    let header = reader.headers().map_err(wrong)?.clone();
    let column = |wanted: &str| header.iter().position(|name| name.trim() == wanted);
    let picture = column(NAME).ok_or_else(|| {
        let found: Vec<&str> = header.iter().collect();
        (1, format!("found the columns {found:?}; expected {NAME}"))
    })?;
    let caption = CAPTION_KEYS.into_iter().find_map(column);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let field = |place: usize| record.get(place).unwrap_or_default().trim().to_owned();
        rows.push((field(picture), caption.map(|place| vec![field(place)])));
    }
    Ok(rows)
}
