//! A sampler's configuration: what a diffusers `scheduler_config.json` says, and how one sampler
//! takes over another's.
//!
//! Takes JSON text, gives a [`SamplerConfig`] from which tables are made. Only values that are
//! written in the file are kept: what is absent falls to the default of whichever sampler reads it.
//! Options of the file that no sampler has are ignored, as in diffusers, and listed by name. It
//! never guesses: an option of a run that its sampler does not have is refused.

use serde_json::{Map, Value};

use super::error::SamplerError;
use super::given::Given;
use super::options::{Options, SCHEDULE_OPTIONS, Sampler};
use super::prediction::PredictionType;
use super::schedule::{ZERO_TERMINAL_SNR, default_betas, schedule};
use super::{SAMPLERS, names};
use crate::noise_schedule::NoiseSchedule;
use crate::pipeline_class;

/// Options of a run. diffusers passes them when it samples and never reads them from a file.
const RUN_OPTIONS: &[&str] = &[
    "eta",
    "s_churn",
    "s_noise",
    "s_tmax",
    "s_tmin",
    "sigmas",
    "strength",
    "timesteps",
];

/// Options of samplers that are not supported here. diffusers keeps them in the files of other
/// samplers, which do not read them.
const FOREIGN_OPTIONS: &[&str] = &["noise_sampler_seed", "tensor_format"];

/// The class of InstaFlow's pipelines, which step by themselves whatever their scheduler is.
const RECTIFIED_FLOW: &str = "RectifiedFlowPipeline";

/// Classes of pipelines that mend old files; diffusers' own and those of ONNX graphs.
const MENDING_PIPELINES: &[&str] = &[
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionPipeline",
];

/// One sampler's configuration. Options are kept as given; their values are checked when they are
/// read, by [`super::table`] or [`SamplerConfig::noise_schedule`].
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    class: String,
    /// Whether diffusers wrote the file: it stamps its version on what it saves.
    saved: bool,
    name: Option<&'static str>,
    given: Given,
    /// The given options that a pipeline filled in; no other sampler takes them over.
    filled: Vec<&'static str>,
    /// Options of the file that no sampler reads.
    ignored: Vec<String>,
}

impl SamplerConfig {
    /// Reads a diffusers `scheduler_config.json`, in which `Infinity`, `-Infinity` and `NaN` may
    /// stand where JSON allows no number.
    ///
    /// A class that is not supported is no error yet: [`SamplerConfig::with_sampler`] can still
    /// take over its noise schedule.
    ///
    /// # Errors
    /// When the text is not a JSON object.
    pub fn from_diffusers(json: &str) -> Result<SamplerConfig, SamplerError> {
        let given: Map<String, Value> =
            serde_json::from_str(&quote_non_finite(json)).map_err(|error| SamplerError::Json {
                reason: error.to_string(),
            })?;
        Ok(SamplerConfig::from_options(given))
    }

    /// Takes the options of a `scheduler_config.json` that somebody else has read.
    pub fn from_options(options: impl IntoIterator<Item = (String, Value)>) -> SamplerConfig {
        let mut given: Given = options.into_iter().collect();
        let class = match given.remove("_class_name") {
            Some(Value::String(class)) => class,
            // A class that comes with the model is written as its module and its name.
            Some(Value::Array(parts)) => {
                let name = parts.last().and_then(Value::as_str);
                name.unwrap_or_default().to_owned()
            }
            Some(_) | None => String::new(),
        };
        // diffusers takes options that it filled in by itself for absent, and so do we.
        if let Some(Value::Array(defaulted)) = given.remove("_use_default_values") {
            let filled_in = |key: &str| defaulted.iter().any(|name| name.as_str() == Some(key));
            given.retain(|key, _| !filled_in(key));
        }
        let saved = given.get("_diffusers_version").is_some();
        given.retain(|key, value| !key.starts_with('_') && !value.is_null());
        modernise(&mut given);
        let is_read = |key: &str| {
            let mut samplers = SAMPLERS.iter();
            !RUN_OPTIONS.contains(&key) && samplers.any(|sampler| sampler.knows(key))
        };
        let unread = given.names().filter(|key| !is_read(key));
        let unread = unread.map(ToOwned::to_owned);
        let mut ignored: Vec<String> = unread.collect();
        given.retain(|key, _| is_read(key));
        ignored.retain(|key| !FOREIGN_OPTIONS.contains(&key.as_str()));
        SamplerConfig {
            class,
            saved,
            name: None,
            given,
            filled: Vec::new(),
            ignored,
        }
    }

    /// The class, as the file or the index of its pipeline names it; empty if neither does.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Options of the file that no sampler reads. diffusers ignores them with a warning.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The same options read by the sampler of `class`, which the pipeline's index names: the index
    /// decides over what diffusers saved with it, and where the file names no class. A file that
    /// was written by hand says itself which sampler it is for.
    ///
    /// # Source
    /// diffusers `DiffusionPipeline.from_pretrained`.
    pub fn of_index(self, class: &str) -> SamplerConfig {
        match self.saved || self.class.is_empty() {
            true => self.of_class(class),
            false => self,
        }
    }

