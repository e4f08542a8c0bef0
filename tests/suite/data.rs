//! Batches of a training: the same from pictures and from what was encoded, from whatever number
//! on, and with unreadable samples.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use compiler::DType;
use compiler::graph::bind::solve;
use compiler::program::pipeline::{LatentSize, Pipeline, Task};
use compiler::program::{Program, compile};
use compiler::tile::Tuning;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;
use graphs::models::Timestep;
use graphs::onnx::Request;
use graphs::pipeline::{self, Options};
use runtime::place::{self, Place};
use runtime::session::Session;
use runtime::tokenizer::{Tokenizer, TokenizerFiles};
use runtime::training::data::{
    Batch, Crop, DataFiles, DataSet, Encoder, Encoding, Feed, INDEX, Loader, OpenEncoder,
    PictureFeed, PictureNetwork, PictureSet, Preparation, Settings, TextNetwork, UNCONDITIONAL,
    shard_files,
};

use crate::support::{Folder, folder};

fn cpu() -> Place {
    Place::cpu(place::Options {
        threads: Some(1),
        exact: true,
    })
}

/// Sizes of pictures, and so of buckets.
const SIZES: [[usize; 2]; 2] = [[32, 32], [32, 64]];

/// Files in memory.
struct Memory(BTreeMap<String, Bytes>);

impl DataFiles for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name)?.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        let missing = || io::Error::other("there is no such file");
        self.0.get(name).cloned().ok_or_else(missing)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        Ok(self
            .read(name)?
            .slice(range.start as usize..range.end as usize))
    }
}

/// A model in memory.
struct Model {
    files: Folder,
    model: pipeline::Model,
}

type Compiled = (Program, BTreeMap<String, Tensor>);

impl Model {
    fn open() -> Model {
        let files = folder("sdxl/model");
        let model = pipeline::open(&files).expect("the pipeline opens");
        Model { files, model }
    }

    fn pipeline(&self) -> &Pipeline {
        &self.model.pipeline
    }

    fn network(&self, name: &str, [height, width]: [usize; 2]) -> Compiled {
        let component = self
            .pipeline()
            .component(name)
            .expect("it has the component");
        let size = LatentSize {
            batch: 1,
            height,
            width,
        };
        let shapes = component
            .shapes(&self.pipeline().latents, size)
            .expect("known inputs");
        let shapes: Vec<Vec<usize>> = shapes.into_iter().map(|(_, shape)| shape).collect();
        let declared = self.model.inputs(&self.files, name, Timestep::Scalar);
        let bindings = solve(&declared.expect("it has inputs"), &shapes).expect("they fit");
        let options = Options {
            dtype: DType::F32,
            timestep: Timestep::Scalar,
            request: Request {
                bindings: Bindings::new(),
                inputs: BTreeMap::new(),
                dtype: None,
            },
        };
        let imported = self
            .model
            .import(&self.files, name, &options)
            .expect("it is imported");
        let compiled = compile(&imported.func, &bindings).expect("it compiles");
        (compiled.program, imported.weights)
    }

    fn encoder(&self) -> OpenEncoder {
        let texts = self.pipeline().prompts.encoders.iter().map(|encoder| {
            let file = |name: &str| {
                self.files
                    .get(&format!("{}/{name}", encoder.tokenizer))
                    .cloned()
            };
            let files = TokenizerFiles::from_names(file);
            let tokenizer = Tokenizer::from_files(&files).expect("a tokenizer");
            (self.network(&encoder.component, [1, 1]), tokenizer)
        });
        let texts: Vec<_> = texts.collect();
        let name = &self
            .pipeline()
            .of_task(Task::EncodePicture)
            .expect("it has one")
            .name;
        let picture = |size: [usize; 2]| (size, self.network(name, size.map(|pixels| pixels / 8)));
        let pictures = SIZES.map(picture);
        let session = |(program, weights): Compiled| {
            Session::open(&program, weights, &cpu(), &Tuning::default())
        };
        Box::new(move || {
            let text = |(network, tokenizer)| TextNetwork {
                session: session(network).expect("it is loaded"),
                tokenizer,
            };
            let picture = |(size, network)| PictureNetwork {
                size,
                session: session(network).expect("it is loaded"),
            };
            Ok(Encoder {
                texts: texts.into_iter().map(text).collect(),
                pictures: pictures.into_iter().map(picture).collect(),
            })
        })
    }
}

fn png(rows: u32, columns: u32, seed: u32) -> Bytes {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns, rows);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let value = |place: u32| (place.wrapping_mul(97 + seed) ^ (place >> 3)) as u8;
    let pixels: Vec<u8> = (0..rows * columns * 3).map(value).collect();
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    bytes.into()
}

/// So many pictures of two aspects, of which number 6 is damaged, with two captions each.
fn files(count: u32) -> Memory {
    let mut files = BTreeMap::new();
    let mut rows = String::new();
    for number in 0..count {
        let name = format!("{number}.png");
        let columns = if number % 3 == 0 { 80 } else { 40 };
        let picture = match number {
            6 => Bytes::from_static(b"damaged"),
            _ => png(40, columns, number),
        };
        rows += &format!("{{\"file_name\": \"{name}\", \"text\": [\"a {number}\", \"b\"]}}\n");
        files.insert(name, picture);
    }
    files.insert("metadata.jsonl".to_owned(), rows.into());
    Memory(files)
}

