//! Names and hashes of stored files.
//!
//! Takes content; gives its SHA-256 and the name that carries it; checks content that comes back.
//! Never reads or writes.

use bytes::Bytes;
use compiler::region::Regions;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ArtifactError;

/// Hexadecimal digits of the hash that a name carries: enough that no two contents meet.
const NAME_DIGITS: usize = 16;
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;
/// Greatest length of a part of a name, short of every file system's 255 with room for the hash.
const NAME_BYTES_MAX: usize = 200;

/// One file as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name in the artifact, which carries the start of the hash.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl StoredFile {
    /// The entry of content made of `parts`, under the name that `role` and the hash give.
    pub(super) fn of(role: &str, parts: &[Bytes]) -> StoredFile {
        let sha256 = hash(parts.iter().map(|part| &part[..]));
        StoredFile {
            file: stored_name(role, &sha256),
            bytes: parts.iter().map(|part| part.len() as u64).sum(),
            sha256,
        }
    }

    /// Checks an entry that was read: the role is a plain name, the hash looks like one, and the
    /// file's name follows from both, so that it cannot lead out of the artifact.
    pub(super) fn check_name(&self, role: &str) -> Result<(), ArtifactError> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let hash_good = self.sha256.len() == DIGITS && self.sha256.bytes().all(digit);
        if check_role(role).is_ok() && hash_good && self.file == stored_name(role, &self.sha256) {
            return Ok(());
        }
        let name = self.file.clone();
        Err(ArtifactError::FileName { name })
    }

    /// Checks content against the entry's length and hash.
    pub(super) fn check_content(&self, content: &Bytes) -> Result<(), ArtifactError> {
        self.check_pieces(content.len() as u64, |take| {
            take(content);
            Ok(())
        })
    }

    /// Checks content of this length, whose pieces `each` hands over in order.
    pub(super) fn check_pieces(
        &self,
        length: u64,
        each: impl FnOnce(&mut dyn FnMut(&[u8])) -> std::io::Result<()>,
    ) -> Result<(), ArtifactError> {
        let file = || self.file.clone();
        if length != self.bytes {
            return Err(ArtifactError::Length {
                file: file(),
                found: length,
                wanted: self.bytes,
            });
        }
        let mut hasher = Sha256::new();
        let read = each(&mut |piece| hasher.update(piece));
        read.map_err(|source| ArtifactError::Read {
            file: file(),
            source,
        })?;
        let found = digits(hasher);
        if found != self.sha256 {
            return Err(ArtifactError::Hash {
                file: file(),
                found,
                wanted: self.sha256.clone(),
            });
        }
        Ok(())
    }
}

/// SHA-256 of parts that follow each other, in lower-case hexadecimal digits.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    digits(hasher)
}

fn digits(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What commands are known by: SHA-256 of the text of the regions that they compute.
pub(crate) fn key(regions: &Regions) -> String {
    hash([regions.to_string().as_bytes()])
}

/// Checks that a role is one or two plain names, parted by `/`.
pub(super) fn check_role(role: &str) -> Result<(), ArtifactError> {
    let plain = |name: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.starts_with('.')
            && name.bytes().all(good)
    };
    if role.split('/').count() <= 2 && role.split('/').all(plain) {
        return Ok(());
    }
    let name = role.to_owned();
    Err(ArtifactError::FileName { name })
}

/// `tokenizer/vocab.json` and a hash to `tokenizer/vocab-0123456789abcdef.json`.
fn stored_name(role: &str, sha256: &str) -> String {
    let start = sha256.get(..NAME_DIGITS).unwrap_or(sha256);
    let folder_end = role.rfind('/').map_or(0, |slash| slash + 1);
    match role[folder_end..].rfind('.') {
        Some(dot) => {
            let (stem, extension) = role.split_at(folder_end + dot);
            format!("{stem}-{start}{extension}")
        }
        None => format!("{role}-{start}"),
    }
}

/// Whether a file has a name that only artifacts give: a role and the start of a hash.
pub fn is_stored_name(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let is_hashed = stem
        .rsplit_once('-')
        .is_some_and(|(_, hash)| hash.len() == NAME_DIGITS && hash.bytes().all(digit));
    is_hashed && check_role(file).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stored_files_are_told_from_others() {
        let hash = "0123456789abcdef";
        let cases = [
            (format!("plan-{hash}.pb"), true),
            (format!("tokenizer/vocab-{hash}.json"), true),
            (format!("kernels/gemm_1-{hash}"), true),
            ("manifest.json".to_owned(), false),
            ("notes.txt".to_owned(), false),
            (format!("{hash}.txt"), false),
            ("index-0123456789ABCDEF.js".to_owned(), false),
            (format!("plan-{hash}0.pb"), false),
            (format!("a/b/plan-{hash}.pb"), false),
        ];
        for (name, wanted) in cases {
            assert_eq!(is_stored_name(&name), wanted, "{name}");
        }
        let own = stored_name("tokenizer/merges.txt", &hash.repeat(4));
        assert!(is_stored_name(&own), "{own}");
    }
}
