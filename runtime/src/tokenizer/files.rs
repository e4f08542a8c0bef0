//! The files of a tokenizer directory, and what they declare.
//!
//! Takes the files' bytes; gives the vocabulary, the merges, the special tokens and the length, as
//! transformers 5 resolves them (`PreTrainedTokenizerBase._from_pretrained`,
//! `TokenizersBackend.__init__`). Never builds a tokenizer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use super::error::TokenizerError;

/// Length of every CLIP text encoder of Stable Diffusion, where the files leave it open.
const CLIP_LENGTH: usize = 77;
/// Longer than any CLIP's; transformers writes 1e30 for "not set".
const MAX_LENGTH: usize = 4096;
/// From here on a length means "not set".
const LENGTH_UNSET: f64 = 1e15;
/// CLIP's special tokens, where the files leave them open.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const CLASSES: [&str; 2] = ["CLIPTokenizer", "CLIPTokenizerFast"];

/// The bytes of a tokenizer directory; a file that it lacks is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `vocab.json`: token to id.
    pub vocab: Option<Bytes>,
    /// `merges.txt`: pairs of tokens, most frequent first.
    pub merges: Option<Bytes>,
    /// `tokenizer_config.json`.
    pub config: Option<Bytes>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<Bytes>,
    /// `tokenizer.json`, whose vocabulary is read where `vocab.json` or `merges.txt` is missing.
    pub tokenizer: Option<Bytes>,
    /// `added_tokens.json`: token to id, read where `tokenizer_config.json` lists no tokens.
    pub added_tokens: Option<Bytes>,
}

impl TokenizerFiles {
    /// The names of the files, in the order of the fields.
    pub const NAMES: [&str; 6] = [
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "added_tokens.json",
    ];

    /// Collects the files by name; `file` gives `None` for a name that does not exist.
    pub fn from_names(mut file: impl FnMut(&str) -> Option<Bytes>) -> TokenizerFiles {
        let [
            vocab,
            merges,
            config,
            special_tokens_map,
            tokenizer,
            added_tokens,
        ] = Self::NAMES.map(&mut file);
        TokenizerFiles {
            vocab,
            merges,
            config,
            special_tokens_map,
            tokenizer,
            added_tokens,
        }
    }

    /// The files that exist, with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Bytes)> {
        let files = [
            &self.vocab,
            &self.merges,
            &self.config,
            &self.special_tokens_map,
            &self.tokenizer,
            &self.added_tokens,
        ];
        let pairs = Self::NAMES.into_iter().zip(files);
        pairs.filter_map(|(name, file)| Some((name, file.as_ref()?)))
    }
}

/// What the files say, resolved.
pub(super) struct Declared {
    pub(super) vocab: Vocab,
    pub(super) merges: Merges,
    pub(super) start: String,
    pub(super) end: String,
    pub(super) unknown: String,
    pub(super) padding: String,
    /// Tokens that are found in the text before it is split, each content once.
    pub(super) added: Vec<AddedToken>,
    /// Ids that the files give to added tokens.
    pub(super) ids: BTreeMap<u32, String>,
    pub(super) max_length: usize,
}

