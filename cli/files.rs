//! The file system: files to read, and the folders of models and artifacts.
//!
//! Takes paths and returns shared bytes. Large files are mapped, so that headers are read without
//! the weights behind them; what lies there is read when it is needed, and refused if the file has
//! changed since. What commands write is in `outputs`.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use compiler::value::stored::{ReadError, Stored};
use compiler::value::tensor::Tensor;
use graphs::source::{self, Source, SourceError};
use memmap2::Mmap;
use runtime::artifact::{Files, Storage};

use crate::error::{At, Failure, said};
use crate::outputs;

/// The bytes of a file or a pipe, read into memory.
pub(crate) fn read(path: &Path) -> Result<Bytes, Failure> {
    let content = check_kind(path, true).and_then(|_| fs::read(path));
    let content = Bytes::from(content.map_err(said).at(path.display())?);
    match source::lfs_pointer(&path.display().to_string(), &content) {
        Some(pointer) => Err(Failure::of(pointer)),
        None => Ok(content),
    }
}

/// The length of what is a file, or a pipe where one will do.
pub(crate) fn check_kind(path: &Path, pipes: bool) -> io::Result<u64> {
    let found = fs::metadata(path).map_err(|error| dangling(path).unwrap_or(error))?;
    #[cfg(unix)]
    let is_pipe = std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type());
    #[cfg(not(unix))]
    let is_pipe = false;
    let expected = |found| io::Error::other(format!("it is a {found}; expected a file"));
    match (found.is_dir(), found.is_file() || (pipes && is_pipe)) {
        (true, _) => Err(expected("directory")),
        (false, false) => Err(expected("pipe or a device")),
        (false, true) => Ok(found.len()),
    }
}

/// Bytes up to which a file is read and not mapped.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes of a tensor that one thread reads while others read more of it.
const SHARE_BYTES: usize = 8 << 20;

/// A file that is mapped. Only headers are read from the map: the rest is read from the file, which
/// tells when it is cut, where a map would end the process.
struct Mapped {
    map: Mmap,
    file: File,
    path: PathBuf,
    /// Its length and when it was last written, as it was opened.
    stamp: (u64, Option<SystemTime>),
}

impl Mapped {
    fn open(path: &Path) -> io::Result<Mapped> {
        let file = File::open(path)?;
        let stamp = stamp(&file)?;
        // SAFETY: the map is read-only and lives as long as bytes of it. Another process that cuts
        // or rewrites the file meanwhile can change what is read: therefore only headers are, right
        // after opening, and all else goes through [`Mapped::read`].
        #[expect(
            unsafe_code,
            reason = "a map shows headers without reading what lies behind them"
        )]
        let map = unsafe { Mmap::map(&file)? };
        Ok(Mapped {
            map,
            file,
            path: path.to_owned(),
            stamp,
        })
    }

    /// Where `bytes` lie in the file, if they are a view of the map.
    fn range_of(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let start = (bytes.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        let end = start.checked_add(bytes.len())?;
        (start < end && end <= self.map.len()).then_some(start..end)
    }

    /// Reads these bytes of the file, by several threads where there are many.
    fn read(&self, range: Range<usize>) -> io::Result<Vec<u8>> {
        let mut content = vec![0; range.len()];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = content.len().div_ceil(threads).max(SHARE_BYTES);
        let read = |(place, share_of): (usize, &mut [u8])| {
            read_at(&self.file, share_of, range.start + place * share)
        };
        let shares = content.chunks_mut(share).enumerate();
        std::thread::scope(|scope| {
            let mut shares: Vec<_> = shares.collect();
            let own = shares.pop();
            let others = shares.into_iter();
            let others: Vec<_> = others.map(|part| scope.spawn(|| read(part))).collect();
            let own = own.map_or(Ok(()), read);
            let joined = others.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => Err(io::Error::other("a thread that read it failed")),
            });
            joined.fold(own, Result::and)
        })
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.changed(),
            _ => error,
        })?;
        self.check()?;
        Ok(content)
    }

    /// Hands over the whole file piece by piece.
    fn pieces(&self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES.min(self.map.len())];
        for start in (0..self.map.len()).step_by(PIECE_BYTES) {
            let piece = &mut piece[..PIECE_BYTES.min(self.map.len() - start)];
            read_at(&self.file, piece, start).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => self.changed(),
                _ => error,
            })?;
            take(piece);
        }
        self.check()
    }

    /// Refuses a file that was written to since it was opened.
    fn check(&self) -> io::Result<()> {
        match stamp(&self.file)? == self.stamp {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> io::Error {
        let (was, now) = (self.stamp.0, stamp(&self.file).map_or(0, |stamp| stamp.0));
        io::Error::other(match was == now {
            true => {
                "it was changed while it was read; run again when nothing writes to it".to_owned()
            }
            false => format!(
                "it had {was} bytes when it was opened and has {now} now; run again when nothing \
                 writes to it"
            ),
        })
    }
}

/// The length of a file and when it was last written.
fn stamp(file: &File) -> io::Result<(u64, Option<SystemTime>)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// Fills `out` from a place in a file, whatever other threads read there.
pub(crate) fn read_at(file: &File, out: &mut [u8], start: usize) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, out, start as u64);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < out.len() {
            let place = (start + done) as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut out[done..], place)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// A view of a map, as the bytes of others are.
