//! What a compiled model holds: programs for fixed shapes, and the facts that sampling needs.
//!
//! Takes an opened artifact, gives the program whose shapes are those wanted, or says which
//! command would make it; writes the facts as metadata and reads them back.

use std::collections::BTreeMap;
use std::num::TryFromIntError;

use clap::ValueEnum;
use compiler::graph::TensorType;
use compiler::program::Program;
use compiler::value::tensor::Tensor;
use runtime::artifact::{Artifact, ArtifactProgram, PictureShape, VaeTiling};
use runtime::tiling::Tiling;
use serde_json::Value;

use crate::error::{At, Failure};
use crate::facts::{Facts, Sizes};
use crate::model::{Loaded, Part};
use crate::options::{ComponentName, Target};

/// The components for which there are programs, in order.
pub(crate) fn parts(artifact: &Artifact) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for program in artifact.programs() {
        let part = match ComponentName::from_str(&program.component, false) {
            Ok(component) => Part::Component(component),
            Err(_) => Part::Graph,
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

/// The facts as the manifest's metadata.
pub(crate) fn metadata(facts: &Facts) -> BTreeMap<String, Value> {
    let mut metadata = BTreeMap::from([
        ("latent_channels".to_owned(), facts.latent_channels.into()),
        ("latent_size".to_owned(), facts.latent_size.to_vec().into()),
        ("scaling_factor".to_owned(), facts.scaling_factor.into()),
        ("shift_factor".to_owned(), facts.shift_factor.into()),
        ("tokens".to_owned(), facts.tokens.into()),
        ("vae_scale".to_owned(), facts.vae_scale.into()),
    ]);
    if let Some(width) = facts.timestep_cond {
        metadata.insert("timestep_cond".to_owned(), width.into());
    }
    if let Some(class) = &facts.pipeline {
        metadata.insert("pipeline".to_owned(), class.clone().into());
    }
    metadata
}

/// Takes the facts that [`metadata`] wrote.
pub(crate) fn facts(artifact: &Artifact, facts: &mut Facts) -> Result<(), Failure> {
    let about = &artifact.manifest().about;
    let number = |name: &str| about.metadata.get(name).and_then(Value::as_f64);
    // Counts come back from a file: what is no small positive number is damage.
    let count = |name: &str, value: Option<&Value>| {
        value
            .and_then(Value::as_u64)
            .filter(|count| (1..=1 << 20).contains(count))
            .map(|count| count as usize)
            .ok_or_else(|| {
                let found = value.unwrap_or(&Value::Null);
                Failure::job(format!(
                    "manifest.json has {name} = {found}, wanted a count"
                ))
            })
    };
    let metadata = |name: &str| count(name, about.metadata.get(name));
    facts.scheduler.clone_from(&about.scheduler_config);
    let pipeline = about.metadata.get("pipeline").and_then(Value::as_str);
    facts.pipeline = pipeline.map(str::to_owned);
    if about.picture.is_none() {
        return Ok(());
    }
    let size = about.metadata.get("latent_size");
    facts.latent_size = [
        count("latent_size", size.and_then(|size| size.get(0)))?,
        count("latent_size", size.and_then(|size| size.get(1)))?,
    ];
    facts.latent_channels = metadata("latent_channels")?;
    facts.tokens = metadata("tokens")?;
    facts.vae_scale = metadata("vae_scale")?;
    facts.scaling_factor = number("scaling_factor").unwrap_or(facts.scaling_factor);
    facts.shift_factor = number("shift_factor").unwrap_or(facts.shift_factor);
    facts.timestep_cond = match about.metadata.contains_key("timestep_cond") {
        true => Some(metadata("timestep_cond")?),
        false => None,
    };
    Ok(())
}

/// The tiles that the decoder was compiled for.
pub(crate) fn tiling(artifact: &Artifact) -> Result<Option<Tiling>, Failure> {
    let Some(stored) = artifact.manifest().about.vae_tiling else {
        return Ok(None);
    };
    // They come back from a file: what is not small is damage.
    let extent = |extent: u64| usize::try_from(extent.min(u64::from(u32::MAX)));
    let pair = |height, width| Ok::<_, TryFromIntError>([extent(height)?, extent(width)?]);
    let tile = pair(stored.height, stored.width).at("manifest.json")?;
    let overlap = pair(stored.overlap_height, stored.overlap_width).at("manifest.json")?;
    Tiling::new(tile, overlap).map(Some).at("manifest.json")
}

/// The inputs of the program of `part` that fits `given` best: its own if shapes are equal, else
/// those of the first.
pub(crate) fn inputs(
    artifact: &Artifact,
    part: &Part,
    given: &BTreeMap<String, Tensor>,
) -> Result<Vec<(String, TensorType)>, Failure> {
    let shapes = given
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()));
    let shapes: BTreeMap<String, Vec<usize>> = shapes.collect();
    let mut candidates = programs(artifact, part);
    let fitting = programs(artifact, part).find(|program| fits(program, &shapes));
    let program = fitting
        .or_else(|| candidates.next())
        .expect("parts have programs");
    let port = |port: &runtime::artifact::Port| {
        let extents = port.shape.iter().map(|&extent| extent as usize);
        (port.name.clone(), TensorType::new(port.dtype, extents))
    };
    Ok(program.inputs.iter().map(port).collect())
}

