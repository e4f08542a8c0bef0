//! Checkpoints: everything that a training needs to go on bit for bit.
//!
//! Takes the states of a training step, writes them through a [`Store`] as files that other tools
//! read, and reads them back. A checkpoint is written beside and renamed as a whole, so that a kill
//! at any moment leaves the last good one. It opens no path.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use compiler::program::training::names::{
    EMA, FIRST_MOMENT, LOSS_SCALE, LOSS_SCALE_UPDATES, SECOND_MOMENT, STUDENT,
};
use compiler::program::training::{Layout, LayoutError};
use compiler::value::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::feed::Named;
use crate::session::{Session, SessionError};
use crate::tensor_file::{self, TensorFileError};

/// A training folder: folders of checkpoints with their files.
pub trait Store {
    /// Writes a file of a folder that is not a checkpoint yet; the folder is made if need be.
    ///
    /// # Errors
    /// When it cannot be written in full.
    fn write(&self, folder: &str, file: &str, parts: &[Bytes]) -> io::Result<()>;

    /// Renames a folder whose files are complete, after all of them are safe.
    ///
    /// # Errors
    /// When it cannot be renamed; it is then as it was.
    fn publish(&self, from: &str, to: &str) -> io::Result<()>;

    /// Reads a file.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn read(&self, folder: &str, file: &str) -> io::Result<Bytes>;

    /// The names of all folders.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn folders(&self) -> io::Result<Vec<String>>;

    /// Removes a folder with its files.
    ///
    /// # Errors
    /// When that cannot be done.
    fn remove(&self, folder: &str) -> io::Result<()>;
}

/// What a training is at a checkpoint, beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the format.
    pub format: u32,
    /// Updates made.
    pub step: u64,
    /// Updates that changed parameters.
    pub updated: u64,
    /// The values of all settings, as text by name.
    pub settings: BTreeMap<String, String>,
    /// The method.
    pub method: String,
    /// What tells the teacher from others.
    pub model: String,
    /// What tells the data from others.
    pub data: String,
    /// Where the training ran: target, threads and machine, in words.
    pub place: String,
    /// What tells from others how sums are ordered: tile programs.
    pub sums: String,
    /// Scalar states, by name.
    pub scalars: BTreeMap<String, f64>,
}

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// Flat states, the file that each is in, and what the names of parameters begin with there.
const TENSORS: [(&str, &str, &str); 4] = [
    (STUDENT, "student.safetensors", ""),
    (EMA, "ema.safetensors", ""),
    (FIRST_MOMENT, OPTIMIZER, "exp_avg."),
    (SECOND_MOMENT, OPTIMIZER, "exp_avg_sq."),
];

const OPTIMIZER: &str = "optimizer.safetensors";

/// Scalar states.
const SCALARS: [&str; 2] = [LOSS_SCALE, LOSS_SCALE_UPDATES];

const STATE: &str = "state.json";

/// What the names of checkpoints begin with; the number of updates follows.
const PREFIX: &str = "checkpoint-";

/// What the name of a checkpoint begins with that is not complete.
const PARTIAL: &str = ".partial-";

/// Why a checkpoint cannot be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The store fails.
    #[error("{folder}: {error}")]
    Store {
        /// The folder, and where known the file.
        folder: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file of tensors is damaged.
    #[error("{file}: {error}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        error: TensorFileError,
    },
    /// Tensors do not fit the student.
    #[error("{file}: {error}")]
    Layout {
        /// The file.
        file: String,
        /// What does not fit.
        error: LayoutError,
    },
    /// The description is damaged or of another version.
    #[error("{file}: {reason}")]
    State {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The device fails.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// The updates of every complete checkpoint, in rising order.
///
/// # Errors
/// When the store cannot be listed.
pub fn list(store: &dyn Store) -> Result<Vec<u64>, CheckpointError> {
    let folders = store
        .folders()
        .map_err(|error| failed("the folder", error))?;
    let steps = folders
        .iter()
        .filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok());
    let mut steps: Vec<u64> = steps.collect();
    steps.sort_unstable();
    Ok(steps)
}

/// The folder of a checkpoint.
pub fn folder(step: u64) -> String {
    format!("{PREFIX}{step}")
}