    /// The same options read by the sampler of another class.
    ///
    /// # Source
    /// diffusers `ConfigMixin.extract_init_dict`.
    pub fn of_class(self, class: &str) -> SamplerConfig {
        SamplerConfig {
            class: class.to_owned(),
            ..self
        }
    }

    /// The same configuration as a pipeline of class `pipeline` uses it: those of Stable Diffusion
    /// 1 and 2 mend files that were written before the offset of the timesteps and the clipping of
    /// clean latents were options, and take 1 and none for them, whatever the file says.
    ///
    /// An option that the file lacks is mended for its own sampler alone: another one that takes
    /// the file over keeps its default, as diffusers' `from_config` does.
    ///
    /// # Source
    /// diffusers `StableDiffusionPipeline.__init__`; InstaFlow `pipeline_rf.py`.
    pub fn in_pipeline(mut self, pipeline: &str) -> SamplerConfig {
        if pipeline == RECTIFIED_FLOW {
            return self.with_sampler("instaflow").unwrap_or(self);
        }
        if !MENDING_PIPELINES.contains(&pipeline_class::base(pipeline)) {
            return self;
        }
        for (option, value) in [
            ("steps_offset", Value::from(1)),
            ("clip_sample", Value::from(false)),
        ] {
            let known = self.sampler().is_ok_and(|sampler| sampler.knows(option));
            match self.given.get(option) {
                Some(_) => self.given.insert(option, value),
                None if known => {
                    self.given.insert(option, value);
                    self.filled.push(option);
                }
                None => {}
            }
        }
        self
    }

    /// The same noise schedule and prediction type under the sampler `name` of [`names`].
    ///
    /// As in diffusers' `from_config`, every option of the file that the new sampler has is taken
    /// over; the others keep the new sampler's defaults. Options that the name implies (`dpm++2m`
    /// is second order) are set.
    ///
    /// # Errors
    /// When there is no such name, or the file rescales its schedule to zero terminal SNR and the
    /// new sampler has no such option.
    pub fn with_sampler(&self, name: &str) -> Result<SamplerConfig, SamplerError> {
        let sampler = SAMPLERS
            .iter()
            .find(|sampler| sampler.name == name)
            .ok_or_else(|| SamplerError::Name {
                name: name.to_owned(),
                known: names().collect(),
            })?;
        let lost = "rescale_betas_zero_snr";
        if self.given.get(lost) == Some(&Value::Bool(true)) && !sampler.knows(lost) {
            return Err(SamplerError::Option {
                sampler: sampler.name,
                option: lost.to_owned(),
            });
        }
        let mut given = self.given.clone();
        given.retain(|key, _| sampler.knows(key) && !self.filled.contains(&key));
        for (option, value) in sampler.defaults {
            given.insert_missing(option, value.to_json());
        }
        for (option, value) in sampler.forced {
            given.insert(option, value.to_json());
        }
        Ok(SamplerConfig {
            saved: self.saved,
            class: sampler.class.to_owned(),
            name: Some(sampler.name),
            given,
            filled: Vec::new(),
            ignored: self.ignored.clone(),
        })
    }

    /// The same configuration with one option replaced, as in `timestep_spacing` = `"trailing"`.
    ///
    /// Besides the options of the file format there are those that diffusers takes when sampling:
    /// `eta` (DDIM, TCD), `s_churn`, `s_tmin`, `s_tmax`, `s_noise` (Euler), `strength` (LCM, TCD),
    /// and the lists `timesteps` and `sigmas`, from noisy to clean; `sigmas` holds one number more
    /// than steps and ends in 0.
    ///
    /// # Errors
    /// When the class is not supported, the sampler has no such option, or it would change nothing.
    pub fn with_option(&self, option: &str, value: Value) -> Result<SamplerConfig, SamplerError> {
        let sampler = self.sampler()?;
        if sampler.inert.contains(&option) {
            let option = option.to_owned();
            return Err(SamplerError::NoEffect {
                sampler: sampler.name,
                option,
            });
        }
        if !sampler.knows(option) {
            let option = option.to_owned();
            return Err(SamplerError::Option {
                sampler: sampler.name,
                option,
            });
        }
        let mut config = self.clone();
        config.given.insert(option, value);
        Ok(config)
    }

