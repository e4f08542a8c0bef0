//! Outputs: where a command writes what it made.
//!
//! Takes the path that the user gave. A regular file is replaced only when its new content is
//! complete; pipes and devices are written to and stay what they are; links are followed; `-` is
//! standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::{Builder, NamedTempFile};

use crate::error::{At, Failure, said};
use crate::stdout;

/// The word for standard output; a file of this name is `./-`.
const STDOUT: &str = "-";

/// What the name of a file ends in that is not complete yet.
const PART: &str = ".part";

/// Links that lead to links, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// What a path leads to.
enum Kind {
    /// A regular file, or nothing yet, behind all links.
    File(PathBuf),
    /// A pipe, a device, or a file that has no path any more.
    Stream,
}

/// Whether an output goes to standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == STDOUT
}

/// Whether a name is that of a file that was not completed.
pub(crate) fn is_part(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PART)
}

/// Refuses an output that could not be written when all work is done.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    if is_stdout(path) {
        return match io::stdout().is_terminal() {
            true => Err(
                Failure::usage("the output is binary, and standard output a terminal")
                    .hint("redirect it to a file or a pipe, or name a file"),
            ),
            false => Ok(()),
        };
    }
    let place = path.display();
    let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if is_folder || path.is_dir() || path.file_name().is_none() {
        return Err(Failure::job(format!(
            "{place}: it is a directory; expected the name of a file to write"
        )));
    }
    let target = match kind(path).map_err(said).at(&place)? {
        Kind::Stream => return Ok(()),
        Kind::File(target) => target,
    };
    let parent = parent(&target);
    if !parent.is_dir() {
        let parent = parent.display();
        let message = format!("{place}: there is no directory {parent} to write it to");
        return Err(Failure::job(message).hint(format!("create it: mkdir -p {parent}")));
    }
    let written = match target.exists() {
        true => OpenOptions::new().write(true).open(&target).map(drop),
        false => part(&target).map(drop),
    };
    written.map_err(said).at(place)
}

/// Writes an output of these parts.
pub(crate) fn write(path: &Path, parts: &[Bytes]) -> Result<(), Failure> {
    if is_stdout(path) {
        return stdout::write(|out| parts.iter().try_for_each(|part| out.write_all(part)));
    }
    write_file(path, parts).map_err(said).at(path.display())
}

/// As [`write`], for files only and for callers with errors of their own.
pub(crate) fn write_file(path: &Path, parts: &[Bytes]) -> io::Result<()> {
    let path = match kind(path)? {
        Kind::Stream => {
            let mut stream = OpenOptions::new().write(true).open(path)?;
            return parts.iter().try_for_each(|part| stream.write_all(part));
        }
        Kind::File(path) => path,
    };
    match replace(&path, parts) {
        // The file may be writable where its folder is not, and a mounted file cannot be replaced.
        Err(error) if keeps_names(&error) && path.exists() => overwrite(&path, parts),
        done => done,
    }
}

/// Writes a file beside `path` and renames it: a reader sees the old file or the whole new one.
fn replace(path: &Path, parts: &[Bytes]) -> io::Result<()> {
    let old = match OpenOptions::new().write(true).open(path) {
        Ok(old) => Some(old.metadata()?.permissions()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut part = part(path)?;
    fill(part.as_file_mut(), parts)?;
    if let Some(permissions) = old {
        part.as_file().set_permissions(permissions)?;
    }
    part.persist(path)?;
    Ok(())
}

/// Writes over the content of a file, which may be the command's own input; if that fails, the old
/// content is written again.
fn overwrite(path: &Path, parts: &[Bytes]) -> io::Result<()> {
    let old = fs::read(path);
    let write = |parts: &[Bytes]| {
        // What the file holds stays allocated, so that the old content has room on a full disk.
        let mut file = OpenOptions::new().write(true).open(path)?;
        fill(&mut file, parts)?;
        file.set_len(parts.iter().map(|part| part.len() as u64).sum())
    };
    write(parts).inspect_err(|_| {
        // The error that matters is the first.
        let _ = old.map(|old| write(&[old.into()]));
    })
}

fn fill(file: &mut File, parts: &[Bytes]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

/// A new file in the folder of `path`, which is removed unless it is renamed.
fn part(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".").suffix(PART);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As of any new file: the system takes away what the user's mask says.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(parent(path))
}

/// Whether a folder refused to hold another file or to rename one.
fn keeps_names(error: &io::Error) -> bool {
    use ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    [
        CrossesDevices,
        PermissionDenied,
        ReadOnlyFilesystem,
        ResourceBusy,
    ]
    .contains(&error.kind())
}

/// What `path` leads to.
fn kind(path: &Path) -> io::Result<Kind> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() => Ok(fs::canonicalize(path).map_or(Kind::Stream, Kind::File)),
        Ok(_) => Ok(Kind::Stream),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kind::File(target(path)?)),
        Err(error) => Err(error),
    }
}

/// Where links to nothing lead.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(next) => path = parent(&path).join(next),
            // It is not a link, or there is nothing.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links lead to links"))
}

/// The folder that `path` is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