impl Declared {
    pub(super) fn read(files: &TokenizerFiles) -> Result<Declared, TokenizerError> {
        let config: Config = read_or_default("tokenizer_config.json", files.config.as_ref())?;
        check_class(config.tokenizer_class.as_deref())?;
        let max_length = length(config.model_max_length)?;
        let (vocab, merges) = vocabulary(files)?;
        let (listed, map) = match config.added_tokens_decoder {
            // With this list transformers ignores the other files.
            Some(listed) => (listed, SpecialMap::default()),
            None => {
                let map = files.special_tokens_map.as_ref();
                let map = read_or_default("special_tokens_map.json", map)?;
                let extra = config.additional_special_tokens.iter().flatten();
                (added_elsewhere(files, &[&map, &config.named], extra)?, map)
            }
        };
        let named = listed
            .iter()
            .map(|(id, flags)| (*id, flags.content.clone()));
        let ids = named.collect();
        let listed = listed.into_values().map(|flags| flags.token(false));
        let listed: Vec<AddedToken> = listed.collect();
        let pick = |from_map: Option<Special>, from_config: Option<Special>| {
            let from_map = from_map.map(|special| special.resolve(true, &listed));
            from_map.or_else(|| from_config.map(|special| special.resolve(false, &listed)))
        };
        let default = |text: &str| Special::Text(text.to_owned()).resolve(false, &listed);
        let named = config.named;
        let start = pick(map.bos_token, named.bos_token).unwrap_or_else(|| default(START));
        let end = pick(map.eos_token, named.eos_token).unwrap_or_else(|| default(END));
        let unknown = pick(map.unk_token, named.unk_token).unwrap_or_else(|| default(END));
        let padding = pick(map.pad_token, named.pad_token).unwrap_or_else(|| default(END));
        for (role, special) in [("start", &start), ("end", &end), ("padding", &padding)] {
            let content = &special.token.content;
            if !vocab.contains_key(content) && !lists(&listed, content) {
                let content = content.clone();
                return Err(TokenizerError::SpecialToken { role, content });
            }
        }
        let extra = config.additional_special_tokens.into_iter().flatten();
        let extra = extra.map(|special| special.resolve(false, &listed));
        let specials = [&start, &end, &unknown, &padding].into_iter().cloned();
        Ok(Declared {
            added: added(&listed, specials.chain(extra)),
            vocab,
            merges,
            start: start.token.content,
            end: end.token.content,
            unknown: unknown.token.content,
            padding: padding.token.content,
            max_length,
            ids,
        })
    }
}

/// A special token as declared. A bare string never equals a declared token, even of the same
/// flags: which of two declarations counts depends on it (see `added`).
#[derive(Debug, Clone, PartialEq)]
struct Resolved {
    bare: bool,
    token: AddedToken,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Token(Flags),
}

impl Special {
    fn content(&self) -> &str {
        match self {
            Special::Text(content) => content,
            Special::Token(flags) => &flags.content,
        }
    }

    /// The token of this declaration, or the listed one of the same content.
    fn resolve(self, special: bool, listed: &[AddedToken]) -> Resolved {
        let (bare, token) = match self {
            Special::Text(content) => (true, AddedToken::from(content, true)),
            Special::Token(flags) => (false, flags.token(special)),
        };
        match listed.iter().find(|known| known.content == token.content) {
            Some(known) => Resolved {
                bare: false,
                token: known.clone(),
            },
            None => Resolved { bare, token },
        }
    }
}

#[derive(Debug, Deserialize)]
struct Flags {
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    normalized: Option<bool>,
    special: Option<bool>,
}