/// Writes a checkpoint of the states that `session` holds, then removes all but the last `keep`
/// ones, and what a kill left of others.
///
/// # Errors
/// When the device or the store fails; earlier checkpoints are then as they were.
pub fn write(
    store: &dyn Store,
    session: &Session,
    layout: &Layout,
    mut state: State,
    keep: usize,
) -> Result<(), CheckpointError> {
    let partial = format!("{PARTIAL}{}", folder(state.step));
    remove_partial(store)?;
    let mut files: BTreeMap<&str, Named> = BTreeMap::new();
    for (name, file, prefix) in TENSORS {
        let Some(flat) = session.state(name)? else {
            continue;
        };
        let cut = layout.cut(&flat).map_err(|error| misfit(file, error))?;
        let named = cut
            .into_iter()
            .map(|(own, tensor)| (format!("{prefix}{own}"), tensor));
        files.entry(file).or_default().extend(named);
        // The tensors of a file share the bytes of their state, which goes with them.
        if name != FIRST_MOMENT
            && let Some(tensors) = files.remove(file)
        {
            write_tensors(store, &partial, file, &tensors)?;
        }
    }
    for name in SCALARS {
        if let Some(value) = session.state(name)? {
            state.scalars.insert(name.to_owned(), first_number(&value));
        }
    }
    let mut text = serde_json::to_vec_pretty(&state).expect("text and finite numbers are JSON");
    text.push(b'\n');
    let written = store.write(&partial, STATE, &[text.into()]);
    written.map_err(|error| failed(STATE, error))?;
    let name = folder(state.step);
    let published = store.publish(&partial, &name);
    published.map_err(|error| failed(&name, error))?;
    let steps = list(store)?;
    for step in steps.iter().rev().skip(keep.max(1)) {
        let old = folder(*step);
        store.remove(&old).map_err(|error| failed(&old, error))?;
    }
    Ok(())
}

fn write_tensors(
    store: &dyn Store,
    folder: &str,
    file: &str,
    tensors: &Named,
) -> Result<(), CheckpointError> {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let parts = tensor_file::parts(named).map_err(|error| damaged(file, error))?;
    let written = store.write(folder, file, &parts);
    written.map_err(|error| failed(file, error))
}

/// Removes checkpoints that a kill left incomplete.
///
/// # Errors
/// When the store fails.
pub fn remove_partial(store: &dyn Store) -> Result<(), CheckpointError> {
    let folders = store
        .folders()
        .map_err(|error| failed("the folder", error))?;
    for folder in folders.iter().filter(|name| name.starts_with(PARTIAL)) {
        store
            .remove(folder)
            .map_err(|error| failed(folder, error))?;
    }
    Ok(())
}

/// Reads what a training was at a checkpoint.
///
/// # Errors
/// When the file is missing, damaged, or of another version.
pub fn read_state(store: &dyn Store, step: u64) -> Result<State, CheckpointError> {
    let folder = folder(step);
    let file = format!("{folder}/{STATE}");
    let text = store
        .read(&folder, STATE)
        .map_err(|error| failed(&file, error))?;
    let wrong = |reason: String| CheckpointError::State {
        file: file.clone(),
        reason,
    };
    let state: State = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    match state.format {
        FORMAT => Ok(state),
        other => Err(wrong(format!(
            "the format is {other}, expected {FORMAT}, which this version writes"
        ))),
    }
}

/// Reads the states of a checkpoint: flat tensors and scalars by the names of the step's states.
///
/// # Errors
/// When a file is missing or damaged, or a tensor does not fit `layout`.
pub fn read(store: &dyn Store, state: &State, layout: &Layout) -> Result<Named, CheckpointError> {
    let folder = folder(state.step);
    let mut states = Named::new();
    for (name, file, prefix) in TENSORS {
        let path = format!("{folder}/{file}");
        let bytes = store
            .read(&folder, file)
            .map_err(|error| failed(&path, error))?;
        let tensors = tensor_file::read(&bytes).map_err(|error| damaged(&path, error))?;
        let own = tensors.into_iter();
        let own =
            own.filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?.to_owned(), tensor)));
        let flat = layout
            .join(&own.collect())
            .map_err(|error| misfit(&path, error))?;
        states.insert(name.to_owned(), flat);
    }
    for (name, value) in &state.scalars {
        states.insert(name.clone(), Tensor::from_f32(&[], &[*value as f32]));
    }
    Ok(states)
}

/// Reads the average of a checkpoint: parameters by the names that they have in files.
///
/// # Errors
/// When the file is missing or damaged.
pub fn average(store: &dyn Store, step: u64) -> Result<Named, CheckpointError> {
    let folder = folder(step);
    let [_, (_, file, _), ..] = TENSORS;
    let path = format!("{folder}/{file}");
    let bytes = store.read(&folder, file);
    let bytes = bytes.map_err(|error| failed(&path, error))?;
    tensor_file::read(&bytes).map_err(|error| damaged(&path, error))
}

/// A short text that tells contents from others.
pub fn fingerprint(contents: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    /// Bytes of the hash that are enough to tell trainings apart.
    const BYTES: usize = 8;
    let mut hash = Sha256::new();
    contents.into_iter().for_each(|part| hash.update(part));
    let digest = hash.finalize();
    digest
        .iter()
        .take(BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn first_number(tensor: &Tensor) -> f64 {
    match tensor.values() {
        Values::Float(values) => values.first().copied().unwrap_or_default(),
        Values::Int(_) | Values::Bool(_) => 0.0,
    }
}

fn failed(folder: &str, error: io::Error) -> CheckpointError {
    let folder = folder.to_owned();
    CheckpointError::Store { folder, error }
}

fn damaged(file: &str, error: TensorFileError) -> CheckpointError {
    let file = file.to_owned();
    CheckpointError::File { file, error }
}

fn misfit(file: &str, error: LayoutError) -> CheckpointError {
    let file = file.to_owned();
    CheckpointError::Layout { file, error }
}
