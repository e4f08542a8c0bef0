//! Settings of a training: of every training, and of its method.
//!
//! Takes flags, a configuration file, a preset and what a checkpoint says; returns one value for
//! each setting, as text. Flags win over the file, the file over the preset, the preset over the
//! method's defaults. It knows methods by their table alone.

use std::collections::BTreeMap;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use graphs::distill::presets::PRESETS;
use graphs::distill::settings::{Kind, Setting, Values};
use graphs::distill::{self, Entry};

use crate::error::{At, Failure};
use crate::files;

/// Shortens the table below.
const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        about,
        default,
    }
}

/// The settings of every training. Methods may have other defaults for them.
pub(crate) const GENERAL: &[Setting] = &[
    setting("steps", Kind::Count, "1000", "updates to make"),
    setting("batch", Kind::Count, "1", "samples of a micro-batch"),
    setting(
        "accumulate",
        Kind::Count,
        "1",
        "micro-batches whose gradients are averaged for one update",
    ),
    setting("lr", Kind::Number, "1e-4", "the learning rate"),
    setting(
        "lr-schedule",
        Kind::Word(&["constant", "linear", "cosine"]),
        "constant",
        "how the learning rate falls to 0 until the last update, after the warm-up",
    ),
    setting(
        "warmup",
        Kind::Count,
        "0",
        "updates during which the learning rate rises from 0",
    ),
    setting("weight-decay", Kind::Number, "0", "AdamW's weight decay"),
    setting(
        "clip",
        Kind::Number,
        "1",
        "the norm to which longer gradients are shortened; 0 for none",
    ),
    setting(
        "ema-decay",
        Kind::Number,
        "0.9999",
        "the share of the moving average that stays at an update",
    ),
    setting(
        "ema-warmup",
        Kind::Switch,
        "false",
        "keep the decay of the moving average at most (1 + n)/(10 + n) at update n",
    ),
    setting(
        "caption-dropout",
        Kind::Number,
        "0",
        "how often a caption is replaced by the empty one, 0 to 1",
    ),
    setting(
        "dtype",
        Kind::Word(&["f32", "bf16", "f16"]),
        "f32",
        "the type that networks compute in; parameters, moments and averages are f32",
    ),
    setting("seed", Kind::Count, "0", "the seed of all random numbers"),
    setting(
        "save-every",
        Kind::Count,
        "500",
        "updates between checkpoints; 0 for one at the end only",
    ),
    setting("keep", Kind::Count, "3", "checkpoints to keep"),
    setting(
        "sample-every",
        Kind::Count,
        "0",
        "updates between grids of pictures in samples/; 0 for none",
    ),
    setting(
        "validate",
        Kind::Count,
        "0",
        "updates between comparisons with the teacher's own pictures, in validation.jsonl; 0 for \
         none",
    ),
];

/// What follows its flag when a training is resumed; other settings must be as they were.
const FOLLOWED: &[&str] = &[
    "steps",
    "lr",
    "lr-schedule",
    "warmup",
    "weight-decay",
    "save-every",
    "keep",
    "sample-every",
    "validate",
];

/// Flags of settings, as text by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(BTreeMap<String, String>);