fn pictures(count: u32) -> PictureSet {
    match DataSet::open(Arc::new(files(count))) {
        Ok(DataSet::Pictures(set)) => set,
        Ok(DataSet::Encoded(_)) => panic!("they are pictures"),
        Err(error) => panic!("{error}"),
    }
}

fn feed(model: &Model, count: u32, crop: Crop, cache_bytes: u64) -> Feed {
    let pictures = pictures(count);
    let flip = crop == Crop::Random;
    Feed::Pictures(PictureFeed {
        buckets: pictures.buckets(&SIZES, &mut || ()),
        pictures,
        preparation: Preparation { crop, flip },
        encoder: model.encoder(),
        cache_bytes,
    })
}

const SETTINGS: Settings = Settings {
    seed: 7,
    batch: 2,
    accumulate: 2,
    ahead: 2,
};

fn batches(model: &Model, feed: Feed, first: u64, count: usize) -> Vec<Batch> {
    let loader = Loader::start(feed, model.pipeline(), SETTINGS, first);
    let mut loader = loader.unwrap_or_else(|error| panic!("{error}"));
    let next = |_| {
        loader
            .next_batch()
            .unwrap_or_else(|error| panic!("{error}"))
    };
    (0..count).map(next).collect()
}

/// What a batch is, without who was found to be unreadable on the way.
fn essence(batches: &[Batch]) -> Vec<Batch> {
    let without = |batch: &Batch| Batch {
        skipped: Vec::new(),
        ..batch.clone()
    };
    batches.iter().map(without).collect()
}

#[test]
fn any_batch_can_be_the_first_and_caches_change_nothing() {
    let model = Model::open();
    let all = batches(&model, feed(&model, 7, Crop::Random, 0), 0, 9);
    let later = batches(&model, feed(&model, 7, Crop::Random, 1 << 20), 5, 4);
    assert_eq!(essence(&later), essence(&all[5..]));
    for batch in &all {
        let &[2, 4, 4, width] = batch.latents.shape() else {
            panic!("latents of shape {:?}", batch.latents.shape());
        };
        assert!(width == 4 || width == 8);
        let names: Vec<&str> = batch.conditions.keys().map(String::as_str).collect();
        assert_eq!(names, ["encoder_hidden_states", "text_embeds", "time_ids"]);
        assert_eq!(
            batch.conditions["encoder_hidden_states"].shape()[..2],
            [2, 77]
        );
        // Sizes are the pictures' also where there is no caption.
        assert_eq!(
            batch.unconditional["time_ids"],
            batch.conditions["time_ids"]
        );
        let zeros = batch.unconditional["text_embeds"].bytes();
        assert!(zeros.iter().all(|byte| *byte == 0));
        assert!(!batch.names.contains(&"6.png".to_owned()));
    }
    // Two of three samples of the bucket of wide pictures can be used, and 6.png was drawn.
    let skipped: Vec<&str> = all
        .iter()
        .flat_map(|batch| &batch.skipped)
        .map(|skipped| skipped.name.as_str())
        .collect();
    assert_eq!(skipped, ["6.png"]);
    let center = batches(&model, feed(&model, 7, Crop::Center, 0), 0, 9);
    let cached = batches(&model, feed(&model, 7, Crop::Center, 1 << 20), 0, 9);
    assert_eq!(center, cached);
    assert_ne!(essence(&center), essence(&all));
}

#[test]
fn encoded_data_give_the_batches_of_their_pictures() {
    let model = Model::open();
    let set = pictures(6);
    let encoder = (model.encoder())().expect("it opens");
    let named = ("sdxl", model.pipeline());
    let mut encoding = Encoding::new(&set, named, (&SIZES, Crop::Center), 0, 3).expect("it begins");
    let index = serde_json::to_vec(encoding.index()).expect("JSON");
    let unconditional = encoding.unconditional(&encoder).expect("a text").concat();
    let mut files = BTreeMap::from([
        (INDEX.to_owned(), Bytes::from(index)),
        (UNCONDITIONAL.to_owned(), unconditional.into()),
    ]);
    for number in 0..encoding.index().shards() {
        let shard = encoding
            .shard(&encoder, number, &mut || ())
            .expect("it is encoded");
        let [tensors, list] = shard_files(number);
        files.insert(tensors, shard.tensors.concat().into());
        files.insert(list, shard.list);
    }
    let open = |files: BTreeMap<String, Bytes>| match DataSet::open(Arc::new(Memory(files))) {
        Ok(DataSet::Encoded(set)) => Ok(set),
        Ok(DataSet::Pictures(_)) => panic!("they are encoded"),
        Err(error) => Err(error.to_string()),
    };
    let encoded = open(files.clone()).expect("it is complete");
    let found = batches(&model, Feed::Encoded(encoded), 0, 8);
    let wanted = batches(&model, feed(&model, 6, Crop::Center, 0), 0, 8);
    assert_eq!(found, wanted);

    files.remove("00001.json");
    let message = open(files).err().expect("it is not complete");
    assert!(message.contains("shard 1 of 2 is missing"), "{message}");
}
