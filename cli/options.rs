//! Options that several commands share, spelled once.
//!
//! Takes words of the command line, returns values of the other rooms' types.

use std::sync::Arc;

use backends::{BACKENDS, Backend, lookup};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use compiler::DType;
use runtime::artifact::Artifact;
use runtime::place::{Options, Place, Wanted};

use crate::compiled;
use crate::driver;
use crate::error::{At, Failure};
use crate::model::Model;

/// How programs are executed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Execution {
    /// Where to run; what a .splam was compiled for, or cpu, if not given
    #[arg(long, value_parser = targets())]
    pub(crate) target: Option<Target>,
    /// With --target wgsl: the adapter, by its number in `splamc devices` or by words of its name;
    /// a GPU before software if not given. `interpreter`, which --target cuda takes too, needs
    /// none: it runs kernels step by step, very slowly, and reports races and out-of-bounds
    /// accesses
    #[arg(long, value_name = "NAME|INDEX")]
    pub(crate) adapter: Option<String>,
    /// With --target wgsl: use the 16-bit float type in kernels, which needs an adapter with the
    /// feature shader-f16
    #[arg(long)]
    pub(crate) shader_f16: bool,
    /// The number of threads; all cores if not given
    #[arg(long, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Use direct convolutions only: those by Winograd's method are faster but round a little more;
    /// always so for a .splam compiled with --exact
    #[arg(long)]
    pub(crate) exact: bool,
}

impl Execution {
    /// The options as the command line spells them.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let values = [
            (
                "--target",
                self.target.map(|target| target.name().to_owned()),
            ),
            ("--adapter", self.adapter.clone()),
            ("--threads", self.threads.map(|threads| threads.to_string())),
        ];
        for (flag, value) in values {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        for (flag, is_given) in [("--shader-f16", self.shader_f16), ("--exact", self.exact)] {
            words.extend(is_given.then(|| flag.to_owned()));
        }
        words
    }

    /// Where a session of `model` is opened; `profile` asks for the clock of an adapter.
    pub(crate) fn place(&self, model: &Model, profile: bool) -> Result<Place, Failure> {
        let target = target(model, self.target)?;
        self.opened(target, model.artifact(), model.is_exact(), profile)
    }

    /// Where a session of a network is opened that is part of no model.
    pub(crate) fn own_place(&self) -> Result<Place, Failure> {
        let target = self.target.unwrap_or(backends::host());
        self.opened(target, None, false, false)
    }

    fn opened(
        &self,
        target: Target,
        artifact: Option<&Arc<Artifact>>,
        is_exact: bool,
        profile: bool,
    ) -> Result<Place, Failure> {
        let flag = || format!("--target {}", target.name());
        if let (None, Some(_)) = (target.dialect, &self.adapter) {
            return Err(
                Failure::usage(format!("--adapter chooses no device of {}", flag()))
                    .hint("leave --adapter out, or name the target of a graphics processor"),
            );
        }
        if let (Some(dialect), Some(INTERPRETER)) = (target.dialect, self.adapter.as_deref()) {
            return Ok(Place::interpreter(dialect));
        }
        let ahead = artifact.filter(|_| target.dialect.is_some());
        if target.dialect.is_some() {
            driver::leave_out_desktop();
        }
        let wanted = Wanted {
            processor: Options {
                threads: self.threads,
                exact: self.exact || is_exact,
            },
            adapter: self.adapter.as_deref(),
            // A compiled model says itself what its kernels name.
            shader_f16: ahead.map_or(self.shader_f16, |artifact| artifact.names_halves()),
            profile,
        };
        let opened = Place::open(target, &wanted).at(flag())?;
        Ok(match ahead {
            Some(artifact) => opened.for_artifact(artifact.clone()),
            None => opened,
        })
    }
}

