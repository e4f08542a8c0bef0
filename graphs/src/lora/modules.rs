//! The modules of a model that LoRA layers can belong to, by every name that files have for them.
//!
//! Takes the weights of each network, returns the weight that a layer of a file changes. Names are
//! never guessed back from flattened ones: each module's spellings are listed, and looked up.

use std::collections::BTreeMap;

use crate::ldm_names::LdmNames;

/// The weights of one network.
#[derive(Debug, Clone)]
pub struct Network {
    /// The component's name.
    pub component: String,
    /// The shape of each weight, by its diffusers name.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

/// The modules of the networks of a pipeline.
#[derive(Debug)]
pub struct Modules {
    denoiser: Spelled,
    /// The denoising network's LDM names, where kohya's scripts use them: for SDXL.
    ldm_names: Option<LdmNames>,
    /// In the order of the pipeline.
    encoders: Vec<Spelled>,
}

/// A network's modules by their names in files.
#[derive(Debug)]
struct Spelled {
    component: String,
    /// The shape of the weight of each module, by its diffusers name.
    shapes: BTreeMap<String, Vec<usize>>,
    /// The module of each name with dots.
    dotted: BTreeMap<String, String>,
    /// The module of each name with underscores in place of dots.
    flat: BTreeMap<String, String>,
}

/// A module that a layer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Module<'a> {
    pub(super) component: &'a str,
    /// Its diffusers name.
    pub(super) name: &'a str,
    /// The shape of its weight.
    pub(super) shape: &'a [usize],
}

/// Which network a prefix names.
#[derive(Debug, Clone, Copy)]
enum Which {
    Denoiser,
    Encoder(usize),
}

/// Prefixes of names with underscores.
const FLAT: [(&str, Which); 4] = [
    ("lora_unet_", Which::Denoiser),
    ("lora_te_", Which::Encoder(0)),
    ("lora_te1_", Which::Encoder(0)),
    ("lora_te2_", Which::Encoder(1)),
];

/// Prefixes of names with dots.
const DOTTED: [(&str, Which); 4] = [
    ("unet.", Which::Denoiser),
    ("diffusion_model.", Which::Denoiser),
    ("text_encoder.", Which::Encoder(0)),
    ("text_encoder_2.", Which::Encoder(1)),
];

/// What PEFT puts before every name.
const PEFT: &str = "base_model.model.";

/// Ends of the names of modules of attention, and how diffusers spelled their layers before.
const OLD_SPELLINGS: [(&str, &str); 8] = [
    (".to_q", ".processor.to_q_lora"),
    (".to_k", ".processor.to_k_lora"),
    (".to_v", ".processor.to_v_lora"),
    (".to_out.0", ".processor.to_out_lora"),
    (".q_proj", ".to_q_lora"),
    (".k_proj", ".to_k_lora"),
    (".v_proj", ".to_v_lora"),
    (".out_proj", ".to_out_lora"),
];

/// A weight that networks of SDXL alone have.
const ADDED: &str = "add_embedding.linear_1.weight";

/// What transformers 5 leaves out of the names of text encoders.
const TEXT_MODEL: &str = "text_model.";

impl Modules {
    /// The modules of a denoising network and of the text encoders, in the order of the pipeline.
    pub fn new(denoiser: Network, encoders: Vec<Network>) -> Modules {
        let names = LdmNames::of(denoiser.shapes.keys().map(String::as_str));
        let is_xl = denoiser.shapes.contains_key(ADDED);
        Modules {
            denoiser: Spelled::new(denoiser, |module| names.ldm(module)),
            ldm_names: is_xl.then_some(names),
            encoders: encoders
                .into_iter()
                .map(|encoder| {
                    let bare = |module: &str| module.strip_prefix(TEXT_MODEL).map(str::to_owned);
                    Spelled::new(encoder, bare)
                })
                .collect(),
        }
    }

    /// The module that the layer of this name in a file belongs to.
    pub(super) fn find(&self, layer: &str) -> Option<Module<'_>> {
        for (prefix, which) in FLAT {
            if let Some(rest) = layer.strip_prefix(prefix) {
                let own = self.network(which)?;
                return own.module(own.flat.get(rest)?);
            }
        }
        let layer = layer.strip_prefix(PEFT).unwrap_or(layer);
        for (prefix, which) in DOTTED {
            if let Some(rest) = layer.strip_prefix(prefix) {
                let own = self.network(which)?;
                return own.module(own.dotted.get(rest)?);
            }
        }
        // Text encoders alone have names in common: such a name means the first.
        let all = [&self.denoiser].into_iter().chain(&self.encoders);
        let mut found = all.filter_map(|own| own.module(own.dotted.get(layer)?));
        found.next()
    }

    /// The name that kohya's scripts give to a module.
    pub(super) fn kohya_name(&self, component: &str, module: &str) -> Option<String> {
        if self.denoiser.component == component {
            let ldm = self.ldm_names.as_ref();
            let name = ldm.map_or(Some(module.to_owned()), |names| names.ldm(module))?;
            return Some(format!("lora_unet_{}", flat(&name)));
        }
        let mut encoders = self.encoders.iter();
        let number = encoders.position(|encoder| encoder.component == component)?;
        let name = flat(module);
        Some(match self.encoders.len() {
            1 => format!("lora_te_{name}"),
            _ => format!("lora_te{}_{name}", number + 1),
        })
    }

    fn network(&self, which: Which) -> Option<&Spelled> {
        match which {
            Which::Denoiser => Some(&self.denoiser),
            Which::Encoder(number) => self.encoders.get(number),
        }
    }
}

impl Spelled {
    /// The modules of a network, which may have `another` name.
    fn new(network: Network, another: impl Fn(&str) -> Option<String>) -> Spelled {
        let mut spelled = Spelled {
            component: network.component,
            shapes: BTreeMap::new(),
            dotted: BTreeMap::new(),
            flat: BTreeMap::new(),
        };
        for (weight, shape) in network.shapes {
            // Vectors are biases and norms.
            if let (Some(module), true) = (weight.strip_suffix(".weight"), shape.len() > 1) {
                spelled.add(module, module);
                if let Some(other) = another(module) {
                    spelled.add(module, &other);
                }
                spelled.shapes.insert(module.to_owned(), shape);
            }
        }
        spelled
    }

    /// Lists a name of a module in all spellings.
    fn add(&mut self, module: &str, name: &str) {
        self.dotted.insert(name.to_owned(), module.to_owned());
        self.flat.insert(flat(name), module.to_owned());
        for (end, old) in OLD_SPELLINGS {
            if let Some(start) = name.strip_suffix(end) {
                self.dotted
                    .insert(format!("{start}{old}"), module.to_owned());
            }
        }
    }

    fn module(&self, name: &str) -> Option<Module<'_>> {
        let (name, shape) = self.shapes.get_key_value(name)?;
        Some(Module {
            component: &self.component,
            name,
            shape,
        })
    }
}

/// A name with underscores in place of dots.
fn flat(name: &str) -> String {
    name.replace('.', "_")
}