/// Every setting with the methods that have it; none for those of every training.
fn all() -> Vec<(Setting, Vec<&'static Entry>)> {
    let general = GENERAL.iter().map(|setting| (*setting, Vec::new()));
    let mut all: Vec<(Setting, Vec<&'static Entry>)> = general.collect();
    for entry in distill::methods() {
        for setting in entry.settings {
            match all.iter_mut().find(|(own, _)| own.name == setting.name) {
                Some((_, entries)) => entries.push(entry),
                None => all.push((*setting, vec![entry])),
            }
        }
    }
    all
}

impl clap::FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        let text = |(setting, _): (Setting, Vec<&Entry>)| {
            let text = matches.get_one::<String>(setting.name)?;
            Some((setting.name.to_owned(), text.clone()))
        };
        Ok(Given(all().into_iter().filter_map(text).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        let shown = method_of_the_command_line();
        all()
            .into_iter()
            .fold(command, |command, (setting, entries)| {
                command.arg(flag(&setting, &entries, shown))
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args(command)
    }
}

/// The method that the command line names: help shows its settings alone.
fn method_of_the_command_line() -> Option<&'static Entry> {
    let words: Vec<String> = std::env::args().collect();
    let after = words.iter().position(|word| word == "--method");
    let name = match after {
        Some(place) => words.get(place + 1).map(String::as_str),
        None => words.iter().find_map(|word| word.strip_prefix("--method=")),
    };
    distill::method(name?).ok()
}

/// The flag of a setting. A kind decides only how it is spelled: values are read where they are
/// used.
fn flag(setting: &Setting, entries: &[&'static Entry], shown: Option<&'static Entry>) -> Arg {
    let own = shown.filter(|shown| entries.iter().any(|entry| entry.name == shown.name));
    let hidden = own.is_none() && !entries.is_empty();
    let of_method = |entry: &Entry| {
        let settings = entry.settings.iter();
        let mut settings = settings.filter(|own| own.name == setting.name);
        settings.next().map(|own| (own.about, own.default))
    };
    let (about, default) = own
        .and_then(of_method)
        .unwrap_or((setting.about, setting.default));
    let default = match (entries.is_empty(), shown) {
        (true, Some(entry)) => replaced(entry, setting.name).unwrap_or(default),
        (_, _) => default,
    };
    let (first, rest) = about.split_at(1);
    let words = match setting.kind {
        Kind::Word(words) => format!(" ({})", words.join(", ")),
        Kind::Count | Kind::Number | Kind::Range | Kind::Switch => String::new(),
    };
    let help = format!("{}{rest}{words} [default: {default}]", first.to_uppercase());
    let heading = match entries.is_empty() {
        true => "Settings of every training",
        false => "Settings of the method",
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .help(help)
        .help_heading(heading)
        .allow_negative_numbers(true)
        .hide(hidden);
    match setting.kind {
        Kind::Count => arg.value_name("N"),
        Kind::Number => arg.value_name("X"),
        Kind::Range => arg.value_name("X|LOW..HIGH"),
        Kind::Word(words) => arg
            .value_name("WORD")
            .value_parser(PossibleValuesParser::new(words.iter().copied()))
            .hide_possible_values(true),
        Kind::Switch => arg
            .value_name("true|false")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

/// Another default of a setting of every training.
fn replaced(entry: &Entry, name: &str) -> Option<&'static str> {
    let mut defaults = entry.defaults.iter();
    defaults
        .find(|(own, _)| *own == name)
        .map(|(_, text)| *text)
}

/// A method and a value for each setting.
pub(crate) struct Chosen {
    /// The method.
    pub(crate) method: &'static Entry,
    /// The values of [`GENERAL`].
    pub(crate) general: Values,
    /// The values of all settings, as text by name.
    pub(crate) all: BTreeMap<String, String>,
    /// Where the data are, if the configuration file says.
    pub(crate) data: Option<String>,
}

/// Where settings come from beside flags.
pub(crate) struct Sources<'a> {
    /// The method that the command line names.
    pub(crate) method: Option<&'a str>,
    /// The preset that it names.
    pub(crate) preset: Option<&'a str>,
    /// The configuration file.
    pub(crate) config: Option<&'a Path>,
    /// The method and the settings of a training that is resumed.
    pub(crate) resumed: Option<(&'a str, &'a BTreeMap<String, String>)>,
}

impl Given {
    /// The method, and a value for each setting.
    pub(crate) fn complete(&self, sources: &Sources<'_>) -> Result<Chosen, Failure> {
        let mut file = match sources.config {
            Some(path) => read_config(path)?,
            None => BTreeMap::new(),
        };
        let (data, named) = (file.remove("data"), file.remove("method"));
        let preset = sources.preset.map(str::to_owned).or(file.remove("preset"));
        let preset = preset.map(|name| find_preset(&name)).transpose()?;
        let asked = sources.method.or(named.as_deref());
        let of_preset = preset.map(|preset| preset.method);
        let resumed = sources.resumed.map(|(method, _)| method);
        if let (Some(asked), Some(other)) = (asked, of_preset)
            && asked != other
        {
            let name = preset.map_or("", |preset| preset.name);
            let message = format!("--preset {name} is one of {other}, but the method is {asked}");
            return Err(Failure::usage(message).hint(format!("pass --method {other}")));
        }
        let name = asked.or(of_preset).or(resumed).ok_or_else(|| {
            let names: Vec<&str> = distill::methods().map(|entry| entry.name).collect();
            let failure = Failure::usage("no method is given");
            failure.hint(format!("choose one with --method: {}", names.join(", ")))
        })?;
        if let Some(before) = resumed.filter(|before| *before != name) {
            let message = format!("the training to resume is one of {before}, not of {name}");
            return Err(Failure::usage(message).hint("choose another --out"));
        }
        let method = distill::method(name).map_err(Failure::usage)?;
        let mut texts = match sources.resumed {
            Some((_, settings)) => settings.clone(),
            None => texts_of(method.defaults),
        };
        let mut given = preset.map_or_else(BTreeMap::new, |preset| texts_of(preset.values));
        given.extend(file);
        given.extend(self.0.clone());
        expect_settings_of(method, &given)?;
        if let Some((_, before)) = sources.resumed {
            expect_resumable(before, &given)?;
        }
        texts.extend(given);
        let general = Values::of(GENERAL.iter().copied(), &texts).map_err(Failure::usage)?;
        let own = Values::of(method.settings.iter().copied(), &texts).map_err(Failure::usage)?;
        let pairs = general.iter().chain(own.iter());
        let all = pairs.map(|(setting, text)| (setting.name.to_owned(), text.to_owned()));
        Ok(Chosen {
            method,
            all: all.collect(),
            general,
            data,
        })
    }
}

/// Names and values as text.
pub(crate) fn texts_of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    pairs.iter().map(owned).collect()
}

fn find_preset(name: &str) -> Result<&'static distill::presets::Preset, Failure> {
    let found = PRESETS.iter().find(|preset| preset.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let failure = Failure::usage(format!("there is no preset {name:?}"));
        failure.hint(format!("choose one of {}", names.join(", ")))
    })
}

/// Refuses settings that the method does not have.
fn expect_settings_of(method: &Entry, given: &BTreeMap<String, String>) -> Result<(), Failure> {
    let general = GENERAL.iter().chain(method.settings);
    let names: Vec<&str> = general.map(|setting| setting.name).collect();
    match given.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let message = format!("the method {} has no setting {name}", method.name);
            let help = format!("splamc train --method {} --help", method.name);
            Err(Failure::usage(message).hint(format!("{help} lists those it has")))
        }
    }
}

