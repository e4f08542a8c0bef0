//! Pictures through a feature network: options, the network, and the loop over a folder.
//!
//! Takes a folder of pictures and an ONNX file; hands over the features batch by batch, names
//! pictures that cannot be read, and says how features were made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use compiler::program::Executable;
use compiler::tile::Tuning;
use compiler::value::stored::ReadError;
use compiler::value::tensor::{Tensor, Values};
use runtime::artifact::hash;
use runtime::features::{FeatureNetwork, FeatureRows};
use runtime::pictures::{Filter, Fit, PictureRule, Range, Resize};
use runtime::place::Place;
use runtime::session::Session;
use runtime::training::data::{PictureSet, Skipped};
use serde_json::{Value, json};

use crate::error::{At, Failure};
use crate::model::Model;
use crate::options::{self, Execution};
use crate::{files, memory, progress};

/// The feature network, and how pictures become its input.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FeatureOptions {
    /// The network that computes features: an ONNX file with one input [N, 3, H, W], such as an
    /// export of Inception-v3 without its classifier.
    #[arg(long, value_name = "NET.onnx")]
    pub(super) features: Option<PathBuf>,
    /// The output of the network that holds the features; the first one if not given
    #[arg(long, value_name = "NAME")]
    pub(super) output: Option<String>,
    /// The size in pixels of the network's input, where the file leaves it open
    #[arg(long, value_name = "N|WxH", value_parser = options::resolution)]
    pub(super) size: Option<[usize; 2]>,
    /// How pictures are resized: clean as clean-fid does (bicubic with antialiasing, not rounded to
    /// 8 bits), torch as pytorch-fid (bilinear without antialiasing), the others by Pillow's filters
    #[arg(long, default_value = "clean")]
    pub(super) resize: ResizeName,
    /// What becomes of pictures of another aspect: they are stretched, or cropped at their centre
    #[arg(long, default_value = "stretch")]
    pub(super) fit: FitName,
    /// The numbers that the network expects: unit 0 to 1, signed -1 to 1, byte 0 to 255, imagenet
    /// and clip 0 to 1 less the means of the channels, divided by their deviations
    #[arg(long, default_value = "unit")]
    pub(super) range: RangeName,
    /// The number of pictures of a call
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = options::count)]
    pub(super) batch: usize,
    #[command(flatten)]
    pub(super) execution: Execution,
}

/// Resize rules, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ResizeName {
    /// clean-fid's: bicubic with antialiasing, not rounded to 8 bits
    Clean,
    /// pytorch-fid's: bilinear without antialiasing
    Torch,
    /// Pillow's bilinear filter
    Bilinear,
    /// Pillow's bicubic filter
    Bicubic,
    /// Pillow's Lanczos filter
    Lanczos,
}

/// Fits, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FitName {
    /// The whole picture is stretched
    Stretch,
    /// The middle is cropped
    Crop,
}

/// Ranges of numbers, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RangeName {
    /// 0 to 1
    Unit,
    /// -1 to 1
    Signed,
    /// 0 to 255
    Byte,
    /// torchvision's means and deviations
    Imagenet,
    /// CLIP's means and deviations
    Clip,
}

impl FeatureOptions {
    /// The rule that the options spell.
    fn rule(&self) -> PictureRule {
        PictureRule {
            resize: match self.resize {
                ResizeName::Clean => Resize::Clean,
                ResizeName::Torch => Resize::Torch,
                ResizeName::Bilinear => Resize::Pillow(Filter::Bilinear),
                ResizeName::Bicubic => Resize::Pillow(Filter::Bicubic),
                ResizeName::Lanczos => Resize::Pillow(Filter::Lanczos),
            },
            fit: match self.fit {
                FitName::Stretch => Fit::Stretch,
                FitName::Crop => Fit::Crop,
            },
            range: match self.range {
                RangeName::Unit => Range::Unit,
                RangeName::Signed => Range::Signed,
                RangeName::Byte => Range::Byte,
                RangeName::Imagenet => Range::ImageNet,
                RangeName::Clip => Range::Clip,
            },
        }
    }
}

