//! `splamc eval fid` and `kid`: how far two sets of pictures are apart in the features of a network.
//!
//! Takes folders, or statistics that were stored; prints the distance.

use std::path::{Path, PathBuf};

use graphs::evaluate::{Features, Gaussian, Moments, frechet_distance, kernel_distance};
use runtime::noise::Choices;
use serde_json::{Map, Value, json};

use super::features::{Extractor, FeatureOptions};
use super::npz::{self, Array};
use super::report::{Report, ReportOptions, numbered};
use crate::error::{At, Failure};
use crate::{data, files, options, outputs, progress};

/// Measure the Fréchet distance of two sets of pictures (FID with Inception features).
///
/// Features are computed by any ONNX network. A set is a folder, webdataset shards, or statistics of
/// pytorch-fid: a .npz file with mu and sigma.
#[derive(clap::Args)]
#[command(after_help = "SET and REFERENCE are each one of:\n  \
    pictures/                .jpg, .png and .webp files\n  \
    'shards/{000..127}.tar'  webdataset shards\n  \
    stats.npz                statistics of pytorch-fid: mu and sigma\n\n\
    Examples:\n  \
    splamc eval fid coco/ --features inception.onnx --stats-out coco.npz\n  \
    splamc eval fid samples/ coco.npz --features inception.onnx --json fid.json\n  \
    splamc eval fid one/ other/ --features net.onnx --range imagenet --size 224\n\n\
    A distance depends on the network, the resize rule and the number of pictures: compare only\n\
    those whose --json file states the same protocol.")]
pub(super) struct FidArguments {
    /// The pictures to measure.
    set: PathBuf,
    /// The pictures or statistics to measure them against; may be left out with --stats-out.
    reference: Option<PathBuf>,
    /// Write the statistics of the first set to a .npz file that pytorch-fid reads
    #[arg(long, value_name = "FILE.npz")]
    stats_out: Option<PathBuf>,
    #[command(flatten)]
    features: FeatureOptions,
    #[command(flatten)]
    report: ReportOptions,
}

/// Measure the kernel distance of two sets of pictures (KID with Inception features).
///
/// The mean over random subsets of the unbiased squared maximum mean discrepancy with the kernel
/// (x·y/d + 1)³, as torch-fidelity computes it, with the same subsets.
#[derive(clap::Args)]
#[command(
    after_help = "The mean over random subsets of the unbiased squared maximum mean discrepancy, \
    with the\n\
    kernel (x·y/d + 1)³ of d features, as torch-fidelity computes it with the same subsets.\n\n\
    Example:\n  \
    splamc eval kid samples/ coco/ --features inception.onnx --subset-size 1000"
)]
pub(super) struct KidArguments {
    /// The pictures to measure.
    set: PathBuf,
    /// The pictures to measure them against.
    reference: PathBuf,
    /// The number of subsets
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::count)]
    subsets: usize,
    /// Pictures of a subset; those of the smaller set if it has fewer
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = options::count)]
    subset_size: usize,
    /// The seed of the subsets
    #[arg(long, default_value_t = 2020)]
    seed: u32,
    #[command(flatten)]
    features: FeatureOptions,
    #[command(flatten)]
    report: ReportOptions,
}

/// What a set's statistics are, and how they were made.
struct Measured {
    gaussian: Gaussian,
    facts: Value,
}

impl Measured {
    fn stored(path: &Path, gaussian: Gaussian) -> Measured {
        Measured {
            gaussian,
            facts: json!({"path": path.display().to_string(), "form": "statistics"}),
        }
    }
}

/// What many sets are measured against.
pub(super) struct Reference {
    place: PathBuf,
    gaussian: Gaussian,
    facts: Value,
    extractor: Extractor,
}

impl Reference {
    /// Pictures or statistics, in the features of a network.
    pub(super) fn open(path: &Path, options: &FeatureOptions) -> Result<Reference, Failure> {
        // What is read at once is checked before a network is compiled.
        let stored = is_npz(path).then(|| read_statistics(path)).transpose()?;
        let extractor = Extractor::open(options)?;
        let Measured { gaussian, facts } = match stored {
            Some(gaussian) => Measured::stored(path, gaussian),
            None => seen(path, &extractor)?,
        };
        Ok(Reference {
            place: path.to_owned(),
            gaussian,
            facts,
            extractor,
        })
    }

