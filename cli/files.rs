//! The file system: mapped files to read, and the folders of models and artifacts.
//!
//! Takes paths and returns shared bytes. What commands write is in `outputs`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
#[cfg(unix)]
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use compiler::value::tensor::Tensor;
use graphs::source::{self, Source, SourceError};
use memmap2::Mmap;
use runtime::artifact::{Files, Storage};

use crate::error::{At, Failure, said};
use crate::outputs;

/// The bytes of a file, mapped: pages are read when they are touched, and never copied.
pub(crate) fn map(path: &Path) -> Result<Bytes, Failure> {
    map_file(path).map_err(said).at(path.display())
}

/// As [`map`], for callers with errors of their own; what a pipe holds is read.
fn map_file(path: &Path) -> std::io::Result<Bytes> {
    #[cfg(unix)]
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return fs::read(path).map(Bytes::from);
    }
    Ok(match open(path)? {
        Some(map) => Bytes::from_owner(map),
        None => Bytes::new(),
    })
}

/// The map of a file; `None` of an empty one, which cannot be mapped.
fn open(path: &Path) -> std::io::Result<Option<Mmap>> {
    let file = File::open(path).map_err(|error| dangling(path).unwrap_or(error))?;
    let found = file.metadata()?;
    let expected = |found| std::io::Error::other(format!("it is a {found}; expected a file"));
    match (found.is_dir(), found.is_file()) {
        (true, _) => return Err(expected("directory")),
        (false, false) => return Err(expected("pipe or a device")),
        (false, true) if found.len() == 0 => return Ok(None),
        (false, true) => {}
    }
    // SAFETY: the map is read-only and lives as long as bytes of it. Another process that
    // truncates or rewrites the file meanwhile can change what is read; models and inputs are
    // files that nobody rewrites in place, and our own outputs are replaced by renaming.
    #[expect(
        unsafe_code,
        reason = "a memory map is what keeps weights from being copied"
    )]
    let map = unsafe { Mmap::map(&file)? };
    Ok(Some(map))
}

/// Bytes of a map whose pages go back to the system when nobody needs them any more, while the
/// map itself stays.
struct Pages {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        #[cfg(unix)]
        {
            let (start, length) = (self.range.start, self.range.len());
            // SAFETY: the map is read-only and of a file: whoever still reads these pages, or
            // others that the first and the last one hold too, has them read from the file again.
            #[expect(unsafe_code, reason = "the system takes advice on memory by address")]
            let advised = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.map.unchecked_advise_range(advice, start, length)
            };
            // Without the advice, pages stay until the system needs them.
            let _ = advised;
        }
    }
}

/// What shares a map with the bytes of other owners.
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A folder whose files are mapped when they are read.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    /// The maps that somebody still holds.
    maps: Arc<Mutex<Vec<Weak<Mmap>>>>,
}

impl Folder {
    /// The folder at `root`.
    pub(crate) fn new(root: &Path) -> Folder {
        Folder {
            root: root.to_owned(),
            maps: Arc::default(),
        }
    }

    /// The bytes of a file below the folder.
    fn map(&self, path: &str) -> std::io::Result<Bytes> {
        let Some(map) = open(&self.root.join(path))? else {
            return Ok(Bytes::new());
        };
        let map = Arc::new(map);
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.retain(|map| map.strong_count() > 0);
        maps.push(Arc::downgrade(&map));
        Ok(Bytes::from_owner(Shared(map)))
    }

    /// The same tensor, but when its last clone is dropped its pages go back to the system; if it
    /// is in no file of this folder, it is returned as it is.
    pub(crate) fn lend(&self, tensor: Tensor) -> Tensor {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let first = tensor.bytes().as_ptr() as usize;
        let held = maps.iter().filter_map(Weak::upgrade);
        let found = held.into_iter().find_map(|map| {
            let start = first.checked_sub(map.as_ptr() as usize)?;
            let range = start..start.checked_add(tensor.bytes().len())?;
            (!range.is_empty() && range.end <= map.len()).then_some(Pages { map, range })
        });
        let lent = found.and_then(|pages| {
            let bytes = Bytes::from_owner(pages);
            Tensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes).ok()
        });
        lent.unwrap_or(tensor)
    }
}

