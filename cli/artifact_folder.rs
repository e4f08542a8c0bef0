//! The folder that `compile` writes.
//!
//! Takes a path and the contents of an artifact. An old artifact stays whole until the manifest of
//! the new one replaces its own; a compilation that failed leaves nothing, and what one that was
//! killed left is removed by the next. It never removes a file that no artifact has.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use graphs::source::Source;
use runtime::artifact::{self, ArtifactContents, MANIFEST, Written};

use crate::error::{At, Failure, said};
use crate::files::Folder;
use crate::outputs;

/// Refuses a folder that holds something other than an artifact or the remains of one.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let place = &path.display();
    let refused = |what: &str| {
        let failure = Failure::job(format!("{place}: {what}"));
        failure.hint("choose another name with -o, or remove it")
    };
    if outputs::is_stdout(path) {
        let message = "an artifact is a directory, which cannot be standard output";
        return Err(Failure::usage(message).hint("name a directory with -o"));
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(refused(
                "there is a file of this name; expected a directory",
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
            return Err(refused("it is a link to a directory that does not exist"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(said(error)).at(place),
    }
    let is_artifact = fs::read(path.join(MANIFEST)).is_ok_and(|own| artifact::is_manifest(&own));
    let files = Source::list(&Folder::new(path)).at(place)?;
    match files.iter().find(|file| !is_own(file)) {
        Some(file) if !is_artifact => Err(refused(&format!(
            "the directory holds {file}, which is not a file of an artifact"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Writes the artifact and removes the files of the one that it replaces.
pub(crate) fn write(path: &Path, contents: &ArtifactContents) -> Result<Written, Failure> {
    let place = &path.display();
    let is_new = !path.exists();
    fs::create_dir_all(path).map_err(said).at(place)?;
    let folder = Folder::new(path);
    let kept: BTreeSet<String> = match path.join(MANIFEST).exists() {
        true => Source::list(&folder).at(place)?.into_iter().collect(),
        // Without a manifest they are the remains of a compilation that was killed.
        false => BTreeSet::new(),
    };
    let written = artifact::write(&folder, contents).at(place);
    let kept = match &written {
        Ok(written) => written.files.iter().cloned().collect(),
        Err(_) => kept,
    };
    let removed = match written.is_err() && is_new {
        true => fs::remove_dir_all(path).map_err(said),
        false => remove_others(path, &folder, &kept),
    };
    // The first failure is the one that matters.
    let written = written?;
    removed.at(place).map(|()| written)
}

/// Removes files of artifacts that are not among those `kept`, and folders that become empty.
fn remove_others(path: &Path, folder: &Folder, kept: &BTreeSet<String>) -> Result<(), String> {
    let files = Source::list(folder).map_err(|error| error.to_string())?;
    let mut folders = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| is_own(file) && !kept.contains(*file))
    {
        fs::remove_file(path.join(file)).map_err(said)?;
        folders.extend(file.split_once('/').map(|(folder, _)| folder));
    }
    for folder in folders {
        // It stays where it holds other files.
        let _ = fs::remove_dir(path.join(folder));
    }
    Ok(())
}

/// Whether a file is one that the compiler writes, complete or not; the manifest apart.
fn is_own(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    artifact::is_stored_name(file) || outputs::is_part(name)
}
