//! The manifest: JSON for people and web hosts, sealed by its own hash.
//!
//! Takes and gives the manifest's data and its bytes. Never looks at another file.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::stored::{StoredFile, hash};
use super::{About, ArtifactError, ArtifactProgram, PictureShape, Port};

const FORMAT: &str = "splam";
/// Raised by every change that an older reader would misunderstand.
const VERSION: u32 = 3;
/// What stands between the manifest's content and its hash, and after the hash.
const SEAL_START: &str = ",\n  \"sha256\": \"";
const SEAL_END: &str = "\"\n}\n";
/// Hexadecimal digits of the seal.
const SEAL_DIGITS: usize = 64;

/// What an artifact is, and every other file of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// What the artifact is and what it needs.
    #[serde(flatten)]
    pub about: About,
    /// The programs, in the plan's order.
    pub programs: Vec<ProgramSummary>,
    /// Every file but the manifest and the shards, by its role, such as `tokenizer/vocab.json`.
    pub files: BTreeMap<String, StoredFile>,
    /// The shards of the weights; `None` where the weights are left out.
    pub shards: Option<Vec<StoredFile>>,
}

/// A program without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSummary {
    /// Unique within its component.
    pub name: String,
    /// The part of the pipeline that it computes.
    pub component: String,
    /// Bytes that it needs at once: of its arena, and on an adapter of its weights too.
    pub peak_bytes: u64,
    /// What it takes, in order.
    pub inputs: Vec<Port>,
    /// What it gives, in order.
    pub outputs: Vec<Port>,
}

impl ProgramSummary {
    pub(super) fn of(program: &ArtifactProgram) -> ProgramSummary {
        ProgramSummary {
            name: program.name.clone(),
            component: program.component.clone(),
            peak_bytes: program.peak_bytes,
            inputs: program.inputs.clone(),
            outputs: program.outputs.clone(),
        }
    }
}

/// The part of a manifest that every version has, and what tells how it was compiled.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
    target: Option<String>,
    dtype: Option<String>,
    picture: Option<PictureShape>,
}

impl Head {
    /// The options of the command that compiles for the same target and sizes.
    fn options(&self) -> String {
        let target = self
            .target
            .iter()
            .map(|target| format!(" --target {target}"));
        let dtype = self.dtype.iter().map(|dtype| format!(" --dtype {dtype}"));
        let picture = self.picture.iter().map(|picture| {
            let PictureShape {
                batch,
                height,
                width,
            } = picture;
            format!(" -W {width} -H {height} -b {batch}")
        });
        target.chain(dtype).chain(picture).collect()
    }
}

impl Manifest {
    pub(super) fn new(
        about: About,
        programs: Vec<ProgramSummary>,
        files: BTreeMap<String, StoredFile>,
        shards: Option<Vec<StoredFile>>,
    ) -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            about,
            programs,
            files,
            shards,
        }
    }

    /// The manifest's bytes: indented JSON whose last field is the hash of all before it.
    pub(super) fn seal(&self) -> Result<Bytes, ArtifactError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| ArtifactError::Manifest { source })?;
        // Pretty JSON of a struct ends so; the seal closes it again.
        text.truncate(text.len() - "\n}".len());
        let seal = hash([text.as_bytes()]);
        text.extend([SEAL_START, &seal, SEAL_END]);
        Ok(text.into())
    }

    /// Reads a manifest: version first, then the seal, then the content.
    pub(super) fn open(file: &Bytes) -> Result<Manifest, ArtifactError> {
        let malformed = |source| ArtifactError::Manifest { source };
        let head: Head = serde_json::from_slice(file).map_err(malformed)?;
        if (head.format.as_str(), head.version) != (FORMAT, VERSION) {
            return Err(ArtifactError::Format {
                found: format!("{} {}", head.format, head.version),
                wanted: format!("{FORMAT} {VERSION}"),
                options: head.options(),
            });
        }
        check_seal(file).ok_or(ArtifactError::Seal)?;
        serde_json::from_slice(file).map_err(malformed)
    }
}

/// Whether a `manifest.json` is an artifact's, of any version.
pub fn is_manifest(content: &[u8]) -> bool {
    serde_json::from_slice::<Head>(content).is_ok_and(|head| head.format == FORMAT)
}

fn check_seal(file: &[u8]) -> Option<()> {
    let (rest, seal) = file
        .strip_suffix(SEAL_END.as_bytes())?
        .split_last_chunk::<SEAL_DIGITS>()?;
    let content = rest.strip_suffix(SEAL_START.as_bytes())?;
    (hash([content]).as_bytes() == seal).then_some(())
}