    /// The sampler's name as [`names`] has it. Where several names share one class, the file's
    /// class alone gives the first of them.
    ///
    /// # Errors
    /// When the class is not supported.
    pub fn sampler_name(&self) -> Result<&'static str, SamplerError> {
        Ok(self.sampler()?.name)
    }

    /// Steps of the timesteps or noise levels that are given by hand, if they are.
    pub fn listed_steps(&self) -> Option<usize> {
        let length = |option| self.given.get(option)?.as_array().map(Vec::len);
        let levels = length("sigmas").map(|levels| levels.saturating_sub(1));
        length("timesteps").or(levels)
    }

    /// The noise schedule, as training and img2img need it.
    ///
    /// # Errors
    /// When the class is not supported or one of the options involved has a wrong value.
    pub fn noise_schedule(&self) -> Result<NoiseSchedule, SamplerError> {
        schedule(&self.options()?)
    }

    /// The options of the noise schedule and what the network predicts, for the configuration of
    /// another sampler: what its class would take for granted otherwise is written out.
    ///
    /// # Errors
    /// When the class is not supported.
    pub fn schedule_options(&self) -> Result<Map<String, Value>, SamplerError> {
        let sampler = self.sampler()?;
        let (start, end, curve) = default_betas(sampler);
        let mut options = Map::from_iter([
            ("beta_start".to_owned(), Value::from(start)),
            ("beta_end".to_owned(), Value::from(end)),
            ("beta_schedule".to_owned(), Value::from(curve)),
        ]);
        let shared = SCHEDULE_OPTIONS.iter().chain(&[ZERO_TERMINAL_SNR]);
        for option in shared.filter(|option| sampler.reads(option)) {
            let given = self.given.get(option).filter(|value| !value.is_null());
            options.extend(given.map(|value| ((*option).to_owned(), value.clone())));
        }
        Ok(options)
    }

    /// What the network predicts.
    ///
    /// # Errors
    /// When the class is not supported, or the option holds another word; PeRFlow's own prediction
    /// types have no meaning outside its sampler.
    pub fn prediction_type(&self) -> Result<PredictionType, SamplerError> {
        PredictionType::read(&self.options()?)
    }

    /// The options with their sampler.
    pub(super) fn options(&self) -> Result<Options<'_>, SamplerError> {
        Ok(Options {
            sampler: self.sampler()?,
            given: &self.given,
        })
    }

    fn sampler(&self) -> Result<&'static Sampler, SamplerError> {
        SAMPLERS
            .iter()
            .find(|sampler| match self.name {
                Some(name) => sampler.name == name,
                None => sampler.class == self.class,
            })
            .copied()
            .ok_or_else(|| SamplerError::Class {
                class: self.class.clone(),
                known: SAMPLERS.iter().map(|sampler| sampler.class).collect(),
            })
    }
}

/// Rewrites options of diffusers' first releases: `predict_epsilon`, false where the network
/// predicts clean latents, and `denoise_final`, now `lower_order_final` and on by default.
fn modernise(given: &mut Given) {
    if let Some(Value::Bool(epsilon)) = given.remove("predict_epsilon") {
        let prediction = if epsilon { "epsilon" } else { "sample" };
        given.insert_missing("prediction_type", Value::from(prediction));
    }
    if let Some(denoise_final @ Value::Bool(_)) = given.remove("denoise_final") {
        given.insert_missing("lower_order_final", denoise_final);
    }
    // No released sampler ever read it.
    given.remove("timestep_values");
}

/// Puts quotes around the bare words `Infinity`, `-Infinity` and `NaN`, which Python writes and
/// JSON lacks; everything inside strings stays as it is.
fn quote_non_finite(json: &str) -> String {
    let mut quoted = String::with_capacity(json.len() + 16);
    let (mut rest, mut in_string) = (json, false);
    while let Some(first) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        let taken = match (in_string, first, word) {
            (false, _, Some(word)) => {
                quoted.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                continue;
            }
            (true, '\\', _) => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            (_, '"', _) => {
                in_string = !in_string;
                1
            }
            (true | false, _, _) => first.len_utf8(),
        };
        quoted.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::{SamplerConfig, quote_non_finite};

    #[track_caller]
    fn check(json: &str, wanted: &str) {
        assert_eq!(quote_non_finite(json), wanted);
    }

    #[test]
    fn non_finite_words_are_quoted_outside_strings() {
        check(
            r#"{"a": -Infinity, "b": NaN}"#,
            r#"{"a": "-Infinity", "b": "NaN"}"#,
        );
        check(
            r#"{"NaN": "-Infinity \" NaN"}"#,
            r#"{"NaN": "-Infinity \" NaN"}"#,
        );
        check("\"\\", "\"\\");
        check(
            "[Infinity, \"é\\\\\", Infinity]",
            "[\"Infinity\", \"é\\\\\", \"Infinity\"]",
        );
    }

    #[test]
    fn the_schedule_of_a_class_is_written_out_for_another() {
        let options = |json: &str| {
            let config = SamplerConfig::from_diffusers(json).expect("a configuration");
            let options = config.schedule_options().expect("a known class");
            serde_json::to_string(&options).expect("JSON")
        };
        assert_eq!(
            options(r#"{"_class_name": "DDIMScheduler", "clip_sample": true, "beta_end": null}"#),
            r#"{"beta_end":0.02,"beta_schedule":"linear","beta_start":0.0001}"#
        );
        let given = r#"{"_class_name": "EulerDiscreteScheduler", "prediction_type": "sample",
            "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": true}"#;
        assert_eq!(
            options(given),
            r#"{"beta_end":0.02,"beta_schedule":"scaled_linear","beta_start":0.0001,"prediction_type":"sample","rescale_betas_zero_snr":true}"#
        );
    }
}
