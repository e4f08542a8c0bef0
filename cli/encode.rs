//! `splamc encode`: pictures and captions to latents and embeddings.
//!
//! Takes a model and a data set; writes a folder that `train` reads in its place. Work that was
//! ended goes on where it was: each shard is written beside and renamed, its list last.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use runtime::training::data::{
    DataSet, Encoder, Encoding, INDEX, Skipped, UNCONDITIONAL, shard_files,
};

use crate::data::{self, PictureOptions};
use crate::error::{At, Failure, said};
use crate::model::Model;
use crate::options::{self, Execution};
use crate::{outputs, progress};

/// Encode pictures and captions to latents and text embeddings.
///
/// Training on encoded data needs neither the autoencoder nor the text encoders, and reads each
/// picture once. Latents are stored as mean and log-variance, so that training still draws them.
/// A run that was ended goes on where it was when it is started again.
#[derive(clap::Args)]
#[command(after_help = "PATH is one of:\n  \
    pictures/                  .jpg, .png and .webp files, each with a .txt of its name or a row\n\
    \x20                            in metadata.jsonl or metadata.csv (file_name, text)\n  \
    'shards/{000..127}.tar'    webdataset shards: NAME.jpg with NAME.txt or NAME.json\n\n\
    Examples:\n  \
    splamc encode sd15/ --data pictures/ --out encoded/ --resolution 512\n  \
    splamc encode sdxl/ --data 'laion/{00000..00099}.tar' --out encoded/ --aspect-buckets\n  \
    splamc train sd15/ --method lcm --data encoded/ --out lcm/")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, or a compiled .splam.
    model: PathBuf,
    /// The pictures and captions.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The directory to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    pictures: PictureOptions,
    /// The seed of random crops.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The number of samples in each shard.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = options::count)]
    shard_samples: usize,
    #[command(flatten)]
    execution: Execution,
}

/// Encodes what is not encoded yet.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let out = &arguments.out;
    let model = Model::open(&arguments.model)?;
    options::target(&model, arguments.execution.target)?;
    let pipeline = model.pipeline();
    let sizes = arguments.pictures.sizes(&pipeline.latents)?;
    let DataSet::Pictures(pictures) = data::open(&arguments.data)? else {
        let place = arguments.data.display();
        return Err(
            Failure::job(format!("{place}: the data are encoded already"))
                .hint("pass the pictures, or train on it as it is"),
        );
    };
    let mut encoding = Encoding::new(
        &pictures,
        (&model.place(), pipeline),
        (&sizes, arguments.pictures.crop()),
        arguments.seed,
        arguments.shard_samples,
    )
    .at(arguments.data.display())?;
    begin(out, &arguments.data, &encoding)?;
    let bar = progress::bar("encode", pictures.count());
    let mut missing = Vec::new();
    for shard in 0..encoding.index().shards() {
        match written(out, shard)? {
            Some(list) => {
                encoding.resume(shard, &list).at(out.display())?;
                bar.inc(encoding.shard_samples(shard) as u64);
            }
            None => missing.push(shard),
        }
    }
    if missing.is_empty() && out.join(UNCONDITIONAL).is_file() {
        bar.finish_and_clear();
        progress::say(format!("{} is complete", out.display()));
        return Ok(());
    }
    // Progress so far is not of this run.
    bar.reset_eta();
    let place = arguments.execution.place(&model, false)?;
    let used = bar.suspend(|| data::buckets(&pictures, &sizes));
    let used: Vec<[usize; 2]> = used.iter().map(|bucket| bucket.size).collect();
    let encoder = bar.suspend(|| data::encoders(&model, &place, &used))?;
    let encoder = encoder().at(model.place())?;
    let tensors = encoding.unconditional(&encoder).at(model.place())?;
    outputs::write(&out.join(UNCONDITIONAL), &tensors)?;
    for shard in missing {
        write(out, shard, (&mut encoding, &encoder), &bar)?;
    }
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    progress::say(format!("done in {seconds:.1} s: {}", out.display()));
    Ok(())
}

/// Writes what the folder says of itself, or refuses one that holds something else.
fn begin(out: &Path, data: &Path, encoding: &Encoding<'_>) -> Result<(), Failure> {
    let place = out.display();
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    if canonical(out).is_some_and(|out| Some(out) == canonical(data)) {
        let message = format!("--data and --out both name {place}");
        return Err(Failure::usage(message).hint("choose another directory for --out"));
    }
    fs::create_dir_all(out).map_err(said).at(&place)?;
    let index = serde_json::to_vec_pretty(encoding.index()).at(&place)?;
    let path = out.join(INDEX);
    match fs::read(&path) {
        Ok(found) if found == index => Ok(()),
        Ok(_) => {
            let message = format!(
                "{place}: it was begun with another model, other pictures or other options than \
                 these; {INDEX} has them"
            );
            Err(Failure::job(message).hint("choose another --out, or remove the directory"))
        }
        Err(_) => outputs::write(&path, &[index.into()]),
    }
}

/// The list of a shard that is there.
fn written(out: &Path, shard: usize) -> Result<Option<Vec<u8>>, Failure> {
    let [tensors, list] = shard_files(shard).map(|name| out.join(name));
    match tensors.is_file() && list.is_file() {
        true => fs::read(&list).map_err(said).at(list.display()).map(Some),
        false => Ok(None),
    }
}

/// Encodes and writes a shard.
fn write(
    out: &Path,
    shard: usize,
    (encoding, encoder): (&mut Encoding<'_>, &Encoder),
    bar: &indicatif::ProgressBar,
) -> Result<(), Failure> {
    let encoded = encoding.shard(encoder, shard, &mut || bar.inc(1));
    let encoded = encoded.at(out.display())?;
    for Skipped { name, reason } in &encoded.skipped {
        bar.suspend(|| progress::warn(format!("{name} is skipped: {reason}")));
    }
    let [tensors, list] = shard_files(shard).map(|name| out.join(name));
    outputs::write(&tensors, &encoded.tensors)?;
    outputs::write(&list, &[Bytes::clone(&encoded.list)])
}
