//! What a compiled model holds: programs for fixed shapes.
//!
//! Takes an opened artifact, returns the program of the shapes asked for, or names the command that
//! compiles it.

use std::collections::BTreeMap;
use std::num::TryFromIntError;

use compiler::graph::TensorType;
use compiler::program::pipeline::{LatentSize, Pipeline};
use compiler::value::tensor::Tensor;
use runtime::artifact::{Artifact, ArtifactError, ArtifactProgram, PictureShape, VaeTiling};
use runtime::sampling::STAGES;
use runtime::staged::Staged;
use runtime::tiling::Tiling;

use crate::error::{At, Failure};
use crate::loaded::Loaded;

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

/// The inputs of the program of a component that fits `given` best: its own if shapes are equal,
/// else those of the first.
pub(crate) fn inputs(
    artifact: &Artifact,
    component: &str,
    given: &BTreeMap<String, Tensor>,
) -> Result<Vec<(String, TensorType)>, Failure> {
    let shapes = given
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()));
    let shapes: BTreeMap<String, Vec<usize>> = shapes.collect();
    let mut candidates = programs(artifact, component);
    let fitting = programs(artifact, component).find(|program| fits(program, &shapes));
    let program = fitting
        .or_else(|| candidates.next())
        .ok_or_else(|| Failure::job(format!("{component}: there is no program")))?;
    let port = |port: &runtime::artifact::Port| {
        let extents = port.shape.iter().map(|&extent| extent as usize);
        (port.name.clone(), TensorType::new(port.dtype, extents))
    };
    Ok(program.inputs.iter().map(port).collect())
}

/// The program of a component for inputs of these shapes, with its weights; the first program if no
/// shape is given.
pub(crate) fn load(
    artifact: &Artifact,
    component: &str,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Loaded, Failure> {
    let fitting =
        programs(artifact, component).find(|program| shapes.is_empty() || fits(program, shapes));
    let program = fitting.ok_or_else(|| {
        let there: Vec<String> = programs(artifact, component).map(describe).collect();
        let message = format!(
            "it was compiled for {}, not for {shapes:?}",
            there.join(" and ")
        );
        Failure::job(message).hint(recompile(artifact, shapes))
    })?;
    let parts = match program.parts.is_empty() {
        true => None,
        false => Some(Staged::stored(program, &STAGES).at("plan")?),
    };
    Ok(Loaded {
        program: program.program().at("plan")?,
        parts,
        weights: match artifact.has_weights() {
            true => weights(artifact, &program.component).at("weights")?,
            false => BTreeMap::new(),
        },
        patches: Vec::new(),
    })
}

/// The weights of a component, by their own names.
///
/// # Errors
/// When the artifact holds no weights, or they are missing or changed.
pub(crate) fn weights(
    artifact: &Artifact,
    component: &str,
) -> Result<BTreeMap<String, Tensor>, ArtifactError> {
    let weights = artifact.weights(component)?.into_iter();
    let prefix = format!("{component}/");
    let strip = |(name, tensor): (String, Tensor)| {
        let own = name.strip_prefix(&prefix).map(ToOwned::to_owned);
        (own.unwrap_or(name), tensor)
    };
    Ok(weights.map(strip).collect())
}

/// The command that makes this artifact for a target.
pub(crate) fn command(artifact: &Artifact, target: &str) -> String {
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
pub(crate) fn check_picture(artifact: &Artifact, size: LatentSize) -> Result<(), Failure> {
    let about = &artifact.manifest().about;
    let Some(found) = &about.picture else {
        return Ok(());
    };
    let wanted = picture(&about.pipeline, size);
    if *found == wanted {
        return Ok(());
    }
    let say = |shape: &PictureShape| {
        let PictureShape {
            batch,
            height,
            width,
        } = shape;
        let ending = if *batch == 1 { "" } else { "s" };
        format!("{batch} picture{ending} of {width}x{height}")
    };
    let PictureShape {
        batch,
        height,
        width,
    } = wanted;
    let target = &about.target;
    let tiling = tiled(artifact);
    Err(Failure::job(format!(
        "it was compiled for {}, not for {}",
        say(found),
        say(&wanted)
    ))
    .hint(format!(
        "compile it again: splamc compile MODEL --target {target} -W {width} -H {height} -b \
         {batch}{tiling}"
    )))
}

/// The size of the pictures of latents.
pub(crate) fn picture(pipeline: &Pipeline, size: LatentSize) -> PictureShape {
    let pixels = |latents: usize| latents.saturating_mul(pipeline.latents.pixels) as u64;
    PictureShape {
        batch: size.batch as u64,
        height: pixels(size.height),
        width: pixels(size.width),
    }
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
    component: &'a str,
) -> impl Iterator<Item = &'a ArtifactProgram> {
    artifact
        .programs()
        .iter()
        .filter(move |program| program.component == component)
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
    let scale = about.pipeline.latents.pixels as u64;
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
