//! `splamc eval clip`: how well pictures agree with their captions.
//!
//! Takes a folder of pictures with captions and a CLIP; prints the mean of 100 times the cosine of
//! their embeddings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compiler::DType;
use compiler::program::compile;
use compiler::tile::Tuning;
use compiler::value::dim::Bindings;
use compiler::value::tensor::{Tensor, Values};
use graphs::Imported;
use graphs::clip_model::{self, ClipModel};
use graphs::evaluate::cosine;
use graphs::source::Source;
use runtime::artifact::hash;
use runtime::session::Session;
use runtime::tokenizer::{Tokenizer, TokenizerFiles};
use serde_json::{Map, Value, json};

use super::captions::caption;
use super::features::{Extractor, FeatureOptions, FitName, Network, RangeName, ResizeName};
use super::report::{Report, ReportOptions, named, numbered};
use crate::error::{At, Failure};
use crate::files::{self, Folder};
use crate::model::Model;
use crate::options::{self, Execution};
use crate::{data, memory, progress};

/// Measure how well pictures agree with their captions (CLIP score).
///
/// The mean of 100 times the cosine of the embeddings of picture and caption; nothing is cut at 0.
/// Pictures are resized by Pillow's bicubic filter and cropped at their centre. Captions are those of
/// .txt files, metadata, or the PNG files of `splamc sample`.
#[derive(clap::Args)]
#[command(
    after_help = "MODEL is a directory with text_model.onnx (text_embeds) and vision_model.onnx\n\
    (image_embeds), in it or in its folder onnx, and the files of the tokenizer.\n\n\
    Example:\n  \
    splamc eval clip samples/ --clip clip-vit-base-patch32/ --json clip.json\n\n\
    Scores depend on the CLIP: compare only those of one model."
)]
pub(super) struct ClipArguments {
    /// The pictures.
    set: PathBuf,
    /// The directory of the CLIP.
    #[arg(long, value_name = "MODEL")]
    clip: PathBuf,
    /// Put this before each caption, such as 'A photo depicts '
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    prefix: String,
    /// The size in pixels of the vision network's input, where the file leaves it open
    #[arg(long, value_name = "N|WxH", value_parser = options::resolution)]
    size: Option<[usize; 2]>,
    /// The number of pictures of a call
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = options::count)]
    batch: usize,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    report: ReportOptions,
}

/// The networks of a CLIP.
const TEXT: &str = "text_model.onnx";
const VISION: &str = "vision_model.onnx";

/// Measures the score.
pub(super) fn execute(arguments: &ClipArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let path = &arguments.set;
    let mut scorer = Scorer::open(arguments)?;
    let Scored { seen, scores, rows } = scorer.scores(path)?;
    let mut facts = Map::from_iter([("set".to_owned(), seen)]);
    facts.extend(scorer.facts());
    facts.insert("pictures".to_owned(), json!(rows));
    arguments.report.write(&Report {
        metric: "clip",
        scores: vec![("clip", mean(&scores))],
        facts,
        chart: numbered("CLIP score", "picture", &scores),
    })
}

/// The mean of scores.
fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// How the pictures of a set agree with their captions.
struct Scored {
    seen: Value,
    scores: Vec<f64>,
    rows: Vec<Value>,
}

/// A CLIP that scores sets of pictures.
pub(super) struct Scorer {
    texts: Texts,
    vision: Extractor,
    clip: PathBuf,
    prefix: String,
}

impl Scorer {
    fn open(arguments: &ClipArguments) -> Result<Scorer, Failure> {
        let chosen = Chosen {
            clip: &arguments.clip,
            size: arguments.size,
            batch: arguments.batch,
            execution: &arguments.execution,
        };
        Ok(Scorer {
            prefix: arguments.prefix.clone(),
            ..chosen.scorer()?
        })
    }

    /// Mean agreement of the pictures in a folder with their captions.
    pub(super) fn score(&mut self, set: &Path) -> Result<f64, Failure> {
        Ok(mean(&self.scores(set)?.scores))
    }