/// The program of `part` for inputs of these shapes, with its weights; the first program if no
/// shape is given.
pub(crate) fn load(
    artifact: &Artifact,
    part: &Part,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Loaded, Failure> {
    let fitting =
        programs(artifact, part).find(|program| shapes.is_empty() || fits(program, shapes));
    let program = fitting.ok_or_else(|| {
        let there: Vec<String> = programs(artifact, part).map(describe).collect();
        let message = format!(
            "was compiled for {}, wanted {shapes:?}",
            there.join(" and ")
        );
        Failure::job(message).hint(recompile(artifact, shapes))
    })?;
    let weights = match artifact.has_weights() {
        true => artifact.weights(&program.component).at("weights")?,
        false => BTreeMap::new(),
    };
    let prefix = format!("{}/", program.component);
    let strip = |(name, tensor): (String, Tensor)| {
        let own = name.strip_prefix(&prefix).map(ToOwned::to_owned);
        (own.unwrap_or(name), tensor)
    };
    let program = Program::parse(&program.text).at("plan")?;
    Ok(Loaded {
        program,
        weights: weights.into_iter().map(strip).collect(),
        patches: Vec::new(),
    })
}

/// The target that the artifact was compiled for; refuses another one with the command that would
/// compile for it.
pub(crate) fn target(artifact: &Artifact, wanted: Option<Target>) -> Result<Target, Failure> {
    let about = &artifact.manifest().about;
    let found = backends::lookup(&about.target);
    match (found, wanted) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(wanted)) if found == wanted => Ok(found),
        (_, wanted) => {
            let wanted = wanted.unwrap_or(backends::host()).name();
            let message = format!("was compiled for {}, wanted {wanted}", about.target);
            let command = command(artifact, wanted);
            Err(Failure::job(message).hint(format!("compile it again: {command}")))
        }
    }
}

/// The command that makes this artifact for a target.
fn command(artifact: &Artifact, target: &str) -> String {
    let about = &artifact.manifest().about;
    let sizes = about.picture.as_ref().map_or(String::new(), |shape| {
        let PictureShape {
            batch,
            height,
            width,
        } = shape;
        format!(" -W {width} -H {height} -b {batch}")
    });
    let dtype = match about.dtype.as_str() {
        "f32" => String::new(),
        dtype => format!(" --dtype {dtype}"),
    };
    let tiling = tiled(artifact);
    format!("splamc compile MODEL --target {target}{sizes}{dtype}{tiling}")
}

/// Refuses a sampling run of other sizes than the artifact's, with the command that would fit.
pub(crate) fn check_picture(
    artifact: &Artifact,
    sizes: Sizes,
    scale: usize,
) -> Result<(), Failure> {
    let about = &artifact.manifest().about;
    let Some(found) = &about.picture else {
        return Ok(());
    };
    let pixels = |latents: usize| (latents * scale) as u64;
    let wanted = PictureShape {
        batch: sizes.batch as u64,
        height: pixels(sizes.height),
        width: pixels(sizes.width),
    };
    if *found == wanted {
        return Ok(());
    }
    let say = |shape: &PictureShape| format!("{} of {}x{}", shape.batch, shape.width, shape.height);
    let PictureShape {
        batch,
        height,
        width,
    } = wanted;
    let target = &about.target;
    let tiling = tiled(artifact);
    Err(Failure::job(format!(
        "was compiled for pictures {}, wanted {}",
        say(found),
        say(&wanted)
    ))
    .hint(format!(
        "compile it again: splamc compile MODEL --target {target} -W {width} -H {height} -b \
         {batch}{tiling}"
    )))
}

/// The options that cut the decoder's work in tiles as the artifact does.
fn tiled(artifact: &Artifact) -> String {
    let tiling = artifact.manifest().about.vae_tiling;
    tiling.map_or_else(String::new, |tile| {
        let VaeTiling { height, width, .. } = tile;
        format!(" --vae-tiling --vae-tile-size {width}x{height}")
    })
}

fn programs<'a>(
    artifact: &'a Artifact,
    part: &'a Part,
) -> impl Iterator<Item = &'a ArtifactProgram> {
    artifact
        .programs()
        .iter()
        .filter(|program| program.component == part.name())
}

/// Whether every input that is given has the program's shape; one number is a scalar too.
fn fits(program: &ArtifactProgram, shapes: &BTreeMap<String, Vec<usize>>) -> bool {
    program.inputs.iter().all(|port| {
        let own: Vec<usize> = port.shape.iter().map(|&extent| extent as usize).collect();
        shapes.get(&port.name).is_none_or(|shape| {
            let single = own.iter().product::<usize>() == 1 && shape.iter().product::<usize>() == 1;
            *shape == own || single
        })
    })
}

fn describe(program: &ArtifactProgram) -> String {
    let port = |port: &runtime::artifact::Port| format!("{} {:?}", port.name, port.shape);
    program
        .inputs
        .iter()
        .map(port)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The command that would make what is missing.
fn recompile(artifact: &Artifact, shapes: &BTreeMap<String, Vec<usize>>) -> String {
    let about = &artifact.manifest().about;
    let scale = about
        .metadata
        .get("vae_scale")
        .and_then(Value::as_u64)
        .unwrap_or(8);
    let latents = shapes.get("sample").or_else(|| shapes.get("latent_sample"));
    match latents.map(Vec::as_slice) {
        Some(&[_, _, height, width]) => {
            let (height, width) = (height as u64 * scale, width as u64 * scale);
            format!(
                "compile it again: splamc compile MODEL --target {} -W {width} -H {height} -b N",
                about.target
            )
        }
        Some(_) | None => format!(
            "compile it again for these shapes: splamc compile MODEL --target {}",
            about.target
        ),
    }
}
