//! Renders the data set of the shapes experiment.
//!
//! Takes: a folder, how many pictures, a seed.
//! Gives: `000000.png`, `000000.txt` and so on: pictures of 64×64 pixels and their captions; with
//! `--labels`, a table of what every picture shows, mentioned or not.
//! Never: writes the same picture differently: a picture depends on the seed and its number only.

mod draws;
mod render;
mod scene;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::draws::Draws;
use crate::scene::{SIDE, Scene};

/// Renders captioned pictures of shapes, 64×64 pixels each.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder that the pictures and captions are written to
    out: PathBuf,
    /// How many pictures to render
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: u64,
    /// The seed; another seed gives other pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write what each picture shows, as comma-separated values
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
}

fn main() -> ExitCode {
    match write(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody to tell that an error cannot be told.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> io::Result<()> {
    fs::create_dir_all(&arguments.out)?;
    let mut table = String::from("picture,shape,colour,background,size,position,texture,others\n");
    for index in 0..arguments.count {
        let scene = Scene::draw(&mut Draws::new(arguments.seed, index));
        let name = format!("{index:06}");
        let path = arguments.out.join(&name);
        write_png(&path.with_extension("png"), &render::render(&scene))?;
        fs::write(path.with_extension("txt"), scene.caption() + "\n")?;
        table += &name;
        for label in scene.labels() {
            table += &format!(",{label}");
        }
        table.push('\n');
    }
    match &arguments.labels {
        Some(path) => fs::write(path, table),
        None => Ok(()),
    }
}

fn write_png(path: &Path, pixels: &[u8]) -> io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(())
}