    fn scores(&mut self, set: &Path) -> Result<Scored, Failure> {
        let Scorer {
            texts,
            vision,
            clip,
            prefix,
        } = self;
        let pictures = data::pictures(set)?;
        let (mut scores, mut rows) = (Vec::new(), Vec::new());
        let seen = vision.run(set, &pictures, &mut |samples, features| {
            let width = features.width.max(1);
            for (sample, embedding) in samples.iter().zip(features.values.chunks(width)) {
                let name = pictures.name(*sample);
                let text = caption(&pictures, *sample).at(format!("{}: {name}", set.display()));
                let text = text.map_err(|failure| {
                    failure.hint("write the caption to a .txt file of the picture's name")
                })?;
                let text = format!("{prefix}{text}");
                let wanted = texts.embedding(&text)?;
                let score = 100.0 * cosine(embedding, &wanted).at(clip.display())?;
                rows.push(json!({"picture": name, "caption": text, "score": score}));
                scores.push(score);
            }
            Ok(())
        })?;
        Ok(Scored {
            seen: seen.facts(set),
            scores,
            rows,
        })
    }

    /// How scores are made.
    pub(super) fn facts(&self) -> Map<String, Value> {
        named([
            ("model", json!(self.clip.display().to_string())),
            ("network", self.vision.facts.clone()),
            ("protocol", self.vision.protocol.clone()),
            ("prefix", json!(self.prefix)),
        ])
    }
}

/// Which CLIP scores, and how it is run.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub(super) clip: &'a Path,
    pub(super) size: Option<[usize; 2]>,
    pub(super) batch: usize,
    pub(super) execution: &'a Execution,
}

impl Chosen<'_> {
    /// The CLIP, ready to score.
    pub(super) fn scorer(self) -> Result<Scorer, Failure> {
        let mut options = FeatureOptions {
            features: None,
            output: Some("image_embeds".to_owned()),
            size: self.size,
            resize: ResizeName::Bicubic,
            fit: FitName::Crop,
            range: RangeName::Clip,
            batch: self.batch,
            execution: self.execution.clone(),
        };
        let tokenizer = tokenizer(self.clip)?;
        let (texts, vision) = match graphs_of(self.clip) {
            Some(folder) => {
                options.features = Some(folder.join(VISION));
                let texts = Texts::of_graph(&folder.join(TEXT), tokenizer, self.execution)?;
                (texts, Extractor::open(&options)?)
            }
            None => of_transformers(self, tokenizer, &options)?,
        };
        Ok(Scorer {
            texts,
            vision,
            clip: self.clip.to_owned(),
            prefix: String::new(),
        })
    }
}