/// The word of an option's value.
fn word(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A feature network that is loaded, with what the result file says of it.
pub(super) struct Extractor {
    network: FeatureNetwork,
    rule: PictureRule,
    place: String,
    /// The network: file, hash, output, input.
    pub(super) facts: Value,
    /// How pictures become its input.
    pub(super) protocol: Value,
}

/// A network that is compiled for its batch and size.
pub(super) struct Network<'a> {
    /// Its program.
    pub(super) program: &'a Executable,
    /// Its weights.
    pub(super) weights: BTreeMap<String, Tensor>,
    /// Where it is stored.
    pub(super) place: String,
    /// The hash of the file that describes it.
    pub(super) file_hash: String,
}

/// The hash of weights by name, wherever they are stored.
fn weights_hash(weights: &BTreeMap<String, Tensor>) -> Result<String, ReadError> {
    let mut parts = Vec::new();
    for (name, tensor) in weights {
        let tensor = tensor.fetched()?;
        parts.push(hash([name.as_bytes(), &tensor.bytes()[..]]));
    }
    Ok(hash(parts.iter().map(|part| part.as_bytes())))
}

/// Is handed the features of some pictures at a time, with their numbers in the set.
pub(super) type Take<'a> = dyn FnMut(&[usize], &FeatureRows) -> Result<(), Failure> + 'a;

/// What became of a folder of pictures.
pub(super) struct Seen {
    /// Pictures with features.
    pub(super) count: usize,
    /// Pictures that cannot be read.
    pub(super) skipped: Vec<Skipped>,
    /// Seconds that it took.
    pub(super) seconds: f64,
}

impl Seen {
    /// What the result file says of a folder.
    pub(super) fn facts(&self, path: &Path) -> Value {
        let skipped = self.skipped.iter();
        let skipped = skipped.map(|own| json!({"name": own.name, "reason": own.reason}));
        json!({
            "path": path.display().to_string(),
            "pictures": self.count,
            "skipped": skipped.collect::<Vec<_>>(),
            "seconds": self.seconds,
        })
    }
}

impl Extractor {
    /// Loads the network of the options.
    pub(super) fn open(options: &FeatureOptions) -> Result<Extractor, Failure> {
        let Some(path) = &options.features else {
            let failure = Failure::usage("--features is missing; expected an ONNX file");
            return Err(failure.hint(
                "export a network that returns features, such as Inception-v3 without its \
                 classifier, and pass --features NET.onnx",
            ));
        };
        if path.is_dir() {
            let message = format!("--features {}: it is a directory", path.display());
            return Err(Failure::usage(message).hint("pass one .onnx file"));
        }
        let spinner = progress::spinner("compile");
        let model = Model::open(path)?;
        let component = model.pick(None)?;
        let place = path.display().to_string();
        let inputs = model.inputs(component, &BTreeMap::new())?;
        let [(name, ty)] = &inputs[..] else {
            let found: Vec<&String> = inputs.iter().map(|(name, _)| name).collect();
            return Err(Failure::job(format!(
                "{place}: the network has the inputs {found:?}; expected one, [N, 3, H, W]"
            )));
        };
        let extents: Vec<Option<usize>> = ty.shape.iter().map(|dim| dim.extent()).collect();
        let &[batch, None | Some(3), rows, columns] = &extents[..] else {
            return Err(Failure::job(format!(
                "{place}: the input {name:?} is {ty}; expected pictures [N, 3, H, W]"
            )));
        };
        let [height, width] = size([rows, columns], options.size, &place)?;
        let shape = [batch.unwrap_or(options.batch), 3, height, width];
        let zeros = Values::zeros(ty.dtype, shape.iter().product());
        let zeros = Tensor::from_values(ty.dtype, &shape, &zeros);
        let given = BTreeMap::from([(name.clone(), zeros)]);
        let loaded = model.load(component, &given, None)?;
        let at = options.execution.place(&model, false)?;
        let file = files::read(path)?;
        let network = Network {
            program: &loaded.program,
            weights: loaded.weights,
            place,
            file_hash: hash([&file[..]]),
        };
        drop(spinner);
        Extractor::of(network, &at, options)
    }

