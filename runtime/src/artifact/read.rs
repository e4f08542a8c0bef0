//! Reading an artifact.
//!
//! Takes files by name; gives programs, weights, kernels and tokenizers. Never trusts a file:
//! every one is checked against its length and hash when it is first used, and then against what
//! the other files say of it.
//!
//! A shard is checked when one of its tensors is first asked for, not at opening: hashing all of
//! a 3.4 GB model costs seconds of one core, a run of one component needs only its own shards, and
//! whoever needs many has them checked in parallel by [`Artifact::weights`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use backends::gpu::belong::belong;
use backends::gpu::commands::Commands;
use backends::gpu::compile;
use backends::gpu::dialect::Dialect;
use backends::gpu::validate::{Valid, validate};
use bytes::Bytes;
use compiler::program::Executable;
use compiler::region::Regions;
use compiler::value::tensor::Tensor;
use prost::Message;
use rayon::prelude::*;

use super::commands;
use super::kernels;
use super::manifest::{Manifest, ProgramSummary};
use super::parts;
use super::plan::{self, Plan};
use super::shards::component;
use super::stored::{StoredFile, key};
use super::write::{PLAN_ROLE, SHARD_ROLE};
use super::{ArtifactContents, ArtifactError, ArtifactProgram, Files, MANIFEST};
use crate::tensor_file;
use crate::tokenizer::TokenizerFiles;

/// An opened artifact.
pub struct Artifact {
    files: Arc<dyn Files>,
    manifest: Manifest,
    programs: Vec<ArtifactProgram>,
    /// By the hash of the regions that they compute.
    commands: BTreeMap<String, commands::Commands>,
    shards: Vec<Shard>,
    /// Which shard holds a tensor.
    shard_of: BTreeMap<String, usize>,
    /// The texts of the kernels by name, once checked.
    kernels: OnceLock<BTreeMap<String, String>>,
}

struct Shard {
    entry: StoredFile,
    /// Names of its tensors, as the plan says.
    names: Vec<String>,
    /// Its tensors, once checked.
    tensors: OnceLock<BTreeMap<String, Tensor>>,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Artifact { manifest, .. } = self;
        f.debug_struct("Artifact")
            .field("manifest", manifest)
            .finish_non_exhaustive()
    }
}

impl Artifact {
    /// Whether its kernels name 16-bit floats, which not every adapter has.
    pub fn names_halves(&self) -> bool {
        let features = &self.manifest.about.requirements.features;
        features.contains("shader-f16")
    }