    /// The Fréchet distance of a folder of pictures.
    pub(super) fn distance(&self, set: &Path) -> Result<f64, Failure> {
        let own = seen(set, &self.extractor)?;
        let places = format!("{} and {}", set.display(), self.place.display());
        frechet_distance(&own.gaussian, &self.gaussian).at(places)
    }

    /// How distances are made.
    pub(super) fn facts(&self) -> Map<String, Value> {
        let mut facts = Map::new();
        facts.insert("reference".to_owned(), self.facts.clone());
        about_network(&mut facts, Some(&self.extractor));
        facts
    }
}

/// Whether a set is a file of statistics.
fn is_npz(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|own| own.eq_ignore_ascii_case("npz"))
}

/// Opens the feature network when the first folder needs it.
#[derive(Default)]
struct Lazy(Option<Extractor>);

impl Lazy {
    fn open(&mut self, options: &FeatureOptions) -> Result<&Extractor, Failure> {
        match &mut self.0 {
            Some(extractor) => Ok(extractor),
            none => Ok(none.insert(Extractor::open(options)?)),
        }
    }
}

/// Measures a Fréchet distance.
pub(super) fn fid(arguments: &FidArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    if let Some(path) = &arguments.stats_out {
        outputs::check(path)?;
    }
    if arguments.reference.is_none() && arguments.stats_out.is_none() {
        let failure = Failure::usage("there is nothing to measure the pictures against");
        return Err(failure.hint(
            "pass a second folder or a .npz file, or --stats-out to store the statistics only",
        ));
    }
    // What is read at once is checked before hours of work.
    let stored = arguments.reference.as_deref().filter(|path| is_npz(path));
    let stored = stored.map(read_statistics).transpose()?;
    let mut extractor = Lazy::default();
    let own = measured(&arguments.set, &arguments.features, &mut extractor)?;
    if let Some(path) = &arguments.stats_out {
        write_statistics(path, &own.gaussian)?;
    }
    let Some(reference) = &arguments.reference else {
        return Ok(());
    };
    let other = match stored {
        Some(gaussian) => Measured::stored(reference, gaussian),
        None => measured(reference, &arguments.features, &mut extractor)?,
    };
    let spinner = progress::spinner("distance");
    let places = format!("{} and {}", arguments.set.display(), reference.display());
    let distance = frechet_distance(&own.gaussian, &other.gaussian).at(places)?;
    drop(spinner);
    let mut facts = Map::new();
    facts.insert("sets".to_owned(), json!([own.facts, other.facts]));
    facts.insert("feature_count".to_owned(), json!(own.gaussian.mean().len()));
    facts.insert("covariance_divisor".to_owned(), json!("count - 1"));
    about_network(&mut facts, extractor.0.as_ref());
    arguments.report.write(&Report {
        metric: "fid",
        scores: vec![("fid", distance)],
        facts,
        chart: numbered("Fréchet distance", "", &[distance]),
    })
}

fn about_network(facts: &mut Map<String, Value>, extractor: Option<&Extractor>) {
    if let Some(extractor) = extractor {
        facts.insert("network".to_owned(), extractor.facts.clone());
        facts.insert("protocol".to_owned(), extractor.protocol.clone());
    }
}

/// The statistics of a folder, or those that are stored in a file.
fn measured(
    path: &Path,
    options: &FeatureOptions,
    extractor: &mut Lazy,
) -> Result<Measured, Failure> {
    if is_npz(path) {
        return Ok(Measured::stored(path, read_statistics(path)?));
    }
    seen(path, extractor.open(options)?)
}

/// The statistics of a folder.
fn seen(path: &Path, extractor: &Extractor) -> Result<Measured, Failure> {
    let pictures = data::pictures(path)?;
    let mut moments: Option<Moments> = None;
    let seen = extractor.run(path, &pictures, &mut |_, rows| {
        let moments = moments.get_or_insert_with(|| Moments::new(rows.width));
        moments.push(&rows.values).at(path.display())
    })?;
    let moments = moments.unwrap_or_else(|| Moments::new(1));
    let count = moments.count();
    let gaussian = moments.gaussian().at(path.display())?;
    let width = gaussian.mean().len();
    if count <= width {
        progress::warn(format!(
            "{}: {count} pictures for {width} features: the covariance is singular, and the \
             distance biased upwards",
            path.display(),
        ));
    }
    Ok(Measured {
        gaussian,
        facts: seen.facts(path),
    })
}