    /// Loads a network at a place.
    pub(super) fn of(
        network: Network<'_>,
        at: &Place,
        options: &FeatureOptions,
    ) -> Result<Extractor, Failure> {
        let Network {
            program,
            weights,
            place,
            file_hash,
        } = network;
        let spinner = progress::spinner("load");
        memory::check(&place, &[program], at)?;
        let weights_hash = weights_hash(&weights).at(&place)?;
        let session = Session::open(program, weights, at, &Tuning::default()).at(&place)?;
        drop(spinner);
        let network = FeatureNetwork::new(session, options.output.clone()).at(&place)?;
        let [height, width] = network.size();
        let facts = json!({
            "file": place,
            "sha256": file_hash,
            "weights_sha256": weights_hash,
            "output": options.output,
            "batch": network.batch(),
        });
        let target = options.execution.target.unwrap_or(backends::host());
        let protocol = json!({
            "resize": word(options.resize),
            "fit": word(options.fit),
            "range": word(options.range),
            "size": [height, width],
            "target": target.name(),
        });
        Ok(Extractor {
            network,
            rule: options.rule(),
            place,
            facts,
            protocol,
        })
    }

    /// Computes the features of all pictures of a folder.
    pub(super) fn run(
        &self,
        path: &Path,
        pictures: &PictureSet,
        take: &mut Take<'_>,
    ) -> Result<Seen, Failure> {
        let started = Instant::now();
        let bar = progress::bar("features", pictures.count());
        let mut seen = Seen {
            count: 0,
            skipped: Vec::new(),
            seconds: 0.0,
        };
        let all: Vec<usize> = (0..pictures.count()).collect();
        for samples in all.chunks(self.network.batch().max(1)) {
            let decoded = self.network.numbers(pictures, samples, &self.rule);
            let (mut numbers, mut kept) = (Vec::new(), Vec::new());
            for (sample, decoded) in samples.iter().zip(decoded) {
                match decoded {
                    Ok(own) => {
                        numbers.push(own);
                        kept.push(*sample);
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        let name = pictures.name(*sample).to_owned();
                        bar.suspend(|| progress::warn(format!("{name} is skipped: {reason}")));
                        seen.skipped.push(Skipped { name, reason });
                    }
                }
            }
            if !kept.is_empty() {
                let rows = self.network.features(&numbers).at(&self.place)?;
                take(&kept, &rows)?;
                seen.count += kept.len();
            }
            bar.inc(samples.len() as u64);
        }
        bar.finish_and_clear();
        if seen.count == 0 {
            let message = format!("{}: no picture can be read", path.display());
            return Err(Failure::job(message));
        }
        seen.seconds = started.elapsed().as_secs_f64();
        Ok(seen)
    }
}

/// Rows and columns of the input: the network's own, or those asked for where it leaves them open.
fn size(
    own: [Option<usize>; 2],
    asked: Option<[usize; 2]>,
    place: &str,
) -> Result<[usize; 2], Failure> {
    match (own, asked) {
        ([Some(height), Some(width)], None) => Ok([height, width]),
        ([None, _] | [_, None], None) => {
            let message = format!("{place}: the network leaves the size of pictures open");
            let hint = "pass --size N: 299 for Inception-v3, 224 for most others";
            Err(Failure::usage(message).hint(hint))
        }
        (own, Some(asked)) => {
            let is_own = |axis: usize| own[axis].is_none_or(|own| own == asked[axis]);
            if is_own(0) && is_own(1) {
                return Ok(asked);
            }
            let [rows, columns] =
                own.map(|own| own.map_or("any".to_owned(), |own| own.to_string()));
            let message = format!(
                "{place}: --size is {}x{}; expected {columns}x{rows}, the network's own",
                asked[1], asked[0]
            );
            Err(Failure::usage(message).hint("leave --size out"))
        }
    }
}