    /// The language of its kernels, if its target has one.
    pub fn dialect(&self) -> Option<&'static Dialect> {
        backends::lookup(&self.manifest.about.target)?.dialect
    }

    /// Opens an artifact: reads and checks the manifest and the plan, nothing else.
    ///
    /// # Errors
    /// When either is missing, changed, of another version, or they disagree.
    pub fn open(files: Arc<dyn Files>) -> Result<Artifact, ArtifactError> {
        let manifest = Manifest::open(&read(&*files, MANIFEST)?)?;
        manifest.about.pipeline.check()?;
        for (role, entry) in &manifest.files {
            entry.check_name(role)?;
        }
        for entry in manifest.shards.iter().flatten() {
            entry.check_name(SHARD_ROLE)?;
        }
        let entry = entry_of(&manifest, PLAN_ROLE, "file")?;
        let content = fetch(&*files, entry)?;
        let file = entry.file.clone();
        let mut plan =
            Plan::decode(content).map_err(|source| ArtifactError::Plan { file, source })?;
        let disagree = |what| ArtifactError::Disagree {
            file: entry.file.clone(),
            what,
        };
        let programs = programs(&manifest, &mut plan).ok_or_else(|| disagree("the programs"))?;
        let entries = manifest.shards.as_deref().unwrap_or_default();
        if entries.len() != plan.shards.len() {
            return Err(disagree("the number of shards"));
        }
        let mut shard_of = BTreeMap::new();
        let mut shards = Vec::with_capacity(entries.len());
        for (index, (entry, shard)) in entries.iter().zip(plan.shards).enumerate() {
            for name in &shard.tensors {
                if shard_of.insert(name.clone(), index).is_some() {
                    let name = name.clone();
                    return Err(ArtifactError::Twice {
                        what: "tensor",
                        name,
                    });
                }
            }
            shards.push(Shard {
                entry: entry.clone(),
                names: shard.tensors,
                tensors: OnceLock::new(),
            });
        }
        let mut commands = BTreeMap::new();
        for own in plan.commands {
            let (regions, name) = (own.regions.clone(), own.name.clone());
            if commands.insert(regions, own).is_some() {
                let what = "program's commands";
                return Err(ArtifactError::Twice { what, name });
            }
        }
        Ok(Artifact {
            files,
            manifest,
            programs,
            commands,
            shards,
            shard_of,
            kernels: OnceLock::new(),
        })
    }

    /// What the artifact is, what it needs, and its files.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The programs, in order.
    pub fn programs(&self) -> &[ArtifactProgram] {
        &self.programs
    }

    /// Whether the weights are in the artifact.
    pub fn has_weights(&self) -> bool {
        self.manifest.shards.is_some()
    }

    /// Names of all weights, `<component>/<tensor name>`, sorted.
    pub fn weight_names(&self) -> impl Iterator<Item = &str> {
        self.shard_of.keys().map(String::as_str)
    }

    /// One weight, sharing its file's bytes; checks its shard at the first use.
    ///
    /// # Errors
    /// When there is no such weight, or its shard is missing or changed.
    pub fn weight(&self, name: &str) -> Result<Tensor, ArtifactError> {
        let missing = || match self.has_weights() {
            true => ArtifactError::Missing {
                what: "tensor",
                name: name.to_owned(),
            },
            false => ArtifactError::NoWeights {
                name: name.to_owned(),
            },
        };
        let &index = self.shard_of.get(name).ok_or_else(missing)?;
        let tensors = self.tensors(&self.shards[index])?;
        tensors.get(name).cloned().ok_or_else(missing)
    }

    /// All weights of one component by their full names; checks the shards in parallel.
    ///
    /// # Errors
    /// When the artifact holds no weights, or a shard is missing or changed. A component without
    /// weights gives none.
    pub fn weights(&self, of: &str) -> Result<BTreeMap<String, Tensor>, ArtifactError> {
        if !self.has_weights() {
            let name = of.to_owned();
            return Err(ArtifactError::NoWeights { name });
        }
        let here = |name: &String| component(name) == of;
        let wanted = self
            .shards
            .iter()
            .filter(|shard| shard.names.iter().any(here));
        let wanted: Vec<&Shard> = wanted.collect();
        let found = wanted.into_par_iter().map(|shard| self.tensors(shard));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let tensors = found.into_iter().flatten().filter(|(name, _)| here(name));
        Ok(tensors
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect())
    }

    /// The text of a kernel by its name, such as `gemm_1`.
    ///
    /// # Errors
    /// When there is no such kernel, or the file of kernels is missing or changed.
    pub fn kernel(&self, name: &str) -> Result<&str, ArtifactError> {
        let found = self.kernels()?.get(name).map(String::as_str);
        found.ok_or_else(|| ArtifactError::Missing {
            what: "kernel",
            name: name.to_owned(),
        })
    }

    /// The texts of all kernels, checked at the first use.
    fn kernels(&self) -> Result<&BTreeMap<String, String>, ArtifactError> {
        if let Some(kernels) = self.kernels.get() {
            return Ok(kernels);
        }
        let role = kernels::role(&self.manifest.about.target);
        let entry = entry_of(&self.manifest, &role, "file")?;
        let content = fetch(&*self.files, entry)?;
        let text = std::str::from_utf8(&content).ok();
        let kernels = text.and_then(kernels::split);
        let kernels = kernels.ok_or_else(|| ArtifactError::Damaged {
            program: entry.file.clone(),
            what: "texts of kernels",
        })?;
        Ok(self.kernels.get_or_init(|| kernels))
    }

    /// What an adapter does for a program, or for a part of one, with the regions that it computes.
    ///
    /// # Errors
    /// When there are no commands for what this version makes of the program, they are damaged,
    /// break a rule or belong to another program, or the file of a kernel is missing or changed.
    pub fn commands(&self, program: &Executable) -> Result<(Valid, Regions), ArtifactError> {
        let name = || program.name().to_owned();
        let regions = compile::regions(program);
        let found = self.dialect().zip(self.commands.get(&key(&regions)));
        let (dialect, message) = found.ok_or_else(|| ArtifactError::NoCommands {
            program: name(),
            producer: self.manifest.about.producer.clone(),
        })?;
        let commands = validate(self.plain(message)?, dialect);
        let commands = commands.map_err(|source| ArtifactError::Invalid {
            program: name(),
            source,
        })?;
        belong(commands.commands(), &regions).map_err(|source| ArtifactError::Foreign {
            program: name(),
            source,
        })?;
        Ok((commands, regions))
    }

    /// Commands with the texts of their kernels; no rule is checked.
    fn plain(&self, message: &commands::Commands) -> Result<Commands, ArtifactError> {
        let text = |name: &str| self.kernel(name).map(ToOwned::to_owned);
        commands::commands(message, text)?.map_err(|what| ArtifactError::Damaged {
            program: message.name.clone(),
            what,
        })
    }

    /// The files of a tokenizer by its directory, such as `tokenizer`.
    ///
    /// # Errors
    /// When there is no such tokenizer, or one of its files is missing or changed.
    pub fn tokenizer_files(&self, folder: &str) -> Result<TokenizerFiles, ArtifactError> {
        let entry = |name: &str| self.manifest.files.get(&format!("{folder}/{name}"));
        let mut broken = None;
        let files = TokenizerFiles::from_names(|name| match fetch(&*self.files, entry(name)?) {
            Ok(file) => Some(file),
            Err(error) => {
                broken = Some(error);
                None
            }
        });
        match broken {
            Some(error) => Err(error),
            None if files == TokenizerFiles::default() => Err(ArtifactError::Missing {
                what: "tokenizer",
                name: folder.to_owned(),
            }),
            None => Ok(files),
        }
    }

    /// Everything, checked: writing it again gives the same bytes.
    ///
    /// # Errors
    /// When a file is missing or changed.
    pub fn contents(&self) -> Result<ArtifactContents, ArtifactError> {
        let all = self.commands.iter();
        let commands = all.map(|(regions, own)| Ok((regions.clone(), self.plain(own)?)));
        let commands: BTreeMap<String, Commands> =
            commands.collect::<Result<_, ArtifactError>>()?;
        let mut tokenizers = BTreeMap::new();
        for role in self.manifest.files.keys() {
            match role.split_once('/') {
                Some((folder, _)) if tokenizers.contains_key(folder) => {}
                Some((folder, _)) => {
                    tokenizers.insert(folder.to_owned(), self.tokenizer_files(folder)?);
                }
                None => {}
            }
        }
        let weights = self.manifest.shards.as_ref().map(|_| {
            let shards = self.shards.par_iter().map(|shard| self.tensors(shard));
            let shards = shards.collect::<Result<Vec<_>, _>>()?;
            let tensors = shards.into_iter().flatten();
            Ok::<_, ArtifactError>(
                tensors
                    .map(|(name, tensor)| (name.clone(), tensor.clone()))
                    .collect(),
            )
        });
        Ok(ArtifactContents {
            about: self.manifest.about.clone(),
            programs: self.programs.clone(),
            commands,
            tokenizers,
            weights: weights.transpose()?,
        })
    }

    /// A shard's tensors, checked at the first use. Two threads that meet here both check, and
    /// the first result stays.
    fn tensors<'a>(&self, shard: &'a Shard) -> Result<&'a BTreeMap<String, Tensor>, ArtifactError> {
        if let Some(tensors) = shard.tensors.get() {
            return Ok(tensors);
        }
        let file = || shard.entry.file.clone();
        let content = self.files.view(&shard.entry.file);
        let content = content.map_err(|source| ArtifactError::Read {
            file: file(),
            source,
        })?;
        shard.entry.check_pieces(content.len() as u64, |take| {
            self.files.pieces(&shard.entry.file, &content, take)
        })?;
        let tensors = tensor_file::read(&content);
        let tensors = tensors.map_err(|source| ArtifactError::Shard {
            file: file(),
            source,
        })?;
        if !tensors.keys().eq(&shard.names) {
            let what = "the names of its tensors";
            return Err(ArtifactError::Disagree { file: file(), what });
        }
        Ok(shard.tensors.get_or_init(|| tensors))
    }
}

