//! Entries of the Hugging Face cache: `models--org--name` with `refs/`, `snapshots/` and `blobs/`.
//!
//! Takes the path of a model, returns the folder that holds its files. It downloads nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{At, Failure, said};

/// The snapshot that a cache entry means: that of the branch `main`, or the only one. Any other
/// path stays as it is.
///
/// # Errors
/// When the entry has no snapshot, or several and no branch `main`.
pub(crate) fn snapshot(path: &Path) -> Result<PathBuf, Failure> {
    let folder = path.join("snapshots");
    if !folder.is_dir() || path.join("model_index.json").exists() {
        return Ok(path.to_owned());
    }
    let entries = fs::read_dir(&folder).map_err(said).at(folder.display())?;
    let folders = entries.flatten().map(|entry| entry.path());
    let mut snapshots: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    snapshots.sort();
    let main = fs::read_to_string(path.join("refs/main")).unwrap_or_default();
    let is_main = |path: &&PathBuf| path.file_name().is_some_and(|name| name == main.trim());
    let place = path.display();
    match (snapshots.iter().find(is_main), snapshots.as_slice()) {
        (Some(snapshot), _) | (None, [snapshot]) => Ok(snapshot.clone()),
        (None, []) => {
            let message = format!("{place}: the cache entry holds no snapshot of the model");
            Err(Failure::job(message).hint("download the model again"))
        }
        (None, several) => {
            let names = several.iter().filter_map(|path| path.file_name());
            let names: Vec<String> = names.map(|name| name.display().to_string()).collect();
            let message = format!(
                "{place}: the cache entry holds several snapshots and no refs/main: {}",
                names.join(", ")
            );
            let hint = format!("pass one of them, such as {}", several[0].display());
            Err(Failure::job(message).hint(hint))
        }
    }
}
