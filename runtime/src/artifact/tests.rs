//! Artifacts in memory: round trips, corruption, lies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use compiler::DType;
use compiler::program::Counts;
use compiler::program::pipeline::{Component, Extent, Input, InputRole, Pipeline, Task};
use compiler::value::tensor::Tensor;
use prost::Message;

use super::*;
use crate::artifact::manifest::Manifest;
use crate::artifact::plan::Plan;
use crate::artifact::stored::hash;
use crate::tokenizer::TokenizerFiles;

pub(super) type Stored = BTreeMap<String, Bytes>;

/// A directory in memory that refuses the write of a name that contains `refuses`.
#[derive(Default)]
pub(super) struct Memory {
    files: Mutex<Stored>,
    refuses: Option<&'static str>,
}

impl Memory {
    pub(super) fn of(files: Stored) -> Arc<Memory> {
        Arc::new(Memory {
            files: Mutex::new(files),
            refuses: None,
        })
    }

    fn files(self) -> Stored {
        self.files
            .into_inner()
            .expect("no test panics while it writes")
    }
}

impl Storage for Memory {
    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()> {
        if self.refuses.is_some_and(|refused| name.contains(refused)) {
            return Err(Error::new(ErrorKind::StorageFull, "disk full"));
        }
        let mut files = self.files.lock().expect("no test panics while it writes");
        let before = files.insert(name.to_owned(), parts.concat().into());
        assert_eq!(before, None, "{name} is written once");
        Ok(())
    }

    fn commit(&self, name: &str, content: &Bytes) -> io::Result<()> {
        self.write(name, std::slice::from_ref(content))
    }
}

impl Files for Memory {
    fn read(&self, name: &str) -> io::Result<Bytes> {
        let files = self.files.lock().expect("no test panics while it reads");
        files
            .get(name)
            .cloned()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }
}

fn part(stage: Option<&str>, name: &str) -> ArtifactPart {
    ArtifactPart {
        stage: stage.map(ToOwned::to_owned),
        regions: format!("regions {name} {{\n}}\n"),
        constants: vec![
            Tensor::from_i64(&[2], &[7, 8]),
            Tensor::from_f32(&[], &[0.5]),
        ],
        counts: Counts {
            nodes: 3,
            flops: 1 << 40,
        },
        taken: vec![(0, "text.0".to_owned())],
    }
}

fn program(component: &str, name: &str) -> ArtifactProgram {
    let port = |name: &str, shape: &[u64]| Port {
        name: name.to_owned(),
        dtype: DType::F32,
        shape: shape.to_vec(),
    };
    ArtifactProgram {
        name: name.to_owned(),
        component: component.to_owned(),
        peak_bytes: 1 << 33,
        inputs: vec![port("sample", &[2, 4, 8, 8]), port("timestep", &[])],
        outputs: vec![port("out_sample", &[2, 4, 8, 8])],
        text: format!("program {name} {{\n}}\n"),
        whole: part(None, name),
        parts: vec![part(Some("text"), name), part(None, name)],
    }
}

/// A description with awkward numbers and texts.
fn pipeline() -> Pipeline {
    let component = |name: &str| Component {
        name: name.to_owned(),
        task: Task::Denoise,
        inputs: vec![Input {
            name: "sample".to_owned(),
            role: Some(InputRole::Latents),
            shape: vec![Extent::Batch, Extent::Fixed(4)],
        }],
    };
    let mut pipeline = Pipeline::of_graph(component("unet"));
    pipeline.components.push(component("vaé\n"));
    pipeline.latents.scaling_factor = 1.0 / 3.0;
    pipeline.latents.shift_factor = 5e-324;
    pipeline.prompts.guidance_scale = 1e23;
    pipeline.scheduler = Some("{\"lambda_min_clipped\": -Infinity}\n".to_owned());
    pipeline
}