fn read(files: &dyn Files, name: &str) -> Result<Bytes, ArtifactError> {
    files.read(name).map_err(|source| ArtifactError::Read {
        file: name.to_owned(),
        source,
    })
}

fn fetch(files: &dyn Files, entry: &StoredFile) -> Result<Bytes, ArtifactError> {
    let content = read(files, &entry.file)?;
    entry.check_content(&content)?;
    Ok(content)
}

fn entry_of<'a>(
    manifest: &'a Manifest,
    role: &str,
    what: &'static str,
) -> Result<&'a StoredFile, ArtifactError> {
    let name = || role.to_owned();
    let entry = manifest.files.get(role);
    entry.ok_or_else(|| ArtifactError::Missing { what, name: name() })
}

/// The manifest's programs with what the plan says of each; `None` where they differ, or the plan
/// names a constant that is not there or a weight program, which this version does not run.
fn programs(manifest: &Manifest, plan: &mut Plan) -> Option<Vec<ArtifactProgram>> {
    let constants = parts::constants(plan)?;
    if manifest.programs.len() != plan.programs.len() {
        return None;
    }
    let pairs = manifest.programs.iter().zip(plan.programs.drain(..));
    let program = |(summary, planned): (&ProgramSummary, plan::Program)| {
        let same = summary.name == planned.name
            && summary.component == planned.component
            && summary.peak_bytes == planned.peak_bytes
            && planned.weight_program.is_empty();
        let parts = planned.parts.into_iter();
        let program = ArtifactProgram {
            name: planned.name,
            component: planned.component,
            peak_bytes: planned.peak_bytes,
            inputs: summary.inputs.clone(),
            outputs: summary.outputs.clone(),
            text: planned.text,
            whole: parts::part(planned.whole, &constants)?,
            parts: parts
                .map(|own| parts::part(own, &constants))
                .collect::<Option<_>>()?,
        };
        same.then_some(program)
    };
    pairs.map(program).collect()
}