fn read_statistics(path: &Path) -> Result<Gaussian, Failure> {
    let place = path.display();
    let arrays = npz::read(&files::read(path)?).at(&place)?;
    let array = |name: &str| {
        let found: Vec<&String> = arrays.keys().collect();
        let missing = || {
            let message = format!("{place}: found the arrays {found:?}; expected mu and sigma");
            Failure::job(message).hint("statistics are those of pytorch-fid --save-stats")
        };
        arrays.get(name).ok_or_else(missing)
    };
    let (mean, covariance) = (array("mu")?, array("sigma")?);
    let width = mean.values.len();
    if covariance.shape != [width, width] {
        return Err(Failure::job(format!(
            "{place}: sigma has shape {:?}; expected [{width}, {width}] as mu has {width} numbers",
            covariance.shape
        )));
    }
    Gaussian::new(mean.values.clone(), &covariance.values).at(place)
}

fn write_statistics(path: &Path, gaussian: &Gaussian) -> Result<(), Failure> {
    let width = gaussian.mean().len();
    let mean = Array {
        shape: vec![width],
        values: gaussian.mean().to_vec(),
    };
    let covariance = Array {
        shape: vec![width, width],
        values: gaussian.covariance().to_vec(),
    };
    let file = npz::write(&[("mu", mean), ("sigma", covariance)]).at(path.display())?;
    outputs::write(path, &[file.into()])?;
    progress::say(format!("wrote {}", path.display()));
    Ok(())
}

/// Measures a kernel distance.
pub(super) fn kid(arguments: &KidArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let extractor = Extractor::open(&arguments.features)?;
    let (mut sets, mut facts_of_sets) = (Vec::new(), Vec::new());
    for path in [&arguments.set, &arguments.reference] {
        let pictures = data::pictures(path)?;
        let mut features: Option<Features> = None;
        let seen = extractor.run(path, &pictures, &mut |_, rows| {
            let features = features.get_or_insert_with(|| Features::new(rows.width));
            features.push(&rows.values).at(path.display())
        })?;
        facts_of_sets.push(seen.facts(path));
        sets.push(features.unwrap_or_else(|| Features::new(1)));
    }
    let [own, other] = &sets[..] else {
        unreachable!("there are two sets");
    };
    let size = arguments.subset_size.min(own.count()).min(other.count());
    if size < arguments.subset_size {
        progress::warn(format!(
            "subsets have {size} pictures instead of {}: as many as the smaller set",
            arguments.subset_size
        ));
    }
    let mut choices = Choices::new(arguments.seed);
    let mut subset = |features: &Features| {
        // Sets of pictures have numbers of 32 bits.
        choices.without_replacement(features.count() as u32, size)
    };
    let subsets = (0..arguments.subsets).map(|_| [subset(own), subset(other)]);
    let subsets: Vec<_> = subsets.collect();
    let bar = progress::bar("distance", subsets.len());
    let distance = kernel_distance(own, other, &subsets, &mut || bar.inc(1));
    let distance = distance.at(arguments.set.display())?;
    bar.finish_and_clear();
    let mut facts = Map::new();
    facts.insert("sets".to_owned(), json!(facts_of_sets));
    facts.insert("feature_count".to_owned(), json!(own.width()));
    let kernel = json!({
        "form": "(x·y/d + 1)^3",
        "estimate": "unbiased",
        "subsets": arguments.subsets,
        "subset_size": size,
        "seed": arguments.seed,
    });
    facts.insert("kernel".to_owned(), kernel);
    about_network(&mut facts, Some(&extractor));
    arguments.report.write(&Report {
        metric: "kid",
        scores: vec![
            ("kid", distance.mean),
            ("kid_deviation", distance.deviation),
        ],
        facts,
        chart: numbered("kernel distance of subsets", "subset", &distance.values),
    })
}