impl Flags {
    /// The token; `special` where the declaration leaves it open.
    fn token(self, special: bool) -> AddedToken {
        let special = self.special.unwrap_or(special);
        AddedToken {
            content: self.content,
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!special),
            special,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct SpecialMap {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    unk_token: Option<Special>,
    pad_token: Option<Special>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(flatten)]
    named: SpecialMap,
    #[serde(alias = "extra_special_tokens")]
    additional_special_tokens: Option<Vec<Special>>,
    added_tokens_decoder: Option<BTreeMap<u32, Flags>>,
    model_max_length: Option<f64>,
    tokenizer_class: Option<String>,
}

/// `tokenizer.json`, the parts that CLIP's class reads.
#[derive(Debug, Deserialize)]
struct Serialized {
    model: SerializedModel,
}

/// The tokens that `tokenizer.json` adds.
#[derive(Debug, Default, Deserialize)]
struct SerializedTokens {
    #[serde(default)]
    added_tokens: Vec<SerializedToken>,
}

#[derive(Debug, Deserialize)]
struct SerializedToken {
    id: u32,
    #[serde(flatten)]
    flags: Flags,
}

#[derive(Debug, Deserialize)]
struct SerializedModel {
    vocab: Vocab,
    merges: Vec<SerializedMerge>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SerializedMerge {
    Line(String),
    Pair(String, String),
}

/// The tokens, by their ids, of `added_tokens.json`, as transformers before 4.34 wrote tokens that
/// were trained later (textual inversion), and of `tokenizer.json`, which takes precedence.
/// Those that are special by name or listed in `extra` are special.
fn added_elsewhere<'a>(
    files: &TokenizerFiles,
    named: &[&'a SpecialMap],
    extra: impl Iterator<Item = &'a Special>,
) -> Result<BTreeMap<u32, Flags>, TokenizerError> {
    let specials = named.iter().flat_map(|map| {
        let SpecialMap {
            bos_token,
            eos_token,
            unk_token,
            pad_token,
        } = map;
        [bos_token, eos_token, unk_token, pad_token]
    });
    let specials = specials.flatten().map(Special::content);
    let specials: BTreeSet<&str> = specials.chain(extra.map(Special::content)).collect();
    let file = files.added_tokens.as_ref();
    let written: BTreeMap<String, u32> = read_or_default("added_tokens.json", file)?;
    let written = written.into_iter().map(|(content, id)| {
        let special = Some(specials.contains(content.as_str()));
        let flags = Flags {
            content,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: None,
            special,
        };
        (id, flags)
    });
    let serialized: SerializedTokens = read_or_default("tokenizer.json", files.tokenizer.as_ref())?;
    let serialized = serialized.added_tokens.into_iter();
    let serialized = serialized.map(|token| (token.id, token.flags));
    Ok(written.chain(serialized).collect())
}

/// Vocabulary and merges.
fn vocabulary(files: &TokenizerFiles) -> Result<(Vocab, Merges), TokenizerError> {
    if let (Some(vocab), Some(merges)) = (&files.vocab, &files.merges) {
        let text = std::str::from_utf8(merges).map_err(|_| TokenizerError::MergesNotText)?;
        let lines = text.lines().filter(|line| !line.starts_with("#version"));
        let merges = (1..).zip(lines).map(|(number, line)| pair(line, number));
        let merges = merges.collect::<Result<_, _>>()?;
        return Ok((read("vocab.json", vocab)?, merges));
    }
    let file = files
        .tokenizer
        .as_ref()
        .ok_or(TokenizerError::NoVocabulary)?;
    let Serialized { model } = read("tokenizer.json", file)?;
    let merges = (1..).zip(model.merges).map(|(number, merge)| match merge {
        SerializedMerge::Line(line) => pair(&line, number),
        SerializedMerge::Pair(first, second) => Ok((first, second)),
    });
    Ok((model.vocab, merges.collect::<Result<_, _>>()?))
}

fn pair(line: &str, number: usize) -> Result<(String, String), TokenizerError> {
    let (first, second) = line
        .split_once(' ')
        .filter(|(_, second)| !second.contains(' '))
        .ok_or(TokenizerError::Merge { number })?;
    Ok((first.to_owned(), second.to_owned()))
}

/// The tokens to add, each content once: the listed ones, then the special ones that no list
/// holds. Of different declarations of one content the last counts.
fn added(listed: &[AddedToken], specials: impl Iterator<Item = Resolved>) -> Vec<AddedToken> {
    let mut seen: Vec<Resolved> = Vec::new();
    for special in specials {
        if !lists(listed, &special.token.content) && !seen.contains(&special) {
            seen.push(special);
        }
    }
    let mut tokens = listed.to_vec();
    for Resolved { token, .. } in seen {
        match tokens
            .iter_mut()
            .find(|known| known.content == token.content)
        {
            Some(known) => *known = token,
            None => tokens.push(token),
        }
    }
    tokens
}

fn lists(listed: &[AddedToken], content: &str) -> bool {
    listed.iter().any(|token| token.content == content)
}

fn check_class(class: Option<&str>) -> Result<(), TokenizerError> {
    match class {
        Some(found) if !CLASSES.contains(&found) => Err(TokenizerError::Class {
            found: found.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn length(found: Option<f64>) -> Result<usize, TokenizerError> {
    match found {
        None => Ok(CLIP_LENGTH),
        Some(found) if found >= LENGTH_UNSET => Ok(CLIP_LENGTH),
        Some(found) if (2.0..=MAX_LENGTH as f64).contains(&found) => Ok(found as usize),
        Some(found) => Err(TokenizerError::Length {
            found,
            max: MAX_LENGTH,
        }),
    }
}

fn read<T: DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|source| TokenizerError::Json { file, source })
}

fn read_or_default<T: DeserializeOwned + Default>(
    file: &'static str,
    bytes: Option<&Bytes>,
) -> Result<T, TokenizerError> {
    bytes.map_or_else(|| Ok(T::default()), |bytes| read(file, bytes))
}
