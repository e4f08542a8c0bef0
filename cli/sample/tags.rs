//! Prompts with tags that name LoRA files, and the folder in which those are found.
//!
//! Takes the texts of `-p` and `-n`, returns them without tags, and the file and the strength that
//! each tag means. The text in a picture keeps the tags.

use std::path::{Path, PathBuf};

use graphs::source::Source;
use runtime::pipeline::{LoraTag, split_lora_tags};

use crate::error::{At, Failure};
use crate::files::Folder;
use crate::progress;

use super::arguments::Arguments;

/// Names that a message suggests.
const SUGGESTIONS_MAX: usize = 3;

/// The texts of a run as they are encoded, and the LoRA files that they ask for.
pub(super) struct Texts {
    pub(super) prompts: Vec<String>,
    pub(super) negatives: Vec<String>,
    /// Each file with its strength.
    pub(super) loras: Vec<(PathBuf, f64)>,
}

impl Texts {
    /// The texts of the command line.
    pub(super) fn new(arguments: &Arguments) -> Result<Texts, Failure> {
        let Some(folder) = &arguments.lora_dir else {
            let mut texts = arguments.prompt.iter().chain(&arguments.negative);
            if texts.any(|text| text.contains("<lora:")) {
                progress::warn(
                    "the prompt has a <lora:…> tag, which is read as text without --lora-dir",
                );
            }
            return Ok(Texts {
                prompts: arguments.prompt.clone(),
                negatives: arguments.negative.clone(),
                loras: Vec::new(),
            });
        };
        let (prompts, tags) = split(&arguments.prompt)?;
        let (negatives, ignored) = split(&arguments.negative)?;
        if ignored.iter().any(|tags| !tags.is_empty()) {
            progress::warn("<lora:…> tags in the negative prompt have no effect: move them to -p");
        }
        let first = tags.first().cloned().unwrap_or_default();
        if tags.iter().any(|tags| *tags != first) {
            let message = "the prompts ask for different <lora:…> tags; expected the same in all";
            return Err(Failure::usage(message)
                .hint("pictures of one run share weights: run the command once for each"));
        }
        Ok(Texts {
            prompts,
            negatives,
            loras: files(folder, &first)?,
        })
    }
}

/// The texts without their tags, and the tags of each.
fn split(texts: &[String]) -> Result<(Vec<String>, Vec<Vec<LoraTag>>), Failure> {
    let split = |text: &String| split_lora_tags(text).map_err(Failure::usage);
    let split: Vec<_> = texts.iter().map(split).collect::<Result<_, Failure>>()?;
    Ok(split.into_iter().unzip())
}

/// The files of a folder that tags name, by their names or by their paths without the ending.
fn files(folder: &Path, tags: &[LoraTag]) -> Result<Vec<(PathBuf, f64)>, Failure> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    let place = folder.display();
    let listed = Source::list(&Folder::new(folder)).at(&place)?;
    let known: Vec<&str> = listed
        .iter()
        .filter_map(|path| path.strip_suffix(".safetensors"))
        .collect();
    let file = |tag: &LoraTag| {
        let exact = known.iter().filter(|path| **path == tag.name);
        let named = known.iter().filter(|path| stem(path) == tag.name);
        let found: Vec<&&str> = match exact.clone().next() {
            Some(_) => exact.collect(),
            None => named.collect(),
        };
        match found[..] {
            [path] => Ok((folder.join(format!("{path}.safetensors")), tag.scale)),
            [] => {
                let message = format!("{place}: there is no LoRA file named {:?}", tag.name);
                Err(Failure::job(message).hint(nearest(&tag.name, &known)))
            }
            [first, second, ..] => {
                let message = format!(
                    "{place}: {:?} names several LoRA files: {first}, {second}",
                    tag.name
                );
                Err(Failure::job(message).hint("write the path of the one that you mean"))
            }
        }
    };
    tags.iter().map(file).collect()
}

fn stem(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Which of the known names may be meant.
fn nearest(name: &str, known: &[&str]) -> String {
    let mut names: Vec<&str> = known.iter().map(|path| stem(path)).collect();
    names.sort_by_key(|known| (distance(name, known), *known));
    names.dedup();
    names.truncate(SUGGESTIONS_MAX);
    match names.is_empty() {
        true => "the folder holds no file that ends in .safetensors".to_owned(),
        false => format!("the nearest names are {}", names.join(", ")),
    }
}

/// How many characters must be added, removed or replaced to make one name of another, whatever
/// their case (Wagner and Fischer 1974).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (number, letter) in from.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], number + 1);
        for place in 0..to.len() {
            let replaced = diagonal + usize::from(letter != to[place]);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("Ink", "ink"), 0);
        let known = ["styles/oil", "ink-v2", "unrelated-name", "ink"];
        assert_eq!(
            nearest("inc", &known),
            "the nearest names are ink, oil, ink-v2"
        );
    }
}
