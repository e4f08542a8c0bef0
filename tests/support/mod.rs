//! What tests share: golden files, scratch folders, tensors by name, the command.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary takes what it needs"
)]

mod command;
mod random;
mod tensors;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

pub(crate) use command::{Floats, compare_floats, read_floats, read_png, splamc, thirds};
pub(crate) use tensors::{Folder, assert_close, folder, tensors};

/// The path of `name` below the golden files. The model of `sd21` is the example's. Where some
/// weights of its first folder are described instead of stored, it lies in a copy of that folder
/// that has them all.
pub(crate) fn golden(name: &str) -> PathBuf {
    static COMPLETE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(file) = name.strip_prefix("sd21/model") {
        return root
            .join("examples/tiny-model")
            .join(file.trim_start_matches('/'));
    }
    let stored = root.join("tests/golden");
    let top = name.split('/').next().expect("a first part");
    if !describes(&stored.join(top)) {
        return stored.join(name);
    }
    let copies = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    let mut complete = COMPLETE.lock().unwrap_or_else(PoisonError::into_inner);
    if !complete.contains(top) {
        update(&stored.join(top), &copies.join(top));
        complete.insert(top.to_owned());
    }
    copies.join(name)
}

/// Whether a file in `folder` or below describes weights.
fn describes(folder: &Path) -> bool {
    let own = |path: &PathBuf| random::file(path).is_some() || (path.is_dir() && describes(path));
    folder.is_dir() && entries(folder).iter().any(own)
}

/// Makes `to` a copy of `from` with the weights that are described, as far as it is not yet.
fn update(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    let mut old: BTreeSet<PathBuf> = entries(to).into_iter().collect();
    for path in entries(from) {
        let made = random::file(&path);
        let name = made.as_ref().unwrap_or(&path).file_name();
        let target = to.join(name.expect("entries have names"));
        old.remove(&target);
        if path.is_dir() {
            update(&path, &target);
        } else if modified(&target) < modified(&path) {
            // A run that is ended here leaves no half file under the target's name.
            let part = to.join("part");
            match made {
                Some(_) => fs::write(&part, random::weights(&path)).expect("a file of weights"),
                None => drop(fs::copy(&path, &part).expect("a copy")),
            }
            fs::rename(&part, &target).expect("a file of another name");
        }
    }
    for path in old {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.expect("what an earlier version of the goldens had");
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder that can be listed");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

/// An empty folder that the next run of the same test empties again.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an old folder");
    }
    fs::create_dir_all(&folder).expect("a new folder");
    folder
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for path in entries(from) {
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("a copy")),
        }
    }
}
