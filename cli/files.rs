//! The file system: mapped files to read, and outputs that replace old ones only when complete.
//!
//! Takes paths, gives shared bytes; the one place of the project that opens files.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use compiler::value::tensor::Tensor;
use graphs::source::{self, Source, SourceError};
use memmap2::Mmap;
use runtime::artifact::{Files, Storage};

use crate::error::{At, Failure};

/// The bytes of a file, mapped: pages are read when they are touched, and never copied.
pub(crate) fn map(path: &Path) -> Result<Bytes, Failure> {
    map_file(path).map_err(said).at(path.display())
}

/// As [`map`], for callers with errors of their own.
fn map_file(path: &Path) -> std::io::Result<Bytes> {
    Ok(match open(path)? {
        Some(map) => Bytes::from_owner(map),
        None => Bytes::new(),
    })
}

/// The map of a file; `None` of an empty one, which cannot be mapped.
fn open(path: &Path) -> std::io::Result<Option<Mmap>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::Error::other("found a directory, wanted a file"));
    }
    if file.metadata()?.len() == 0 {
        return Ok(None);
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

/// What the system says of a file, in the words of our messages.
pub(crate) fn said(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "found no such file or directory".to_owned(),
        ErrorKind::NotADirectory => "found a file where a directory was wanted".to_owned(),
        ErrorKind::PermissionDenied => "found no permission to open it".to_owned(),
        ErrorKind::StorageFull => "found no space left for it".to_owned(),
        // The kinds are the system's, and open: its own words do for the rest.
        _ => error.to_string(),
    }
}

/// Refuses an output that could not be written when all work is done.
pub(crate) fn check_output(path: &Path) -> Result<(), Failure> {
    let place = path.display();
    if path.is_dir() || path.file_name().is_none() {
        return Err(Failure::job(format!(
            "{place}: found a directory, wanted the name of a file to write"
        )));
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            let parent = parent.display();
            let message = format!("{place}: found no directory {parent} to write it to");
            Err(Failure::job(message).hint(format!("create it: mkdir -p {parent}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Writes a file of these parts beside `path` and renames: a reader sees the old or the new.
pub(crate) fn replace(path: &Path, parts: &[Bytes]) -> Result<(), Failure> {
    replace_file(path, parts).map_err(said).at(path.display())
}

/// As [`replace`], for callers with errors of their own.
fn replace_file(path: &Path, parts: &[Bytes]) -> std::io::Result<()> {
    let beside = beside(path);
    let write = || {
        let mut file = File::create(&beside)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        // What is left beside is worthless; the error that matters is the first.
        let _ = fs::remove_file(&beside);
    })
}

/// A name in the same directory that no reader looks for.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
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
    /// lies in no file of this folder, it is itself.
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
        // The manifest is what makes these files an artifact: they need no rename of their own.
        let mut file = File::create(path)?;
        for part in parts {
            file.write_all(part)?;
        }
        Ok(())
    }

    fn commit(&self, name: &str, content: &Bytes) -> std::io::Result<()> {
        replace_file(&self.root.join(name), std::slice::from_ref(content))
    }
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
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        if metadata.is_file() {
            files.push(path);
        } else if metadata.is_dir() && depth > 1 {
            list(root, &path, depth - 1, files)?;
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

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = std::env::temp_dir().join(format!("splamc-files-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("out");
        replace(&path, &[Bytes::from("one")]).expect("written");
        replace(&path, &[Bytes::from("t"), Bytes::from("wo")]).expect("replaced");
        assert_eq!(map(&path).expect("mapped").as_ref(), b"two");
        assert!(replace(&dir.join("absent/out"), &[]).is_err());
        assert_eq!(fs::read_dir(&dir).expect("listed").count(), 1);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
