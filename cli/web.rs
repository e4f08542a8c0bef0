//! `splamc web`: a page that runs a model in the browser, for any static web host.
//!
//! Takes a model in any form and writes a directory with the page, the package and the artifact. The
//! page and the package are part of this program; `examples/browser` builds them.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::compile;
use crate::error::{At, Failure, said};
use crate::model::Model;
use crate::options::Precision;
use crate::{artifact_folder, outputs, progress};

/// The files of the page and the package.
const FILES: [(&str, &[u8]); 7] = [
    (
        "core.wasm",
        include_bytes!("../examples/browser/dist/core.wasm"),
    ),
    (
        "engine.js",
        include_bytes!("../examples/browser/dist/engine.js"),
    ),
    (
        "index.html",
        include_bytes!("../examples/browser/dist/index.html"),
    ),
    (
        "index.js",
        include_bytes!("../examples/browser/dist/index.js"),
    ),
    (
        "page.css",
        include_bytes!("../examples/browser/dist/page.css"),
    ),
    (
        "page.js",
        include_bytes!("../examples/browser/dist/page.js"),
    ),
    (
        "worker.js",
        include_bytes!("../examples/browser/dist/worker.js"),
    ),
];
/// The artifact's folder as the page names it before it knows the model.
const PLACEHOLDER: &str = "model.splam/";
/// The target that browsers run.
const TARGET: &str = "wgsl";

/// Write a page that runs a model in the browser, for any static web host.
///
/// The directory holds the page, the package @splamc/web and the compiled model. Pictures are made
/// on the visitor's GPU through WebGPU; the host only serves files.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc web examples/shapes/model -o site\n  \
    splamc web sd15/ --dtype f16 -o site\n  \
    splamc web sd15-gpu.splam -o site      # compiled with --target wgsl\n  \
    python3 -m http.server --directory site")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, or a .splam compiled with --target wgsl.
    model: PathBuf,
    /// The directory to write.
    #[arg(short, long)]
    output: PathBuf,
    /// The type of weights and values; f32, or an exported graph's own types, if not given.
    #[arg(long)]
    dtype: Option<Precision>,
    /// Width in pixels; the model's own size if not given.
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels; the model's own size if not given.
    #[arg(short = 'H', long)]
    height: Option<usize>,
}

/// Writes the directory: the artifact first, so that the page never names one that is not there.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        model,
        output,
        dtype,
        width,
        height,
    } = arguments;
    if outputs::is_stdout(output) {
        let message = "a page is a directory, which cannot be standard output";
        return Err(Failure::usage(message).hint("name a directory with -o"));
    }
    fs::create_dir_all(output)
        .map_err(said)
        .at(output.display())?;
    let name = artifact_name(model)?;
    let artifact = output.join(&name);
    let opened = Model::open(model)?;
    match opened.is_compiled() {
        false => {
            let sizes = (*width, *height);
            compile::execute(&compile::Arguments::for_web(
                model, &artifact, *dtype, sizes,
            )?)?;
        }
        true => copy(&opened, arguments, &artifact)?,
    }
    for (file, content) in FILES {
        let content = match file {
            "index.html" => page(content, &name),
            _ => Bytes::from_static(content),
        };
        outputs::write(&output.join(file), &[content])?;
    }
    progress::say(format!(
        "wrote {}: serve it, for example with python3 -m http.server --directory {}",
        output.display(),
        output.display()
    ));
    Ok(())
}

/// Copies a compiled model, checked.
fn copy(model: &Model, arguments: &Arguments, to: &Path) -> Result<(), Failure> {
    let place = arguments.model.display();
    if arguments.dtype.is_some() || arguments.width.is_some() || arguments.height.is_some() {
        let message = "--dtype, -W and -H are options of a model that is not compiled yet";
        return Err(Failure::usage(message).hint("leave them out, or pass the model's directory"));
    }
    let artifact = model.artifact().expect("a compiled model has its artifact");
    let about = &artifact.manifest().about;
    let advice = format!("compile the model with --target {TARGET}");
    let refused = |what: String| Failure::job(format!("{place}: {what}")).hint(&advice);
    if about.target != TARGET {
        let found = &about.target;
        return Err(refused(format!(
            "it was compiled for {found}; browsers run {TARGET}"
        )));
    }
    if !artifact.has_weights() {
        return Err(refused("it has no weights".to_owned()));
    }
    if about.vae_tiling.is_some() {
        return Err(refused(
            "it was compiled with --vae-tiling, which the page cannot run".into(),
        ));
    }
    model.expect_text_to_image()?;
    artifact_folder::check(to)?;
    artifact_folder::write(to, &artifact.contents().at(&place)?)?;
    Ok(())
}

/// The folder of the artifact in the directory: the model's name where an address can hold it.
fn artifact_name(model: &Path) -> Result<String, Failure> {
    let whole = fs::canonicalize(model).map_err(said).at(model.display())?;
    let stem = whole
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    Ok(match !stem.is_empty() && stem.bytes().all(is_plain) {
        true => format!("{stem}.splam"),
        false => "model.splam".to_owned(),
    })
}

/// The page, with the name of its artifact.
fn page(template: &'static [u8], name: &str) -> Bytes {
    let text = String::from_utf8_lossy(template);
    assert!(text.contains(PLACEHOLDER), "the page names its artifact");
    text.replace(PLACEHOLDER, &format!("{name}/")).into()
}
