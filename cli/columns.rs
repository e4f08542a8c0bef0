//! What is compared: models with samplers, guidance scales and numbers of steps.
//!
//! Takes the words of the command line, gives columns in their order with the flags of
//! `splamc sample` for each.

use std::path::{Path, PathBuf};

use crate::options::{self, Execution};

/// A model that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) model: PathBuf,
    pub(crate) sampler: Option<String>,
    /// Its own numbers of steps.
    pub(crate) steps: Vec<usize>,
    /// Its own guidance scale.
    pub(crate) scale: Option<f64>,
}

/// Reads a model with its sampler, numbers of steps and guidance scale. What is in the name of a file
/// is not taken off it.
pub(crate) fn drawn(word: &str) -> Result<Drawn, String> {
    let ends = |text: &str, sign| {
        let (before, after) = text
            .rsplit_once(sign)
            .filter(|_| !Path::new(text).exists())?;
        Some((before.to_owned(), after.to_owned()))
    };
    let (mut model, mut sampler, mut steps, mut scale) = (word.to_owned(), None, Vec::new(), None);
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    if let Some((before, number)) = ends(&model, '=').filter(|(_, number)| is_number(number)) {
        scale = Some(options::finite(&number)?);
        model = before;
    }
    let is_list = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == ',');
    if let Some((before, numbers)) = ends(&model, ':').filter(|(_, numbers)| is_list(numbers)) {
        let numbers = numbers.split(',').map(options::count).collect();
        steps = Result::map_err(numbers, |error| {
            format!("numbers of steps follow the colon: {error}")
        })?;
        model = before;
    }
    if let Some((before, name)) = ends(&model, '@') {
        (model, sampler) = (before, Some(name));
    }
    Ok(Drawn {
        model: model.into(),
        sampler,
        steps,
        scale,
    })
}

/// A model with what it is sampled by.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) model: PathBuf,
    pub(crate) sampler: Option<String>,
    pub(crate) steps: usize,
    /// The guidance scale; the model's own if not given.
    pub(crate) scale: Option<f64>,
}

impl Column {
    /// The model and its sampler, in words.
    pub(crate) fn name(&self) -> String {
        let path = &self.model;
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .display()
            .to_string();
        // The last folder of a training says little.
        let name = match (name.as_str(), path.parent().and_then(Path::file_name)) {
            ("ema" | "student", Some(parent)) => format!("{}/{name}", parent.display()),
            (_, _) => name,
        };
        match &self.sampler {
            Some(sampler) => format!("{name} {sampler}"),
            None => name,
        }
    }

    /// Steps and scale, in words.
    pub(crate) fn settings(&self) -> String {
        let steps = match self.steps {
            1 => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        };
        match self.scale {
            Some(scale) => format!("{steps}, scale {scale}"),
            None => steps,
        }
    }

    /// The flags of `splamc sample`.
    pub(crate) fn flags(&self, execution: &Execution) -> Vec<String> {
        let mut flags = vec!["--steps".to_owned(), self.steps.to_string()];
        if let Some(sampler) = &self.sampler {
            flags.extend(["--sampler".to_owned(), sampler.clone()]);
        }
        if let Some(scale) = self.scale {
            flags.extend(["--cfg-scale".to_owned(), scale.to_string()]);
        }
        flags.extend(execution.words());
        flags
    }
}

/// The columns from left to right: models, then scales, then steps.
pub(crate) fn columns(models: &[Drawn], scales: &[f64], steps: &[usize]) -> Vec<Column> {
    let scales: Vec<Option<f64>> = match scales {
        [] => vec![None],
        scales => scales.iter().copied().map(Some).collect(),
    };
    let mut columns = Vec::new();
    for drawn in models {
        let steps = match &drawn.steps[..] {
            [] => steps,
            own => own,
        };
        let own = drawn.scale.map(|scale| vec![Some(scale)]);
        for scale in own.as_ref().unwrap_or(&scales) {
            columns.extend(steps.iter().map(|steps| Column {
                model: drawn.model.clone(),
                sampler: drawn.sampler.clone(),
                steps: *steps,
                scale: *scale,
            }));
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_name_their_sampler_and_steps() {
        let read = |word: &str| {
            let drawn = drawn(word).expect("it is well-formed");
            (
                drawn.model.display().to_string(),
                drawn.sampler,
                drawn.steps,
            )
        };
        let scale = |word: &str| drawn(word).expect("it is well-formed").scale;
        let ddim = || Some("ddim".to_owned());
        assert_eq!(read("sd15"), ("sd15".to_owned(), None, vec![]));
        assert_eq!(read("sd15@ddim"), ("sd15".to_owned(), ddim(), vec![]));
        assert_eq!(
            read("sd15@ddim:50,4"),
            ("sd15".to_owned(), ddim(), vec![50, 4])
        );
        assert_eq!(read("run/ema:4"), ("run/ema".to_owned(), None, vec![4]));
        assert_eq!(read(r"C:\sd15"), (r"C:\sd15".to_owned(), None, vec![]));
        assert_eq!(read("sd15:4=3.5"), ("sd15".to_owned(), None, vec![4]));
        assert_eq!((scale("sd15:4=3.5"), scale("sd15")), (Some(3.5), None));
        assert_eq!(read("lr=2/ema"), ("lr=2/ema".to_owned(), None, vec![]));
        assert!(drawn("sd15:0").is_err());
        assert!(drawn("sd15:").is_err());
    }
}