struct View(Arc<Mapped>);

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

/// A part of a mapped file.
struct Part {
    mapped: Arc<Mapped>,
    range: Range<usize>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.range, self.mapped.path.display())
    }
}

impl Stored for Part {
    fn read(&self) -> Result<Bytes, ReadError> {
        let content = self.mapped.read(self.range.clone());
        content.map(Bytes::from).map_err(|error| ReadError {
            file: self.mapped.path.display().to_string(),
            reason: said(error),
        })
    }
}

/// A folder whose large files are mapped when they are read.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    /// The maps that somebody still holds.
    maps: Arc<Mutex<Vec<Weak<Mapped>>>>,
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of {}", self.path.display())
    }
}

impl Folder {
    /// The folder at `root`.
    pub(crate) fn new(root: &Path) -> Folder {
        Folder {
            root: root.to_owned(),
            maps: Arc::default(),
        }
    }

    /// The bytes of a file below the folder: in memory if they are few, otherwise in a map.
    fn open(&self, path: &str) -> io::Result<Bytes> {
        let path = self.root.join(path);
        if check_kind(&path, false)? <= READ_BYTES_MAX {
            return Ok(fs::read(&path)?.into());
        }
        let mapped = Arc::new(Mapped::open(&path)?);
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.retain(|map| map.strong_count() > 0);
        maps.push(Arc::downgrade(&mapped));
        Ok(Bytes::from_owner(View(mapped)))
    }

    /// The part of a file of this folder that `bytes` are a view of.
    fn part(&self, bytes: &[u8]) -> Option<Part> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = maps.iter().filter_map(Weak::upgrade);
        held.find_map(|mapped| {
            let range = mapped.range_of(bytes)?;
            Some(Part { mapped, range })
        })
    }

    /// The same tensor, whose bytes are read from its file when they are needed. A tensor that is
    /// not a view of a file of this folder is returned as it is.
    pub(crate) fn stored(&self, tensor: Tensor) -> Tensor {
        match self.part(tensor.bytes()) {
            Some(part) => tensor.stored(Arc::new(part)),
            None => tensor,
        }
    }
}