/// Refuses to resume with settings that would make it another training.
fn expect_resumable(
    before: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    for (name, text) in given {
        let old = before.get(name).map_or("", String::as_str);
        if old == text.trim() {
            continue;
        }
        if !FOLLOWED.contains(&name.as_str()) {
            let message = format!("{name} is {text}, but the training to resume began with {old}");
            let failure = Failure::usage(message);
            return Err(failure.hint(format!("leave out --{name}, or choose another --out")));
        }
        crate::progress::note(format!("{name} changes from {old} to {text}"));
    }
    Ok(())
}

/// The values in a configuration file, as text by name.
fn read_config(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let place = path.display();
    let bytes = files::read(path)?;
    let text = std::str::from_utf8(&bytes).at(&place)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Failure::job(format!("{place}: {}", error.to_string().trim_end()))
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        expect_known(path, &key, &name)?;
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(switch) => switch.to_string(),
            other @ (toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_)) => {
                let kind = other.type_str();
                return Err(Failure::job(format!(
                    "{place}: {key} is {kind}; expected a number, a word, or true or false"
                )));
            }
        };
        values.insert(name, text);
    }
    Ok(values)
}

/// Refuses a key that no setting has, with the nearest one.
fn expect_known(path: &Path, key: &str, name: &str) -> Result<(), Failure> {
    let settings = all();
    let names = settings.iter().map(|(setting, _)| setting.name);
    let known: Vec<&str> = names.chain(["data", "method", "preset"]).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let near = |known: &&str| strsim::damerau_levenshtein(known, name);
    let nearest = known.iter().copied().min_by_key(near).unwrap_or_default();
    let failure = Failure::job(format!("{}: there is no setting {key:?}", path.display()));
    Err(failure.hint(format!("the nearest one is {nearest:?}")))
}
