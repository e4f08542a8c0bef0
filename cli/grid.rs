//! `splamc grid`: methods and steps side by side, on the same prompts and the same noise.
//!
//! Takes models, prompts and numbers of steps; samples each by `splamc sample` itself and writes one
//! PNG with captions. It computes no picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compiler::value::tensor::Tensor;
use plotters::prelude::{BLACK, BitMapBackend, IntoDrawingArea, IntoFont, Text};
use runtime::training::pictures::grid;

use crate::error::{At, Failure};
use crate::options::{self, Execution};
use crate::sampled::{self, Request};
use crate::{chart, outputs, png, progress};

/// Draw models and numbers of steps side by side.
///
/// A column for each model, scale and number of steps, a row for each prompt. All pictures of a row
/// begin with the same noise. A model may be followed by @ and a sampler, to compare solvers.
#[derive(clap::Args)]
#[command(
    after_help = "A column for each model, scale and number of steps, a row for each prompt. All \
    pictures of a row\nbegin with the same noise.\n\n\
    Examples:\n  \
    splamc grid run/ema --prompts prompts.txt --steps 1,2,4 -o grid.png\n  \
    splamc grid sd15@ddim sd15@unipc splam lcm --prompts prompts.txt --steps 1,2,4 -o grid.png\n  \
    splamc grid sd15/ --prompts prompts.txt --steps 20 --cfg-scale 3,5,8 -o scales.png"
)]
pub(crate) struct Arguments {
    /// The models: diffusers or ONNX directories, or compiled .splam; @NAME chooses a sampler.
    #[arg(required = true, value_name = "MODEL[@SAMPLER]")]
    models: Vec<String>,
    /// The prompts, one a line; four of our own if not given
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The numbers of steps
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,2,4"
    )]
    #[arg(value_parser = options::count)]
    steps: Vec<usize>,
    /// The guidance scales in the standard form; each model's own if not given
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = options::finite)]
    cfg_scale: Vec<f64>,
    /// The PNG file to write
    #[arg(short, long, value_name = "FILE", default_value = "grid.png")]
    output: PathBuf,
    /// The seed of the first prompt; later ones follow
    #[arg(short, long, default_value_t = 1000)]
    seed: u64,
    /// Width in pixels; the model's own size if not given
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels; the model's own size if not given
    #[arg(short = 'H', long)]
    height: Option<usize>,
    #[command(flatten)]
    execution: Execution,
}

/// One column of the grid.
struct Column {
    model: String,
    sampler: Option<String>,
    steps: usize,
    scale: Option<f64>,
}

impl Column {
    /// The lines above the column.
    fn caption(&self) -> [String; 2] {
        let path = Path::new(&self.model);
        let mut name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .display()
            .to_string();
        // The last folder of a training says little.
        if let (true, Some(parent)) = (name == "ema" || name == "student", path.parent()) {
            let parent = parent.file_name().unwrap_or_default().display();
            name = format!("{parent}/{name}");
        }
        let sampler = self.sampler.as_ref().map(|sampler| format!(" {sampler}"));
        let steps = match self.steps {
            1 => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        };
        let scale = self.scale.map(|scale| format!(", scale {scale}"));
        [
            format!("{name}{}", sampler.unwrap_or_default()),
            format!("{steps}{}", scale.unwrap_or_default()),
        ]
    }