impl Source for Folder {
    fn bytes(&self, path: &str) -> Result<Bytes, SourceError> {
        let checked = source::join("", path)?;
        self.open(&checked).map_err(|error| match error.kind() {
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

/// Refuses what stands for a file that was not downloaded.
fn whole(path: &str, bytes: Bytes) -> io::Result<Bytes> {
    match source::lfs_pointer(path, &bytes) {
        Some(pointer) => Err(io::Error::other(pointer)),
        None => Ok(bytes),
    }
}

impl Files for Folder {
    fn read(&self, name: &str) -> io::Result<Bytes> {
        let checked = source::join("", name).map_err(io::Error::other)?;
        let path = self.root.join(&checked);
        check_kind(&path, false)?;
        whole(&checked, fs::read(path)?.into())
    }

    fn view(&self, name: &str) -> io::Result<Bytes> {
        let checked = source::join("", name).map_err(io::Error::other)?;
        whole(&checked, self.open(&checked)?)
    }

    fn pieces(&self, _: &str, view: &Bytes, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self.part(view) {
            Some(part) => part.mapped.pieces(take),
            None => {
                take(view);
                Ok(())
            }
        }
    }
}

impl Storage for Folder {
    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // The file of this name may be part of an artifact that is in use.
        outputs::write_file(&path, parts).map_err(worded)
    }

    fn commit(&self, name: &str, content: &Bytes) -> io::Result<()> {
        let parts = std::slice::from_ref(content);
        outputs::write_file(&self.root.join(name), parts).map_err(worded)
    }
}

/// The same error in the words of our messages.
fn worded(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), said(error))
}

/// The error of a link that leads to nothing; `None` of anything else.
pub(crate) fn dangling(path: &Path) -> Option<io::Error> {
    let target = fs::read_link(path).ok().filter(|_| !path.exists())?;
    // Caches of downloads store each file in `blobs` and link to it.
    let advice = match target.iter().any(|part| part == "blobs") {
        true => ": the download is incomplete, start it again",
        false => "",
    };
    let target = target.display();
    let message = format!("it links to {target}, which does not exist{advice}");
    Some(io::Error::other(message))
}

/// Folders within folders that are looked into; pipelines have one level.
const DEPTH_MAX: usize = 4;

/// Adds the paths of all files in the folder `below` of `root`, at most `depth` folders deep.
pub(crate) fn list(
    root: &Path,
    below: &str,
    depth: usize,
    files: &mut Vec<String>,
) -> io::Result<()> {
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
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let dir = std::env::temp_dir().join(format!("splamc-stored-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("weights");
        let length = 2 * READ_BYTES_MAX as usize + 5;
        let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let others = |byte: u8| vec![byte; length];
        // What happens to the file once it is open, and what reading says then.
        type Change<'a> = &'a dyn Fn();
        let cut = || {
            let file = File::options().write(true).open(&path);
            file.and_then(|file| file.set_len(7)).expect("it is cut");
        };
        let rewrite = || fs::write(&path, others(1)).expect("it is written");
        let replace = || {
            fs::write(dir.join("new"), others(2)).expect("it is written");
            fs::rename(dir.join("new"), &path).expect("it is renamed");
        };
        let changes: [(Change<'_>, Option<&str>); 4] = [
            (&|| {}, None),
            (&replace, None),
            (&rewrite, Some("it was changed while it was read")),
            (&cut, Some("bytes when it was opened and has 7 now")),
        ];
        for (change, wanted) in changes {
            fs::write(&path, &content).expect("written");
            let folder = Folder::new(&dir);
            let file = Source::read(&folder, "weights").expect("mapped");
            let tensor = |range: Range<usize>| {
                let bytes = file.slice(range.clone());
                let tensor = Tensor::new(DType::U8, vec![range.len()], bytes);
                folder.stored(tensor.expect("as many bytes"))
            };
            let ranges = [0..length, 5..9_000, length - 1..length];
            // A file system may stamp writes by the tick of a clock.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change();
            for range in ranges {
                let fetched = tensor(range.clone()).fetched();
                match wanted {
                    None => assert_eq!(fetched.expect("read").bytes()[..], content[range]),
                    Some(wanted) => {
                        let said = fetched.expect_err("the file changed").to_string();
                        assert!(said.contains(wanted), "{said}");
                    }
                }
            }
        }
        let elsewhere = Tensor::from_f32(&[1], &[1.0]);
        let bytes = elsewhere.bytes().as_ptr();
        let same = Folder::new(&dir).stored(elsewhere).fetched();
        assert_eq!(same.expect("it is in memory").bytes().as_ptr(), bytes);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
