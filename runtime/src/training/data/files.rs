//! Where the data of a training are read from: names to bytes.
//!
//! A trait that others implement, and places in files. Nothing here opens a file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{DataError, Unreadable};

/// The files of a data set, by relative, `/`-separated names. Names also come out of metadata
/// files, so that whoever implements it refuses those that lead out of the folder.
pub trait DataFiles: Send + Sync {
    /// The names of all files, sorted.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// When there is no such file.
    fn length(&self, name: &str) -> io::Result<u64>;

    /// A whole file.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, name: &str) -> io::Result<Bytes>;

    /// These bytes of a file.
    ///
    /// # Errors
    /// When the file is shorter, or cannot be read.
    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Bytes>;
}

/// A file, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// The file's name.
    pub(super) file: Arc<str>,
    /// Its bytes; all if not given.
    pub(super) range: Option<Range<u64>>,
}

impl Section {
    /// A whole file.
    pub(super) fn whole(file: &str) -> Section {
        Section {
            file: file.into(),
            range: None,
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn read(&self, files: &dyn DataFiles) -> Result<Bytes, Unreadable> {
        let read = match &self.range {
            Some(range) => files.read_range(&self.file, range.clone()),
            None => files.read(&self.file),
        };
        read.map_err(|error| Unreadable::File {
            file: self.file.to_string(),
            reason: error.to_string(),
        })
    }
}

impl Section {
    /// The first bytes, at most `length` of them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn head(&self, files: &dyn DataFiles, length: u64) -> io::Result<Bytes> {
        let range = match &self.range {
            Some(range) => range.clone(),
            None => 0..files.length(&self.file)?,
        };
        let end = range.end.min(range.start.saturating_add(length));
        files.read_range(&self.file, range.start..end)
    }
}

/// A file that the whole data set depends on.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(files: &dyn DataFiles, name: &str) -> Result<Bytes, DataError> {
    files.read(name).map_err(|error| failed(name, error))
}

/// The error for a file that the whole data set depends on.
pub(super) fn failed(name: &str, error: io::Error) -> DataError {
    DataError::Read {
        file: name.to_owned(),
        reason: error.to_string(),
    }
}

/// What a name ends in after its last dot, in lower case; nothing for a name without a dot.
pub(super) fn extension(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let ending = file.rsplit_once('.').map(|(_, ending)| ending);
    ending.unwrap_or_default().to_ascii_lowercase()
}

/// Whether a name ends like that of a picture that is read.
pub(super) fn is_picture(extension: &str) -> bool {
    ["jpg", "jpeg", "png", "webp"].contains(&extension)
}

/// Files in memory, for tests.
#[cfg(test)]
impl DataFiles for std::collections::BTreeMap<String, Bytes> {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.keys().cloned().collect())
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name)?.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        let missing = || io::Error::other("there is no such file");
        self.get(name).cloned().ok_or_else(missing)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let file = self.read(name)?;
        let (start, end) = (range.start as usize, range.end as usize);
        match start <= end && end <= file.len() {
            true => Ok(file.slice(start..end)),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
