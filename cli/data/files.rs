//! The files of a data set: a folder, one shard, or the shards of a pattern.
//!
//! Takes a path, returns files by name. A name that leads out of the folder is refused.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use graphs::source;
use runtime::training::data::DataFiles;

use super::pattern;
use crate::error::{At, Failure, said};
use crate::files::{check_kind, list, read_at};

/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 8;

/// Files up to this many bytes may be pointers of git-lfs.
const POINTER_BYTES_MAX: u64 = 1024;

/// The files of a data set.
pub(super) struct DataFolder {
    place: Place,
    /// The file that was read last: shards are read in many small parts.
    last: Mutex<Option<(String, Arc<File>)>>,
}

enum Place {
    /// All files below a folder.
    Folder(PathBuf),
    /// Files whose names are their paths, sorted.
    Paths(Vec<String>),
}

/// The files at a path: of a folder, of a `.tar`, or of all `.tar` that a pattern stands for.
pub(super) fn open(path: &Path) -> Result<DataFolder, Failure> {
    let shown = path.display();
    let place = match (path.is_dir(), path.to_str()) {
        (true, _) => Place::Folder(path.to_owned()),
        (false, Some(text)) if path.exists() => Place::Paths(shards(vec![text.to_owned()])?),
        (false, Some(text)) => {
            let paths = pattern::expand(text)
                .map_err(|reason| Failure::usage(format!("--data {text}: {reason}")))?;
            Place::Paths(shards(paths)?)
        }
        (false, None) => {
            return Err(Failure::usage(format!(
                "--data {shown}: the path is not UTF-8"
            )));
        }
    };
    Ok(DataFolder {
        place,
        last: Mutex::default(),
    })
}

/// The paths of shards, after a check that each is there.
fn shards(mut paths: Vec<String>) -> Result<Vec<String>, Failure> {
    for path in &paths {
        check_kind(Path::new(path), false).map_err(said).at(path)?;
        if !path.ends_with(".tar") {
            let message = format!("{path}: it is not a .tar file");
            return Err(Failure::job(message).hint(
                "pass a folder of pictures, .tar shards such as data/{000..127}.tar, or what \
                 splamc encode wrote; shards are read uncompressed",
            ));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

impl DataFolder {
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        match &self.place {
            Place::Folder(root) => {
                let checked = source::join("", name).map_err(io::Error::other)?;
                Ok(root.join(checked))
            }
            Place::Paths(_) => Ok(PathBuf::from(name)),
        }
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((own, file)) if own == name => Ok(file.clone()),
            Some(_) | None => {
                let file = Arc::new(File::open(self.path(name)?)?);
                *last = Some((name.to_owned(), file.clone()));
                Ok(file)
            }
        }
    }
}

impl DataFiles for DataFolder {
    fn list(&self) -> io::Result<Vec<String>> {
        match &self.place {
            Place::Paths(paths) => Ok(paths.clone()),
            Place::Folder(root) => {
                let mut files = Vec::new();
                list(root, "", DEPTH_MAX, &mut files).map_err(worded)?;
                files.sort();
                Ok(files)
            }
        }
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let length = check_kind(&self.path(name)?, false).map_err(worded)?;
        if length <= POINTER_BYTES_MAX {
            self.read(name)?;
        }
        Ok(length)
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        let path = self.path(name)?;
        let content = check_kind(&path, false).and_then(|_| std::fs::read(&path));
        let content = Bytes::from(content.map_err(worded)?);
        match source::lfs_pointer(name, &content) {
            Some(pointer) => Err(io::Error::other(pointer)),
            None => Ok(content),
        }
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let file = self.file(name).map_err(worded)?;
        let length = range.end.saturating_sub(range.start);
        // A range that no header bounds is refused before memory for it is asked for.
        let whole = file.metadata().map_err(worded)?.len();
        if range.end > whole {
            let end = range.end;
            let message = format!("it has {whole} bytes; expected at least {end}");
            return Err(io::Error::other(message));
        }
        let mut content = vec![0; length as usize];
        read_at(&file, &mut content, range.start as usize).map_err(worded)?;
        Ok(content.into())
    }
}

/// The same error in the words of our messages.
fn worded(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), said(error))
}