impl Source for Folder {
    fn read(&self, path: &str) -> Result<Bytes, SourceError> {
        let checked = source::join("", path)?;
        self.map(&checked).map_err(|error| match error.kind() {
            ErrorKind::NotFound => SourceError::NotFound {
                path: checked.clone(),
            },
            _ => SourceError::Failed {
                path: checked.clone(),
                reason: error.to_string(),
            },
        })
    }

    fn list(&self) -> Result<Vec<String>, SourceError> {
        let mut files = Vec::new();
        list(&self.root, "", DEPTH_MAX, &mut files).map_err(|error| SourceError::Failed {
            path: String::new(),
            reason: error.to_string(),
        })?;
        files.sort();
        Ok(files)
    }
}

impl Files for Folder {
    fn read(&self, name: &str) -> std::io::Result<Bytes> {
        let checked = source::join("", name).map_err(std::io::Error::other)?;
        self.map(&checked)
    }
}

impl Storage for Folder {
    fn write(&self, name: &str, parts: &[Bytes]) -> std::io::Result<()> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // The file of this name may be part of an artifact that is in use.
        outputs::write_file(&path, parts).map_err(worded)
    }

    fn commit(&self, name: &str, content: &Bytes) -> std::io::Result<()> {
        let parts = std::slice::from_ref(content);
        outputs::write_file(&self.root.join(name), parts).map_err(worded)
    }
}

/// The same error in the words of our messages.
fn worded(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), said(error))
}

/// The error of a link that leads to nothing; `None` of anything else.
pub(crate) fn dangling(path: &Path) -> Option<std::io::Error> {
    let target = fs::read_link(path).ok().filter(|_| !path.exists())?;
    // Caches of downloads store each file in `blobs` and link to it.
    let advice = match target.iter().any(|part| part == "blobs") {
        true => ": the download is incomplete, start it again",
        false => "",
    };
    let target = target.display();
    let message = format!("it links to {target}, which does not exist{advice}");
    Some(std::io::Error::other(message))
}

/// Folders within folders that are looked into; pipelines have one level.
const DEPTH_MAX: usize = 4;

fn list(root: &Path, below: &str, depth: usize, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        // A name that is not Unicode is none that a model refers to.
        let Some(name) = entry.file_name().to_str().map(ToOwned::to_owned) else {
            continue;
        };
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        // Links are followed: download caches keep their files behind them.
        match fs::metadata(entry.path()) {
            Ok(found) if found.is_file() => files.push(path),
            Ok(found) if found.is_dir() && depth > 1 => list(root, &path, depth - 1, files)?,
            // Whoever reads a file that was not downloaded is told so.
            Err(_) if entry.path().is_symlink() => files.push(path),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use compiler::DType;

    use super::*;

    #[test]
    fn a_lent_tensor_is_the_same_and_leaves_the_others() {
        let dir = std::env::temp_dir().join(format!("splamc-lend-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let content: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
        fs::write(dir.join("weights"), &content).expect("written");
        let folder = Folder::new(&dir);
        let file = Source::read(&folder, "weights").expect("mapped");
        let tensor = |range: Range<usize>| {
            let bytes = file.slice(range.clone());
            Tensor::new(DType::U8, vec![range.len()], bytes).expect("as many bytes")
        };
        for range in [0..40_000, 5..9_000, 8_999..39_999] {
            let (own, lent) = (tensor(range.clone()), folder.lend(tensor(range.clone())));
            assert_eq!(own, lent);
            drop(lent);
            assert_eq!(own.bytes()[..], content[range]);
        }
        let elsewhere = Tensor::from_f32(&[1], &[1.0]);
        let bytes = elsewhere.bytes().as_ptr();
        assert_eq!(folder.lend(elsewhere).bytes().as_ptr(), bytes);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