pub(super) fn contents() -> ArtifactContents {
    let tokenizer = TokenizerFiles {
        vocab: Some(Bytes::from_static(b"{\"a\": 0}")),
        merges: Some(Bytes::new()),
        ..TokenizerFiles::default()
    };
    ArtifactContents {
        about: About {
            kind: Kind::Pipeline,
            producer: "splamc 0.1.0".to_owned(),
            target: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            exact: true,
            picture: Some(PictureShape {
                batch: 1,
                height: 64,
                width: 64,
            }),
            vae_tiling: None,
            requirements: Requirements {
                peak_bytes: 1 << 33,
                limits: BTreeMap::from([("binding_bytes".to_owned(), 128 << 20)]),
                features: BTreeSet::from(["f16".to_owned()]),
            },
            pipeline: pipeline(),
        },
        programs: vec![
            program("unet", "step"),
            program("unet", "guided"),
            program("vae", "step"),
        ],
        commands: BTreeMap::new(),
        tokenizers: BTreeMap::from([
            ("tokenizer".to_owned(), tokenizer.clone()),
            ("tokenizer_2".to_owned(), tokenizer),
        ]),
        weights: Some(BTreeMap::from([
            (
                "unet/conv.weight".to_owned(),
                Tensor::from_f32(&[2, 2], &[1.0, -2.0, 0.5, 3.0]),
            ),
            ("unet/steps".to_owned(), Tensor::from_i64(&[1], &[999])),
            ("vae/bias".to_owned(), Tensor::from_f32(&[0], &[])),
            ("vae/scale".to_owned(), Tensor::from_f32(&[], &[0.18215])),
        ])),
    }
}

pub(super) fn written(contents: &ArtifactContents) -> Stored {
    let memory = Memory::default();
    let report = write(&memory, contents).expect("the contents are good");
    let files = memory.files();
    let names: BTreeSet<&String> = files.keys().collect();
    assert_eq!(report.files.iter().collect::<BTreeSet<_>>(), names);
    assert_eq!(
        report.bytes,
        files.values().map(|file| file.len() as u64).sum::<u64>()
    );
    files
}

fn read_all(files: &Stored) -> Result<ArtifactContents, ArtifactError> {
    Artifact::open(Memory::of(files.clone()))?.contents()
}

fn check_refused(files: &Stored, wanted: &str) {
    let message = match read_all(files) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(message.contains(wanted), "{message} lacks {wanted}");
}

/// The stored name of a role, such as `plan.pb`; the first shard for `weights.safetensors`.
pub(super) fn name_of(files: &Stored, role: &str) -> String {
    let (stem, extension) = role
        .rsplit_once('.')
        .expect("the roles here have extensions");
    let fits = |name: &&String| name.starts_with(&format!("{stem}-")) && name.ends_with(extension);
    files.keys().find(fits).expect("the role is stored").clone()
}

/// Replaces a file by other content with a name, a length and a hash that fit: a lie that only
/// the content gives away.
pub(super) fn forged(files: &Stored, role: &str, content: Vec<u8>) -> Stored {
    let mut files = files.clone();
    let name = name_of(&files, role);
    files.remove(&name);
    let mut manifest = Manifest::open(&files[MANIFEST]).expect("the manifest is good");
    let entry = StoredFile::of(role, &[content.clone().into()]);
    let entries = manifest
        .files
        .values_mut()
        .chain(manifest.shards.iter_mut().flatten());
    for old in entries.filter(|old| old.file == name) {
        *old = entry.clone();
    }
    files.insert(entry.file, content.into());
    files.insert(
        MANIFEST.to_owned(),
        manifest.seal().expect("the manifest is JSON"),
    );
    files
}

/// The artifact with a manifest edited as text and sealed again.
fn edited(files: &Stored, edit: impl FnOnce(&mut Vec<u8>)) -> Stored {
    let mut files = files.clone();
    let manifest = &files[MANIFEST];
    let seal = b",\n  \"sha256\": \"\"\n}\n".len() + 64;
    let mut content = manifest[..manifest.len() - seal].to_vec();
    edit(&mut content);
    let hash = hash([&content[..]]);
    content.extend(format!(",\n  \"sha256\": \"{hash}\"\n}}\n").bytes());
    files.insert(MANIFEST.to_owned(), content.into());
    files
}

#[test]
fn an_artifact_comes_back_and_is_written_again_byte_for_byte() {
    let check = |contents: &ArtifactContents| {
        let files = written(contents);
        let back = read_all(&files).expect("the artifact is good");
        assert_eq!(&back, contents);
        assert_eq!(written(&back), files);
    };
    check(&contents());
    check(&ArtifactContents {
        weights: None,
        ..contents()
    });
    check(&ArtifactContents {
        programs: Vec::new(),
        tokenizers: BTreeMap::new(),
        weights: Some(BTreeMap::new()),
        ..contents()
    });
}

