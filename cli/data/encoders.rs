//! The encoders of a model: compiled now, loaded by the thread that uses them.
//!
//! Takes a model, a place and sizes of pictures; returns what opens the encoders, after a check
//! that their programs fit in memory.

use std::collections::BTreeMap;

use compiler::program::Program;
use compiler::program::pipeline::{Component, LatentSize, Task};
use compiler::tile::Tuning;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;
use runtime::place::Place;
use runtime::session::{Session, SessionError};
use runtime::tokenizer::Tokenizer;
use runtime::training::data::{Encoder, OpenEncoder, PictureNetwork, TextNetwork};

use crate::error::Failure;
use crate::model::Model;
use crate::{memory, progress};

/// A network that is compiled but not loaded.
struct Network {
    program: Program,
    weights: BTreeMap<String, Tensor>,
}

/// What opens the text encoders of a model and its encoder of pictures for each of `sizes`, as rows
/// and columns in pixels.
pub(crate) fn encoders(
    model: &Model,
    place: &Place,
    sizes: &[[usize; 2]],
) -> Result<OpenEncoder, Failure> {
    let pipeline = model.pipeline();
    let spinner = progress::spinner("compile");
    let mut texts = Vec::new();
    for encoder in &pipeline.prompts.encoders {
        let Some(component) = pipeline.component(&encoder.component) else {
            let message = format!("{}: there is no {}", model.place(), encoder.component);
            return Err(Failure::job(message));
        };
        let single = LatentSize {
            batch: 1,
            height: 1,
            width: 1,
        };
        let network = network(model, component, single)?;
        texts.push((network, model.tokenizer(&encoder.tokenizer)?));
    }
    let component = pipeline.of_task(Task::EncodePicture)?;
    let mut pictures = Vec::new();
    for size in sizes {
        let [height, width] = size.map(|extent| extent / pipeline.latents.pixels.max(1));
        let single = LatentSize {
            batch: 1,
            height,
            width,
        };
        pictures.push((*size, network(model, component, single)?));
    }
    drop(spinner);
    let networks = texts.iter().map(|(network, _)| network);
    let networks = networks.chain(pictures.iter().map(|(_, network)| network));
    let programs: Vec<_> = networks
        .map(|network| network.program.executable())
        .collect();
    let needs = memory::check(&model.place(), &programs, place)?;
    progress::say(format!("{:>12} {needs}", "encoders"));
    let (place, tuning) = (place.clone(), model.tuning().clone());
    Ok(Box::new(move || open(texts, pictures, &place, &tuning)))
}

fn network(model: &Model, component: &Component, size: LatentSize) -> Result<Network, Failure> {
    let loaded = model.sized(component, size, &Bindings::new(), None)?;
    Ok(Network {
        program: loaded.program,
        weights: loaded.weights,
    })
}

/// Loads the networks.
fn open(
    texts: Vec<(Network, Tokenizer)>,
    pictures: Vec<([usize; 2], Network)>,
    place: &Place,
    tuning: &Tuning,
) -> Result<Encoder, SessionError> {
    let session =
        |network: Network| Session::open(&network.program, network.weights, place, tuning);
    let text = |(network, tokenizer)| {
        let session = session(network)?;
        Ok(TextNetwork { session, tokenizer })
    };
    let picture = |(size, network)| {
        let session = session(network)?;
        Ok(PictureNetwork { size, session })
    };
    Ok(Encoder {
        texts: texts
            .into_iter()
            .map(text)
            .collect::<Result<_, SessionError>>()?,
        pictures: pictures
            .into_iter()
            .map(picture)
            .collect::<Result<_, SessionError>>()?,
    })
}
