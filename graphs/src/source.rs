//! Where importers read files from, without knowing files.
//!
//! Takes relative, `/`-separated paths, gives bytes that share what lies behind them (a mapped
//! file, a download). It never opens anything itself, and no path made from the contents of a
//! file leaves the folder of the model: such paths go through [`join`]. A file that git-lfs left in
//! place of the real one is an error, whoever reads it.

use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::value::tensor::Tensor;
use thiserror::Error;

/// A folder of model files.
pub trait Source {
    /// The bytes of the file at `path`, whatever they are.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] when there is no such file, [`SourceError::Failed`] when it
    /// cannot be read.
    fn bytes(&self, path: &str) -> Result<Bytes, SourceError>;

    /// The contents of the file at `path`.
    ///
    /// # Errors
    /// As [`Source::bytes`], and [`SourceError::LfsPointer`] when git-lfs has not fetched it.
    fn read(&self, path: &str) -> Result<Bytes, SourceError> {
        let bytes = self.bytes(path)?;
        match lfs_pointer(path, &bytes) {
            Some(pointer) => Err(pointer),
            None => Ok(bytes),
        }
    }

    /// The same tensor, whose bytes are read again when they are needed, if they are a view of a
    /// file that can change meanwhile.
    fn stored(&self, tensor: Tensor) -> Tensor {
        tensor
    }

    /// The paths of all files below the folder, sorted.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    fn list(&self) -> Result<Vec<String>, SourceError>;
}

/// Why a file cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// There is no such file.
    #[error("found no file {path:?}")]
    NotFound {
        /// The path, relative to the model's folder.
        path: String,
    },
    /// The path does not stay within the model's folder.
    #[error("found the path {path:?}, wanted a relative path that stays within {folder:?}")]
    Escape {
        /// The folder that the path is relative to; empty for the model's own.
        folder: String,
        /// The path.
        path: String,
    },
    /// A text of git-lfs that stands for the file. The message has what to do on a line of its own.
    #[error(
        "{path:?} is a git-lfs pointer{}, not the file itself\n\
         run: git lfs pull --include {path:?}",
        match .size {
            Some(size) => format!(" to {size} bytes"),
            None => String::new(),
        }
    )]
    LfsPointer {
        /// The path, relative to the model's folder.
        path: String,
        /// The size of the file, if the pointer says it.
        size: Option<u64>,
    },
    /// The file is there but cannot be read.
    #[error("cannot read {path:?}: {reason}")]
    Failed {
        /// The path, relative to the model's folder.
        path: String,
        /// What the system says.
        reason: String,
    },
}

/// The error for the file at `path` if its `bytes` are a pointer of git-lfs.
///
/// # Source
/// github.com/git-lfs/git-lfs, docs/spec.md: UTF-8 lines `key value`, `version` first, less than
/// 1024 bytes.
pub fn lfs_pointer(path: &str, bytes: &[u8]) -> Option<SourceError> {
    const BYTES_MAX: usize = 1024;
    const VERSIONS: [&str; 2] = [
        "version https://git-lfs.github.com/spec/",
        "version https://hawser.github.com/spec/",
    ];
    let text = std::str::from_utf8(bytes.get(..BYTES_MAX.min(bytes.len()))?).ok()?;
    let is_pointer = bytes.len() <= BYTES_MAX && VERSIONS.iter().any(|v| text.starts_with(v));
    let size = text.lines().find_map(|line| line.strip_prefix("size "));
    is_pointer.then(|| SourceError::LfsPointer {
        path: path.to_owned(),
        size: size.and_then(|size| size.trim().parse().ok()),
    })
}

/// The path of `path` seen from `folder`, for paths that come out of files: shard names,
/// locations of external data. `folder` may be empty.
///
/// # Errors
/// When the path is empty, absolute, has a `..` component, or a character with which some
/// system leaves the folder (`\`, `:`, NUL).
pub fn join(folder: &str, path: &str) -> Result<String, SourceError> {
    let escape = || SourceError::Escape {
        folder: folder.to_owned(),
        path: path.to_owned(),
    };
    if path.starts_with('/') || path.contains(['\\', ':', '\0']) {
        return Err(escape());
    }
    let mut joined = folder.to_owned();
    let mut components = 0;
    for component in path.split('/').filter(|c| !c.is_empty() && *c != ".") {
        if component == ".." {
            return Err(escape());
        }
        if !joined.is_empty() {
            joined.push('/');
        }
        joined.push_str(component);
        components += 1;
    }
    match components {
        0 => Err(escape()),
        _ => Ok(joined),
    }
}

/// Files in memory.
impl Source for BTreeMap<String, Bytes> {
    fn bytes(&self, path: &str) -> Result<Bytes, SourceError> {
        let found = self.get(path).cloned();
        found.ok_or_else(|| SourceError::NotFound {
            path: path.to_owned(),
        })
    }

    fn list(&self) -> Result<Vec<String>, SourceError> {
        Ok(self.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_of_git_lfs_are_no_contents() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438\n";
        let long = pointer.to_owned() + &"#".repeat(2000);
        let cases = [
            (pointer, Some(Some(3438))),
            ("version https://git-lfs.github.com/spec/v1", Some(None)),
            (
                "version https://hawser.github.com/spec/v1\nsize 1",
                Some(Some(1)),
            ),
            (
                "{\"version\": \"https://git-lfs.github.com/spec/v1\"}",
                None,
            ),
            (&long, None),
            ("", None),
        ];
        for (text, wanted) in cases {
            let files = BTreeMap::from([("a".to_owned(), Bytes::from(text.to_owned()))]);
            let found = match files.read("a") {
                Err(SourceError::LfsPointer { size, .. }) => Some(size),
                _ => None,
            };
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn paths_out_of_files_stay_in_their_folder() {
        let cases = [
            ("unet", "model.onnx_data", Some("unet/model.onnx_data")),
            ("", "a.safetensors", Some("a.safetensors")),
            ("unet", "./parts//a", Some("unet/parts/a")),
            ("unet", "..hidden", Some("unet/..hidden")),
            ("unet", "../vae/a", None),
            ("unet", "a/../../b", None),
            ("unet", "/etc/passwd", None),
            ("unet", "C:secret", None),
            ("unet", "..\\secret", None),
            ("unet", "a\0", None),
            ("unet", ".", None),
            ("unet", "", None),
        ];
        for (folder, path, wanted) in cases {
            let found = join(folder, path).ok();
            assert_eq!(found.as_deref(), wanted, "{folder:?} {path:?}");
        }
    }
}