/// The folder that holds both networks as ONNX files, if there is one.
fn graphs_of(clip: &Path) -> Option<PathBuf> {
    let folders = [clip.to_owned(), clip.join("onnx")];
    let has_both = |folder: &PathBuf| {
        [TEXT, VISION]
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    folders.into_iter().find(has_both)
}

fn tokenizer(clip: &Path) -> Result<Tokenizer, Failure> {
    if !clip.is_dir() {
        let message = format!("--clip {}: it is not a directory", clip.display());
        return Err(Failure::usage(message).hint("pass the directory of a CLIP"));
    }
    let folder = Folder::new(clip);
    let files = TokenizerFiles::from_names(|name| Source::read(&folder, name).ok());
    Tokenizer::from_files(&files).at(clip.display())
}

/// Both halves of a CLIP in transformers' layout.
fn of_transformers(
    chosen: Chosen<'_>,
    tokenizer: Tokenizer,
    options: &FeatureOptions,
) -> Result<(Texts, Extractor), Failure> {
    let place = chosen.clip.display().to_string();
    let folder = Folder::new(chosen.clip);
    let spinner = progress::spinner("compile");
    let ClipModel { text, vision, .. } =
        clip_model::open(&folder).at(&place).map_err(|failure| {
            failure.hint(format!(
                "pass a directory with {TEXT} and {VISION}, or a CLIPModel of transformers"
            ))
        })?;
    let at = chosen.execution.own_place()?;
    let compiled = |imported: &Imported, sizes: &[(&str, usize)]| {
        let sizes = sizes.iter().map(|(name, size)| ((*name).to_owned(), *size));
        let sizes: Bindings = sizes.collect();
        Ok::<_, Failure>(compile(&imported.func, &sizes).at(&place)?.program)
    };
    let tokens = tokenizer.max_length();
    let of_text = compiled(&text, &[("batch", 1), ("tokens", tokens)])?;
    let of_pictures = compiled(&vision, &[("batch", chosen.batch)])?;
    drop(spinner);
    memory::check(&place, &[&of_text], &at)?;
    let session = Session::open(&of_text, text.weights, &at, &Tuning::default()).at(&place)?;
    let config = files::read(&chosen.clip.join("config.json"))?;
    let network = Network {
        program: &of_pictures,
        weights: vision.weights,
        place: place.clone(),
        file_hash: hash([&config[..]]),
    };
    let extractor = Extractor::of(network, &at, options)?;
    Ok((Texts::new(session, tokenizer, place), extractor))
}

/// The text network and its tokenizer, with what it computed.
struct Texts {
    session: Session,
    tokenizer: Tokenizer,
    place: String,
    known: BTreeMap<String, Vec<f32>>,
}

impl Texts {
    fn new(session: Session, tokenizer: Tokenizer, place: String) -> Texts {
        Texts {
            session,
            tokenizer,
            place,
            known: BTreeMap::new(),
        }
    }

    /// The text network in an ONNX file.
    fn of_graph(
        path: &Path,
        tokenizer: Tokenizer,
        execution: &Execution,
    ) -> Result<Texts, Failure> {
        let place = path.display().to_string();
        let spinner = progress::spinner("compile");
        let model = Model::open(path)?;
        let component = model.pick(None)?;
        let tokens = tokenizer.max_length();
        let declared = model.inputs(component, &BTreeMap::new())?;
        let ids = declared.iter().map(|(name, ty)| {
            let zeros = Values::zeros(ty.dtype, tokens);
            (
                name.clone(),
                Tensor::from_values(ty.dtype, &[1, tokens], &zeros),
            )
        });
        let loaded = model.load(component, &ids.collect(), None)?;
        let at = execution.place(&model, false)?;
        memory::check(&place, &[&loaded.program], &at)?;
        let session = Session::open(&loaded.program, loaded.weights, &at, model.tuning());
        drop(spinner);
        Ok(Texts::new(session.at(&place)?, tokenizer, place))
    }

    /// The embedding of a text, which is cut where it is too long.
    fn embedding(&mut self, text: &str) -> Result<Vec<f32>, Failure> {
        if let Some(known) = self.known.get(text) {
            return Ok(known.clone());
        }
        let ids = self.tokenizer.encode(text).at("tokenizer")?.ids;
        let shape = [1, ids.len()];
        let ids = Tensor::from_i64(&shape, &ids);
        let mut inputs = BTreeMap::new();
        for (name, ty) in self.session.inputs() {
            let value = match name.as_str() {
                "input_ids" => ids.cast(ty.dtype),
                // What follows the end of a text does not reach it: tokens see those before them.
                "attention_mask" => Tensor::from_i64(&shape, &vec![1; shape[1]]).cast(ty.dtype),
                _ => {
                    let message = format!(
                        "{}: found the input {name:?}; expected input_ids and attention_mask",
                        self.place
                    );
                    return Err(Failure::job(message));
                }
            };
            inputs.insert(name.clone(), value);
        }
        let results = self.session.run(&inputs).at(&self.place)?;
        let found = results.iter().find(|(name, _)| name == "text_embeds");
        let Some((_, embedding)) = found else {
            let found: Vec<&String> = results.iter().map(|(name, _)| name).collect();
            let message = format!(
                "{}: found the outputs {found:?}; expected text_embeds",
                self.place
            );
            return Err(Failure::job(message));
        };
        let Values::Float(values) = embedding.cast(DType::F32).values() else {
            return Err(Failure::job(format!(
                "{}: text_embeds are not floats",
                self.place
            )));
        };
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        self.known.insert(text.to_owned(), values.clone());
        Ok(values)
    }
}