#[test]
fn an_artifact_that_does_not_say_whether_it_is_exact_is_not() {
    let files = written(&contents());
    let old = edited(&files, |manifest| {
        let text = String::from_utf8(manifest.clone()).expect("JSON is text");
        *manifest = text.replace("  \"exact\": true,\n", "").into_bytes();
    });
    assert_ne!(old[MANIFEST], files[MANIFEST]);
    let about = |files: &Stored| read_all(files).expect("a whole artifact").about;
    assert!(about(&files).exact && !about(&old).exact);
}

#[test]
fn parts_are_found_by_name() {
    let artifact = Artifact::open(Memory::of(written(&contents()))).expect("the artifact is good");
    let names: Vec<&str> = artifact.weight_names().collect();
    assert_eq!(
        names,
        ["unet/conv.weight", "unet/steps", "vae/bias", "vae/scale"]
    );
    let unet = artifact.weights("unet").expect("the shard is good");
    assert_eq!(
        unet.keys().collect::<Vec<_>>(),
        ["unet/conv.weight", "unet/steps"]
    );
    assert!(
        artifact
            .weights("text_encoder")
            .expect("none is no fault")
            .is_empty()
    );
    let steps = artifact.weight("unet/steps").expect("the tensor exists");
    assert_eq!(steps, Tensor::from_i64(&[1], &[999]));
    let missing = [
        artifact.weight("unet/other").map(|_| ()),
        artifact.kernel("../manifest.json").map(|_| ()),
        artifact.tokenizer_files("tokenizer_3").map(|_| ()),
    ];
    for result in missing {
        assert!(
            matches!(result, Err(ArtifactError::Missing { .. })),
            "{result:?}"
        );
    }
    let without = ArtifactContents {
        weights: None,
        ..contents()
    };
    let artifact = Artifact::open(Memory::of(written(&without))).expect("the artifact is good");
    for refused in [
        artifact.weight("unet/steps").err(),
        artifact.weights("unet").err(),
    ] {
        assert!(
            matches!(refused, Some(ArtifactError::NoWeights { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_run_of_one_component_touches_only_its_shards() {
    let mut files = written(&contents());
    let artifact = Artifact::open(Memory::of(files.clone())).expect("the artifact is good");
    let shards = artifact
        .manifest()
        .shards
        .clone()
        .expect("there are weights");
    files.remove(&shards[1].file);
    let artifact = Artifact::open(Memory::of(files)).expect("the shards are not touched");
    artifact
        .weights("unet")
        .expect("the other shard is not touched");
    artifact.weights("vae").expect_err("the shard is gone");
}

#[test]
fn every_changed_byte_is_noticed() {
    let files = written(&contents());
    for (name, content) in &files {
        for index in 0..content.len() {
            for flip in [0x01, 0x80] {
                let mut changed = content.to_vec();
                changed[index] ^= flip;
                let mut files = files.clone();
                files.insert(name.clone(), changed.into());
                check_refused(&files, name);
            }
        }
    }
}

#[test]
fn every_shorter_longer_or_missing_file_is_noticed() {
    let files = written(&contents());
    for (name, content) in &files {
        let longer = [&content[..], b" "].concat();
        let shorter = content.len().checked_sub(1).map(|end| content.slice(..end));
        for changed in [Some(longer.into()), shorter, None] {
            let mut files = files.clone();
            match changed {
                Some(changed) => files.insert(name.clone(), changed),
                None if content.is_empty() => continue,
                None => files.remove(name),
            };
            check_refused(&files, name);
        }
    }
}

#[test]
fn lies_with_good_hashes_are_noticed() {
    let files = written(&contents());
    let plan = &files[&name_of(&files, "plan.pb")];
    let lie = |edit: &dyn Fn(&mut Plan)| {
        let mut plan = Plan::decode(plan.clone()).expect("the plan is good");
        edit(&mut plan);
        forged(&files, "plan.pb", plan.encode_to_vec())
    };
    check_refused(&forged(&files, "plan.pb", vec![0xFF; 40]), "is not a plan");
    check_refused(
        &lie(&|plan| plan.programs.clear()),
        "disagree on the programs",
    );
    check_refused(
        &lie(&|plan| plan.programs[0].peak_bytes = 1),
        "disagree on the programs",
    );
    check_refused(
        &lie(&|plan| plan.shards.clear()),
        "disagree on the number of shards",
    );
    check_refused(
        &lie(&|plan| plan.shards[0] = plan.shards[1].clone()),
        "two of tensor",
    );
    check_refused(
        &lie(&|plan| plan.shards[0].tensors.clear()),
        "names of its tensors",
    );
    let shard = forged(
        &files,
        "weights.safetensors",
        b"\x02\0\0\0\0\0\0\0{}".to_vec(),
    );
    check_refused(&shard, "names of its tensors");
    let shard = forged(&files, "weights.safetensors", vec![0xFF; 64]);
    check_refused(&shard, "a header of 18446744073709551615 bytes");

    let edit = |from: &str, to: &str| {
        edited(&files, |content| {
            let text = String::from_utf8(content.clone()).expect("a manifest is text");
            assert!(text.contains(from));
            *content = text.replace(from, to).into_bytes();
        })
    };
    check_refused(
        &edit("\"version\": 3", "\"version\": 2"),
        "splam 2; expected splam 3\nhint: compile the model again: splamc compile MODEL --target cpu --dtype f32 -W 64 -H 64 -b 1",
    );
    check_refused(&edit("\"splam\"", "\"onnx\""), "has format onnx 3");
    check_refused(
        &edit("\"tokenizer/vocab.json\"", "\"../vocab.json\""),
        "file name",
    );
    check_refused(&edit("\"tokenizer/vocab-", "\"/etc/vocab-"), "file name");
    check_refused(
        &edit(
            "\"dtype\": \"f32\",\n          \"shape\"",
            "\"dtype\": \"f31\",\n          \"shape\"",
        ),
        "\"f31\"",
    );
    check_refused(&edit("\"plan.pb\"", "\"plot.pb\""), "file name");
}

/// Whatever a file holds, reading gives contents or an error.
#[test]
fn garbage_with_good_hashes_never_panics() {
    let files = written(&contents());
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound.max(1)
    };
    let mut mutate = |content: &mut Vec<u8>| {
        for _ in 0..=random(4) {
            let index = random(content.len());
            match random(4) {
                0 => content[index] = random(256) as u8,
                1 => content.truncate(index.max(1)),
                2 => content.insert(index, b"0\"{}[],:9\xFF"[random(10)]),
                _ => {
                    content.remove(index);
                }
            }
            if content.is_empty() {
                content.push(b'{');
            }
        }
    };
    for _ in 0..2000 {
        for role in ["plan.pb", "weights.safetensors", "tokenizer/vocab.json"] {
            let mut content = files[&name_of(&files, role)].to_vec();
            mutate(&mut content);
            let _either = read_all(&forged(&files, role, content));
        }
        let _either = read_all(&edited(&files, &mut mutate));
    }
}

#[test]
fn a_failed_write_names_its_file_and_leaves_no_manifest() {
    for refuses in ["plan", "tokenizer/merges", "weights", MANIFEST] {
        let memory = Memory {
            refuses: Some(refuses),
            ..Memory::default()
        };
        let message = match write(&memory, &contents()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            message.contains(refuses) && message.contains("disk full"),
            "{message}"
        );
        assert!(!memory.files().contains_key(MANIFEST));
    }
}

#[test]
fn contents_that_make_no_artifact_are_refused() {
    let check = |edit: &dyn Fn(&mut ArtifactContents), wanted: &str| {
        let mut contents = contents();
        edit(&mut contents);
        let message = match write(&Memory::default(), &contents) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(wanted), "{message}");
    };
    let tokenizer = |name: &'static str| {
        move |contents: &mut ArtifactContents| {
            let tokenizer = contents.tokenizers["tokenizer"].clone();
            contents.tokenizers.insert(name.to_owned(), tokenizer);
        }
    };
    for name in ["../x", "a/b", "", ".hidden", "é", "a\\b"] {
        check(&tokenizer(name), "file name");
    }
    check(
        &|contents| contents.programs.push(program("unet", "step")),
        "two of program",
    );
}