/// Where to run a model: on `wanted` or the processor; a compiled one only on what it was compiled
/// for.
pub(crate) fn target(model: &Model, wanted: Option<Target>) -> Result<Target, Failure> {
    let Some(artifact) = model.artifact() else {
        return Ok(wanted.unwrap_or(backends::host()));
    };
    let word = &artifact.manifest().about.target;
    match (lookup(word), wanted) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(wanted)) if found == wanted => Ok(found),
        (_, wanted) => {
            let (place, wanted) = (model.place(), wanted.unwrap_or(backends::host()).name());
            let message = format!("{place} was compiled for {word}, not for {wanted}");
            let command = compiled::command(artifact, wanted);
            Err(Failure::job(message).hint(format!("compile it again: {command}")))
        }
    }
}

/// The word for what takes the place of an adapter.
const INTERPRETER: &str = "interpreter";

/// Where a program runs.
pub(crate) type Target = &'static Backend;

/// The target whose kernels are shown where none is named: the first that has any.
pub(crate) fn kernel_target() -> Target {
    let mut backends = BACKENDS.iter();
    let found = backends.find(|backend| backend.dialect.is_some());
    found.unwrap_or(backends::host())
}

/// Reads the word of a target.
pub(crate) fn targets() -> impl TypedValueParser<Value = Target> {
    let words = BACKENDS.iter();
    let words = words.map(|backend| {
        let word = PossibleValue::new(backend.name()).help(backend.about);
        word.aliases(backend.aliases)
    });
    PossibleValuesParser::new(words).map(|word| lookup(&word).expect("a word of the list"))
}

/// The type of weights and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats with 32-bit arithmetic.
    F16,
    /// The upper halves of 32-bit floats, with 32-bit arithmetic.
    Bf16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> DType {
        match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

/// A size bound to a symbol, as `NAME=SIZE`.
pub(crate) fn binding(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=SIZE")?;
    match size.parse() {
        Ok(0) | Err(_) => Err(format!(
            "the size is {size:?}; expected a whole number of at least 1"
        )),
        Ok(size) => Ok((name.to_owned(), size)),
    }
}

/// More pixels along an axis than any picture has are a slip of the keyboard.
const PIXELS_MAX: usize = 1 << 20;

/// A number that is neither NaN nor infinite.
pub(crate) fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    match number.is_finite() {
        true => Ok(number),
        false => Err("expected a finite number".to_owned()),
    }
}

/// Rows and columns of `WxH`.
pub(crate) fn size(text: &str) -> Result<[usize; 2], String> {
    let size = pair(text, 'x').filter(|size| !size.contains(&0));
    size.ok_or_else(|| "expected a width and a height such as 1024x768".to_owned())
}

/// Rows and columns of `N` or `WxH`.
pub(crate) fn resolution(text: &str) -> Result<[usize; 2], String> {
    let text = match text.contains('x') {
        true => text.to_owned(),
        false => format!("{text}x{text}"),
    };
    size(&text).map_err(|_| "expected a number of pixels such as 512, or 1024x768".to_owned())
}

/// A whole number that is not 0.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        Ok(_) | Err(_) => Err("expected a whole number of at least 1".to_owned()),
    }
}

/// Rows and columns of `X,Y`.
pub(crate) fn corner(text: &str) -> Result<[usize; 2], String> {
    pair(text, ',').ok_or_else(|| "expected columns and rows such as 0,0".to_owned())
}

fn pair(text: &str, separator: char) -> Option<[usize; 2]> {
    let (x, y) = text.split_once(separator)?;
    let number = |text: &str| text.parse().ok().filter(|number| *number <= PIXELS_MAX);
    Some([number(y)?, number(x)?])
}

/// A number of bytes: `800MB`, `16GiB`, `1e9`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("KiB", 1024.0),
        ("MiB", 1048576.0),
        ("GiB", 1073741824.0),
        ("TiB", 1099511627776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (&text[..text.len() - unit.len()], *factor),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number * factor >= 1.0 => Ok((number * factor) as u64),
        Ok(_) | Err(_) => Err("expected a size such as 800MB or 16GiB".to_owned()),
    }
}

/// More threads than any machine has cores are a slip of the keyboard.
const THREADS_MAX: usize = 1024;

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=THREADS_MAX) => Ok(threads),
        Ok(_) | Err(_) => Err(format!("expected a whole number from 1 to {THREADS_MAX}")),
    }
}
