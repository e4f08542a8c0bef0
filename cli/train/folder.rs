//! The training folder: checkpoints, metrics, students and pictures.
//!
//! Takes the path that the user gave; implements the store of checkpoints over it. Every file and
//! every checkpoint is written beside and renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use runtime::training::checkpoint::Store;

use crate::error::{At, Failure, said};
use crate::outputs;

/// A training folder.
pub(crate) struct TrainingFolder {
    path: PathBuf,
}

/// What the name of a folder begins with that is being removed.
const REMOVED: &str = ".removed-";

/// The file with a line for each update.
pub(crate) const METRICS: &str = "metrics.jsonl";

/// The file with a line for each comparison with the teacher.
pub(crate) const VALIDATION: &str = "validation.jsonl";

impl TrainingFolder {
    /// The folder at a path, where there may be none yet.
    pub(crate) fn at(path: &Path) -> TrainingFolder {
        TrainingFolder {
            path: path.to_owned(),
        }
    }

    /// Makes the folder if need be, and finishes what a kill cut short.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let place = self.path.display();
        fs::create_dir_all(&self.path).map_err(said).at(&place)?;
        // Better a sentence now than a training that cannot be saved.
        tempfile::Builder::new()
            .prefix(".probe-")
            .tempfile_in(&self.path)
            .map_err(said)
            .at(&place)?;
        self.remove_rest().map_err(said).at(&place)
    }

    /// Finishes removals that a kill cut short.
    fn remove_rest(&self) -> io::Result<()> {
        for name in self
            .folders()?
            .iter()
            .filter(|name| name.starts_with(REMOVED))
        {
            fs::remove_dir_all(self.path.join(name))?;
        }
        Ok(())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line to a log.
    pub(crate) fn log(&self, log: &str, line: &str) -> Result<(), Failure> {
        let path = self.path.join(log);
        let file = File::options().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.map_err(said).at(path.display())
    }

    /// Cuts every log after the lines of `step` updates.
    pub(crate) fn cut_logs(&self, step: u64) -> Result<(), Failure> {
        let mut logs = [METRICS, VALIDATION].into_iter();
        logs.try_for_each(|log| self.cut(&self.path.join(log), step))
    }

    fn cut(&self, path: &Path, step: u64) -> Result<(), Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(said(error)).at(path.display()),
        };
        let is_before = |line: &&str| {
            let object: Result<serde_json::Value, _> = serde_json::from_str(line);
            let own = object.ok().and_then(|object| object["step"].as_u64());
            own.is_some_and(|own| own <= step)
        };
        let kept: Vec<&str> = text.lines().filter(is_before).collect();
        let mut kept = kept.join("\n");
        if !kept.is_empty() {
            kept.push('\n');
        }
        match kept == text {
            true => Ok(()),
            false => outputs::write(path, &[kept.into()]),
        }
    }
}

impl Store for TrainingFolder {
    fn write(&self, folder: &str, file: &str, parts: &[Bytes]) -> io::Result<()> {
        let folder = self.path.join(folder);
        fs::create_dir_all(&folder)?;
        let mut out = File::create(folder.join(file))?;
        parts.iter().try_for_each(|part| out.write_all(part))?;
        out.sync_all()
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = self.path.join(from);
        sync(&folder)?;
        fs::rename(folder, self.path.join(to))?;
        sync(&self.path)
    }

    fn read(&self, folder: &str, file: &str) -> io::Result<Bytes> {
        Ok(fs::read(self.path.join(folder).join(file))?.into())
    }

    fn folders(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, folder: &str) -> io::Result<()> {
        // A removal that is cut short must not leave half a checkpoint under its name.
        let doomed = self.path.join(format!("{REMOVED}{folder}"));
        let _ = fs::remove_dir_all(&doomed);
        fs::rename(self.path.join(folder), &doomed)?;
        fs::remove_dir_all(doomed)
    }
}

/// Makes the names in a folder safe, where the system can.
fn sync(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}
