//! `splamc eval diversity`: how different the pictures of one prompt are.
//!
//! Takes a folder of pictures with captions; prints the mean distance of pairs with one caption.

use std::collections::BTreeMap;
use std::path::PathBuf;

use graphs::evaluate::{Features, mean_pairwise_distance};
use runtime::pictures::{Filter, Fit, Picture, PictureRule, Range, Resize};
use runtime::training::data::PictureSet;
use serde_json::{Map, Value, json};

use super::captions::caption;
use super::features::{Extractor, FeatureOptions};
use super::report::{Report, ReportOptions, numbered};
use crate::error::{At, Failure};
use crate::{data, progress};

/// Measure how different the pictures of one prompt are.
///
/// The mean over prompts of the mean distance of two pictures of a prompt: the root of the mean
/// squared difference of pixels from -1 to 1, or of features with --features. Captions are those of
/// .txt files, metadata, or the PNG files of `splamc sample`.
#[derive(clap::Args)]
#[command(
    after_help = "The mean over prompts of the mean distance of two pictures of a prompt: the root \
    of the mean\nsquared difference of pixels from -1 to 1, or of features with --features. Captions are \
    those of\n.txt files, metadata.jsonl, or the PNG files of `splamc sample`.\n\n\
    Examples:\n  \
    splamc eval diversity samples/ --json diversity.json\n  \
    splamc eval diversity samples/ --features inception.onnx"
)]
pub(super) struct DiversityArguments {
    /// The pictures.
    set: PathBuf,
    #[command(flatten)]
    features: FeatureOptions,
    #[command(flatten)]
    report: ReportOptions,
}

/// Measures the distances.
pub(super) fn execute(arguments: &DiversityArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let path = &arguments.set;
    let place = path.display();
    let pictures = data::pictures(path)?;
    let mut groups: BTreeMap<String, Features> = BTreeMap::new();
    let mut facts = Map::new();
    if arguments.features.features.is_some() {
        let extractor = Extractor::open(&arguments.features)?;
        let seen = extractor.run(path, &pictures, &mut |samples, rows| {
            for (sample, row) in samples.iter().zip(rows.values.chunks(rows.width.max(1))) {
                let text = of_sample(&pictures, *sample, &place.to_string())?;
                let group = groups.entry(text);
                let group = group.or_insert_with(|| Features::new(rows.width));
                group.push(row).at(&place)?;
            }
            Ok(())
        })?;
        facts.insert("set".to_owned(), seen.facts(path));
        facts.insert("network".to_owned(), extractor.facts.clone());
        facts.insert("protocol".to_owned(), extractor.protocol.clone());
    } else {
        let space = of_pixels(&pictures, arguments, &mut groups)?;
        facts.insert(
            "set".to_owned(),
            json!({"path": place.to_string(), "pictures": pictures.count()}),
        );
        facts.insert("protocol".to_owned(), space);
    }
    let (mut prompts, mut distances) = (Vec::new(), Vec::new());
    for (prompt, features) in &groups {
        // One picture has no distance.
        if features.count() > 1 {
            let distance = mean_pairwise_distance(features).at(&place)?;
            prompts.push(
                json!({"prompt": prompt, "pictures": features.count(), "distance": distance}),
            );
            distances.push(distance);
        }
    }
    if distances.is_empty() {
        let found = groups.len();
        let failure = Failure::job(format!(
            "{place}: each of the {found} captions has one picture"
        ));
        return Err(failure.hint("draw several of each prompt, with other seeds"));
    }
    if prompts.len() < groups.len() {
        let single = groups.len() - prompts.len();
        progress::warn(format!(
            "{single} captions have one picture only and are left out"
        ));
    }
    facts.insert("prompts".to_owned(), json!(prompts));
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    arguments.report.write(&Report {
        metric: "diversity",
        scores: vec![("diversity", mean)],
        facts,
        chart: numbered("mean distance of pairs", "prompt", &distances),
    })
}

fn of_sample(pictures: &PictureSet, sample: usize, place: &str) -> Result<String, Failure> {
    let text = caption(pictures, sample).at(format!("{place}: {}", pictures.name(sample)));
    text.map_err(|failure| {
        failure
            .hint("write each caption to a .txt file of the picture's name, or to metadata.jsonl")
    })
}

/// Pixels as features, at the size of the first picture or the one asked for. Returns what the
/// result file says of them.
fn of_pixels(
    pictures: &PictureSet,
    arguments: &DiversityArguments,
    groups: &mut BTreeMap<String, Features>,
) -> Result<Value, Failure> {
    let rule = PictureRule {
        resize: Resize::Pillow(Filter::Bicubic),
        fit: Fit::Stretch,
        range: Range::Signed,
    };
    let place = arguments.set.display().to_string();
    let mut size = arguments.features.size;
    let bar = progress::bar("pictures", pictures.count());
    for sample in 0..pictures.count() {
        let name = pictures.name(sample);
        let at = format!("{place}: {name}");
        let picture = Picture::decode(&pictures.file(sample).at(&at)?).at(&at)?;
        let wanted = *size.get_or_insert(picture.size());
        if arguments.features.size.is_none() && picture.size() != wanted {
            let [rows, columns] = picture.size();
            let message = format!(
                "{at}: it has {columns}x{rows} pixels, others have {}x{}",
                wanted[1], wanted[0]
            );
            return Err(Failure::job(message).hint("pass --size to compare all at one size"));
        }
        let numbers = rule.numbers(&picture, wanted).at(&at)?;
        let group = groups.entry(of_sample(pictures, sample, &place)?);
        let group = group.or_insert_with(|| Features::new(numbers.len()));
        group.push(&numbers).at(&at)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(json!({"space": "pixels from -1 to 1", "size": size}))
}
