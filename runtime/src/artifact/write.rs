//! Writing an artifact.
//!
//! Takes its contents and a storage; writes every file, then commits the manifest. Never copies a
//! weight: a shard is hashed and then written from the bytes that the tensors share, two passes
//! over a map. Same contents, same bytes.

use std::collections::{BTreeMap, BTreeSet};

use backends::gpu::commands::Commands;
use bytes::Bytes;
use compiler::value::stored::ReadError;
use prost::Message;
use rayon::prelude::*;

use super::commands;
use super::kernels;
use super::manifest::{Manifest, ProgramSummary};
use super::parts::{Constants, Links, program_message};
use super::plan::{self, Plan};
use super::shards::shards;
use super::stored::{StoredFile, check_role};
use super::{ArtifactContents, ArtifactError, ArtifactProgram, MANIFEST, Storage};
use crate::tensor_file;

/// The role of every shard; only the hash tells their names apart.
pub(super) const SHARD_ROLE: &str = "weights.safetensors";
/// The role of the plan.
pub(super) const PLAN_ROLE: &str = "plan.pb";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Every file of the artifact, the manifest last. Anything else in its place is left over
    /// from an earlier artifact.
    pub files: Vec<String>,
    /// Their bytes together.
    pub bytes: u64,
}

/// Writes an artifact through `storage`; shards are hashed and written in parallel.
///
/// # Errors
/// When a name cannot be a file's, a program's name occurs twice, kernels of one name differ, a
/// weight cannot be read, or the storage fails. There is then no new manifest.
pub fn write(storage: &dyn Storage, contents: &ArtifactContents) -> Result<Written, ArtifactError> {
    check_programs(&contents.programs)?;
    let cut = contents.weights.as_ref().map(shards);
    let tensors = cut.iter().flatten().map(|shard| plan::Shard {
        tensors: shard.iter().map(|(name, _)| (*name).to_owned()).collect(),
    });
    let mut constants = Constants::default();
    let programs = contents.programs.iter();
    let links = Links::new(&contents.commands);
    let programs = programs.map(|program| program_message(program, &mut constants, &links));
    let plan = Plan {
        programs: programs.collect(),
        shards: tensors.collect(),
        commands: command_messages(contents)?,
        constants: constants.into_messages(),
    };
    let named = named_files(contents, plan.encode_to_vec().into())?;
    let store = |role: &str, parts: &[Bytes]| {
        let entry = StoredFile::of(role, parts);
        match storage.write(&entry.file, parts) {
            Ok(()) => Ok(entry),
            Err(source) => Err(ArtifactError::Write {
                file: entry.file,
                source,
            }),
        }
    };
    let files = named
        .into_iter()
        .map(|(role, file)| Ok((role.clone(), store(&role, &[file])?)))
        .collect::<Result<BTreeMap<_, _>, ArtifactError>>()?;
    let shards = cut.map(|cut| {
        let stored = cut.into_par_iter().map(|shard| {
            let file = || SHARD_ROLE.to_owned();
            let fetched = shard.into_iter();
            let fetched = fetched.map(|(name, tensor)| Ok((name, tensor.fetched()?)));
            let fetched: Vec<_> = fetched.collect::<Result<_, ReadError>>()?;
            let parts = tensor_file::parts(fetched.iter().map(|(name, tensor)| (*name, tensor)));
            let parts = parts.map_err(|source| ArtifactError::Shard {
                file: file(),
                source,
            })?;
            store(SHARD_ROLE, &parts)
        });
        stored.collect::<Result<Vec<_>, _>>()
    });
    let programs = contents.programs.iter().map(ProgramSummary::of).collect();
    let manifest = Manifest::new(contents.about.clone(), programs, files, shards.transpose()?);
    commit(storage, &manifest)
}

/// Every file but the manifest and the shards, by its role.
fn named_files(
    contents: &ArtifactContents,
    plan: Bytes,
) -> Result<BTreeMap<String, Bytes>, ArtifactError> {
    let mut named = BTreeMap::from([(PLAN_ROLE.to_owned(), plan)]);
    if let Some(kernels) = kernels_file(contents)? {
        named.insert(kernels::role(&contents.about.target), kernels);
    }
    for (folder, tokenizer) in &contents.tokenizers {
        let files = tokenizer.named();
        named.extend(files.map(|(name, file)| (format!("{folder}/{name}"), file.clone())));
    }
    for role in named.keys() {
        check_role(role)?;
    }
    Ok(named)
}

/// The text of all kernels, each once; none where there are none.
fn kernels_file(contents: &ArtifactContents) -> Result<Option<Bytes>, ArtifactError> {
    let mut texts = BTreeMap::new();
    let kernels = contents.commands.values();
    for kernel in kernels.flat_map(|commands| &commands.kernels) {
        let (name, text) = (kernel.name.as_str(), kernel.text.as_str());
        if texts.insert(name, text).is_some_and(|known| known != text) {
            let name = name.to_owned();
            let what = "kernel";
            return Err(ArtifactError::Twice { what, name });
        }
    }
    let joined = kernels::join(&texts).map_err(|name| ArtifactError::FileName { name })?;
    Ok((!joined.is_empty()).then(|| joined.into()))
}

fn command_messages(contents: &ArtifactContents) -> Result<Vec<commands::Commands>, ArtifactError> {
    let all = contents.commands.iter();
    let message = |(regions, own): (&String, &Commands)| {
        commands::message(own, regions).ok_or_else(|| ArtifactError::Damaged {
            program: own.name.clone(),
            what: "numbers",
        })
    };
    all.map(message).collect()
}

fn commit(storage: &dyn Storage, manifest: &Manifest) -> Result<Written, ArtifactError> {
    let content = manifest.seal()?;
    let committed = storage.commit(MANIFEST, &content);
    committed.map_err(|source| ArtifactError::Write {
        file: MANIFEST.to_owned(),
        source,
    })?;
    let stored = manifest.files.values();
    let stored: Vec<_> = stored.chain(manifest.shards.iter().flatten()).collect();
    let mut files: Vec<String> = stored.iter().map(|entry| entry.file.clone()).collect();
    files.push(MANIFEST.to_owned());
    let bytes: u64 = stored.iter().map(|entry| entry.bytes).sum();
    Ok(Written {
        files,
        bytes: bytes + content.len() as u64,
    })
}

fn check_programs(programs: &[ArtifactProgram]) -> Result<(), ArtifactError> {
    let mut seen = BTreeSet::new();
    for program in programs {
        if !seen.insert((&program.component, &program.name)) {
            return Err(ArtifactError::Twice {
                what: "program",
                name: format!("{}/{}", program.component, program.name),
            });
        }
    }
    Ok(())
}
