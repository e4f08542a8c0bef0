//! `splamc grid`: methods and steps side by side, on the same prompts and the same noise.
//!
//! Takes models, prompts and numbers of steps; samples each by `splamc sample` itself and writes one
//! PNG with captions. It computes no picture.

use std::collections::BTreeMap;
use std::path::PathBuf;

use compiler::value::tensor::Tensor;
use plotters::prelude::{BLACK, BitMapBackend, IntoDrawingArea, IntoFont, Text};
use runtime::training::pictures::grid;

use crate::columns::{Column, Drawn, columns, drawn};
use crate::error::{At, Failure};
use crate::options::{self, Execution};
use crate::sampled::{self, Request};
use crate::{chart, outputs, png, progress};

/// Draw models and numbers of steps side by side.
///
/// A column for each model, scale and number of steps, a row for each prompt. All pictures of a row
/// begin with the same noise. A model may be followed by @ and a sampler, to compare solvers, by :
/// and numbers of steps of its own, and by = and a guidance scale.
#[derive(clap::Args)]
#[command(
    after_help = "A column for each model, scale and number of steps, a row for each prompt. All \
    pictures of a row\nbegin with the same noise.\n\n\
    Examples:\n  \
    splamc grid run/ema --prompts prompts.txt --steps 1,2,4 -o grid.png\n  \
    splamc grid sd15@ddim sd15@unipc splam lcm --prompts prompts.txt --steps 1,2,4 -o grid.png\n  \
    splamc grid sd15@ddim:50,4=5 run/ema:4,2,1 --prompts prompts.txt -o grid.png\n  \
    splamc grid sd15/ --prompts prompts.txt --steps 20 --cfg-scale 3,5,8 -o scales.png"
)]
pub(crate) struct Arguments {
    /// The models: diffusers or ONNX directories, or compiled .splam; @NAME chooses a sampler, :N,…
    /// numbers of steps, =X a guidance scale.
    #[arg(required = true, value_name = "MODEL[@SAMPLER][:N,…][=X]", value_parser = drawn)]
    models: Vec<Drawn>,
    /// The prompts, one a line; four of our own if not given
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The numbers of steps of models that have none of their own
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,2,4"
    )]
    #[arg(value_parser = options::count)]
    steps: Vec<usize>,
    /// The guidance scales, in the standard form, of models that have none here; their own if not
    /// given
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
    let columns = columns(&arguments.models, &arguments.cfg_scale, &arguments.steps);
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
        let drawn = bar.suspend(|| sampled::decoded(&column.model, &request, scratch.path()))?;
        pictures.push(drawn);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let place = arguments.output.display();
    let drawn = grid(&pictures)
        .at(&place)
        .map_err(|failure| failure.hint("models of different sizes need -W and -H"))?;
    let bytes = captioned(&drawn, &columns, &prompts).at(&place)?;
    outputs::write(&arguments.output, &[bytes.into()])?;
    progress::say(format!("wrote {place}"));
    Ok(())
}

/// Pixels of a line of text, and of its letters' height.
const LINE: usize = 20;
const LETTERS: usize = 14;

/// The fewest pixels of a column, so that a caption fits: smaller pictures are enlarged.
const COLUMN_MIN: usize = 128;

/// A text, its place as columns and rows in pixels, and the width that it may have.
type Caption = (String, [usize; 2], usize);

/// A grid `[1, 3, rows, columns]` with captions above its columns and a prompt below each row, as a
/// PNG file.
fn captioned(drawn: &Tensor, columns: &[Column], prompts: &[String]) -> Result<Vec<u8>, Failure> {
    let (pixels, size) = png::pixels(drawn, 0)?;
    let factor = COLUMN_MIN.div_ceil((size[1] / columns.len().max(1)).max(1));
    let pixels = enlarged(&pixels, size, factor);
    let [high, wide] = size.map(|extent| extent * factor);
    let row = high / prompts.len().max(1);
    let top = |number: usize| 2 * LINE + number * (row + LINE);
    let (Ok(width), Ok(height)) = (u32::try_from(wide), u32::try_from(top(prompts.len()))) else {
        return Err(Failure::job(format!(
            "a grid of {wide}x{high} pixels is too large"
        )));
    };
    let mut canvas = vec![255; top(prompts.len()) * wide * 3];
    for (number, lines) in pixels.chunks_exact((row * wide * 3).max(1)).enumerate() {
        canvas[top(number) * wide * 3..][..lines.len()].copy_from_slice(lines);
    }
    let mut captions = above(columns, wide / columns.len().max(1));
    let below = prompts.iter().enumerate();
    captions.extend(below.map(|(number, text)| (text.clone(), [0, top(number) + row], wide)));
    write_texts(&mut canvas, (width, height), &captions).at("captions")?;
    png::encode_rgb(&canvas, (width, height), &BTreeMap::new())
}

/// Pixels of `[rows, columns]`, each repeated along both axes.
fn enlarged(pixels: &[u8], [_, columns]: [usize; 2], factor: usize) -> Vec<u8> {
    let mut larger = Vec::with_capacity(pixels.len() * factor * factor);
    for line in pixels.chunks_exact((columns * 3).max(1)) {
        let line: Vec<u8> = line
            .chunks_exact(3)
            .flat_map(|pixel| pixel.repeat(factor))
            .collect();
        larger.extend(line.repeat(factor));
    }
    larger
}

/// The captions above columns of `width` pixels: a model over all of its columns, steps over each.
fn above(columns: &[Column], width: usize) -> Vec<Caption> {
    let mut captions: Vec<Caption> = Vec::new();
    let mut start = 0;
    for group in columns.chunk_by(|a, b| a.name() == b.name()) {
        captions.push((group[0].name(), [start * width, 0], group.len() * width));
        for (number, column) in group.iter().enumerate() {
            let left = (start + number) * width;
            captions.push((column.settings(), [left, LINE], width));
        }
        start += group.len();
    }
    captions
}

/// A text that is not wider than `width` pixels, as letters of this font mostly are.
fn cut(text: &str, width: usize) -> String {
    let most = width * 2 / LETTERS;
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

fn write_texts(canvas: &mut [u8], size: (u32, u32), captions: &[Caption]) -> Result<(), String> {
    /// Pixels between a text and what is left of it or above.
    const MARGIN: usize = 3;
    chart::register()?;
    let area = BitMapBackend::with_buffer(canvas, size).into_drawing_area();
    for (text, [left, top], width) in captions {
        let font = (chart::FONT, LETTERS as u32).into_font().color(&BLACK);
        let place = ((left + MARGIN) as i32, (top + MARGIN) as i32);
        let drawn = area.draw(&Text::new(cut(text, *width), place, font));
        drawn.map_err(|error| error.to_string())?;
    }
    area.present().map_err(|error| error.to_string())
}