    /// The flags of `splamc sample`.
    fn flags(&self, execution: &Execution) -> Vec<String> {
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

/// Draws.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    outputs::check(&arguments.output)?;
    let prompts = sampled::prompts(arguments.prompts.as_deref())?;
    let size = match (arguments.height, arguments.width) {
        (Some(height), Some(width)) => Some([height, width]),
        (None, None) => None,
        (_, _) => {
            let failure = Failure::usage("one of -W and -H is missing");
            return Err(failure.hint("pass both, or none for the models' own size"));
        }
    };
    let columns = columns(arguments);
    let scratch = tempfile::tempdir().at("a folder for pictures")?;
    let bar = progress::bar("grid", columns.len());
    let mut pictures: Vec<Tensor> = Vec::new();
    for column in &columns {
        let request = Request {
            prompts: &prompts,
            seed: arguments.seed,
            size,
            flags: column.flags(&arguments.execution),
        };
        let model = Path::new(&column.model);
        let drawn = bar.suspend(|| sampled::decoded(model, &request, scratch.path()))?;
        pictures.push(drawn);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let place = arguments.output.display();
    let drawn = grid(&pictures)
        .at(&place)
        .map_err(|failure| failure.hint("models of different sizes need -W and -H"))?;
    let captions: Vec<[String; 2]> = columns.iter().map(Column::caption).collect();
    let bytes = captioned(&drawn, &captions, &prompts).at(&place)?;
    outputs::write(&arguments.output, &[bytes.into()])?;
    progress::say(format!("wrote {place}"));
    Ok(())
}

/// The columns from left to right: models, then scales, then steps.
fn columns(arguments: &Arguments) -> Vec<Column> {
    let scales: Vec<Option<f64>> = match &arguments.cfg_scale[..] {
        [] => vec![None],
        scales => scales.iter().copied().map(Some).collect(),
    };
    let mut columns = Vec::new();
    for word in &arguments.models {
        // A folder may have the sign in its name.
        let (model, sampler) = match word.rsplit_once('@') {
            Some((model, sampler)) if !Path::new(word).exists() => (model, Some(sampler)),
            Some(_) | None => (word.as_str(), None),
        };
        for scale in &scales {
            columns.extend(arguments.steps.iter().map(|steps| Column {
                model: model.to_owned(),
                sampler: sampler.map(str::to_owned),
                steps: *steps,
                scale: *scale,
            }));
        }
    }
    columns
}

/// Pixels of a line of text, and of its letters' height.
const LINE: u32 = 18;
const LETTERS: u32 = 14;

/// A grid `[1, 3, rows, columns]` with captions above its columns and a prompt below each row, as a
/// PNG file.
fn captioned(
    drawn: &Tensor,
    captions: &[[String; 2]],
    prompts: &[String],
) -> Result<Vec<u8>, Failure> {
    let (pixels, [high, wide]) = png::pixels(drawn, 0)?;
    let row = high / prompts.len().max(1);
    let column = wide / captions.len().max(1);
    let size = [high + (2 + prompts.len()) * LINE as usize, wide];
    let (Ok(width), Ok(height)) = (u32::try_from(size[1]), u32::try_from(size[0])) else {
        return Err(Failure::job(format!(
            "a grid of {}x{} pixels is too large",
            size[1], size[0]
        )));
    };
    let mut canvas = vec![255; size[0] * size[1] * 3];
    for (number, lines) in pixels.chunks_exact((row * wide * 3).max(1)).enumerate() {
        let top = 2 * LINE as usize + number * (row + LINE as usize);
        canvas[top * wide * 3..][..lines.len()].copy_from_slice(lines);
    }
    let captions = captions.iter().enumerate().flat_map(|(number, lines)| {
        let left = (number * column) as i32 + 2;
        lines
            .iter()
            .zip([2, LINE as i32])
            .map(move |(text, top)| (text, (left, top), column))
    });
    let prompts = prompts.iter().enumerate().map(|(number, text)| {
        let top = 2 * LINE as usize + number * (row + LINE as usize) + row;
        (text, (2, top as i32 + 1), wide)
    });
    let texts: Vec<(String, (i32, i32))> = captions
        .chain(prompts)
        .map(|(text, place, width)| (cut(text, width), place))
        .collect();
    write_texts(&mut canvas, (width, height), &texts).at("captions")?;
    png::encode_rgb(&canvas, (width, height), &BTreeMap::new())
}

/// A text that is not wider than `width` pixels, as letters of this font mostly are.
fn cut(text: &str, width: usize) -> String {
    let most = width * 2 / LETTERS as usize;
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

fn write_texts(
    canvas: &mut [u8],
    size: (u32, u32),
    texts: &[(String, (i32, i32))],
) -> Result<(), String> {
    chart::register()?;
    let area = BitMapBackend::with_buffer(canvas, size).into_drawing_area();
    for (text, place) in texts {
        let font = (chart::FONT, LETTERS).into_font().color(&BLACK);
        let drawn = area.draw(&Text::new(text.clone(), *place, font));
        drawn.map_err(|error| error.to_string())?;
    }
    area.present().map_err(|error| error.to_string())
}
