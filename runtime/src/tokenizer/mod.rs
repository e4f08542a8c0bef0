//! CLIP's tokenizer: from a prompt to the ids that the text encoder reads.
//!
//! Takes the bytes of a tokenizer directory of a diffusers pipeline; gives ids that equal those of
//! transformers 5's `CLIPTokenizer`, cut and padded to the model's length. Never warns: it tells
//! the caller what was cut.

mod error;
mod files;

use tokenizers::SplitDelimiterBehavior;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

pub use self::error::TokenizerError;
use self::files::Declared;
pub use self::files::TokenizerFiles;

/// What CLIP reads as one word: a special token, an English contraction, a run of letters, one
/// digit, or a run of anything else that is not space (Radford et al. 2021, `simple_tokenizer`).
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A prompt's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// `[max_length]`: the start token, the prompt's tokens, the end token, padding.
    pub ids: Vec<i64>,
    /// Tokens of the whole prompt, start and end included, before anything was cut.
    pub token_count: usize,
    /// Whether the prompt's tail was cut off to fit.
    pub truncated: bool,
}

/// A loaded CLIP tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: i64,
    end: i64,
    padding: i64,
    max_length: usize,
}

impl Tokenizer {
    /// Builds the tokenizer from the files of its directory. Where `vocab.json` and `merges.txt`
    /// are missing, `tokenizer.json` gives both.
    ///
    /// # Errors
    /// When a file is missing or malformed, or a special token is not in the vocabulary.
    pub fn from_files(files: &TokenizerFiles) -> Result<Tokenizer, TokenizerError> {
        let declared = Declared::read(files)?;
        let model = BPE::builder()
            .vocab_and_merges(declared.vocab, declared.merges)
            .unk_token(declared.unknown)
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(refused)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let spaces = ReplacePattern::Regex(r"\s+".to_owned());
        inner.with_normalizer(Some(Sequence::new(vec![
            NFC.into(),
            Replace::new(spaces, " ").map_err(refused)?.into(),
            Lowercase.into(),
        ])));
        let words = SplitPattern::Regex(WORDS.to_owned());
        let removed = SplitDelimiterBehavior::Removed;
        inner.with_pre_tokenizer(Some(PreSequence::new(vec![
            Split::new(words, removed, true).map_err(refused)?.into(),
            ByteLevel::new(false, true, true).into(),
        ])));
        inner.add_tokens(&declared.added);
        let id = |role, content: &str| {
            let content = content.to_owned();
            let id = inner.token_to_id(&content).map(i64::from);
            id.ok_or(TokenizerError::SpecialToken { role, content })
        };
        for (&wanted, content) in &declared.ids {
            match inner.token_to_id(content) {
                Some(found) if found != wanted => {
                    let content = content.clone();
                    return Err(TokenizerError::AddedId {
                        content,
                        wanted,
                        found,
                    });
                }
                Some(_) | None => {}
            }
        }
        let start = id("start", &declared.start)?;
        let end = id("end", &declared.end)?;
        let padding = id("padding", &declared.padding)?;
        Ok(Tokenizer {
            inner,
            start,
            end,
            padding,
            max_length: declared.max_length,
        })
    }

    /// How many ids the text encoder reads: 77 for every CLIP of Stable Diffusion.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Entries of the vocabulary, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Encodes a prompt of any length; text that spells a special token becomes that token.
    ///
    /// # Errors
    /// When the vocabulary lacks both a byte of the prompt and the unknown token.
    pub fn encode(&self, text: &str) -> Result<Encoded, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false).map_err(refused)?;
        let (found, room) = (encoding.get_ids(), self.max_length - 2);
        let mut ids = Vec::with_capacity(self.max_length);
        ids.push(self.start);
        ids.extend(found.iter().take(room).map(|&id| i64::from(id)));
        ids.push(self.end);
        ids.resize(self.max_length, self.padding);
        Ok(Encoded {
            ids,
            token_count: found.len() + 2,
            truncated: found.len() > room,
        })
    }
}

fn refused(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Refused {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    macro_rules! golden {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/golden/pipeline/", $name)).as_slice()
        };
    }

    /// The golden tokenizer: 934 tokens, start 932, end and padding 933.
    fn golden_files() -> TokenizerFiles {
        TokenizerFiles {
            vocab: Some(golden!("model/tokenizer/vocab.json").into()),
            merges: Some(golden!("model/tokenizer/merges.txt").into()),
            config: Some(golden!("model/tokenizer/tokenizer_config.json").into()),
            special_tokens_map: Some(golden!("model/tokenizer/special_tokens_map.json").into()),
            tokenizer: None,
            added_tokens: None,
        }
    }

    fn bytes(value: &Value) -> Option<Bytes> {
        Some(value.to_string().into())
    }

    /// The ids of a text without start, end and padding, as transformers gives them.
    fn check(files: &TokenizerFiles, text: &str, wanted: &[i64]) {
        let tokenizer = Tokenizer::from_files(files).expect("the files are good");
        let encoded = tokenizer
            .encode(text)
            .expect("every byte is in the vocabulary");
        let found = &encoded.ids[1..encoded.token_count - 1];
        assert_eq!(found, wanted, "{text:?}");
    }

    fn check_refused(files: &TokenizerFiles, wanted: &str) {
        let message = match Tokenizer::from_files(files) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(wanted), "{message}");
    }

    #[test]
    fn every_golden_case_is_equal() {
        let tokenizer = Tokenizer::from_files(&golden_files()).expect("the golden files are good");
        let cases: Vec<Value> = serde_json::from_slice(golden!("tokenizer_cases.json"))
            .expect("the golden file is JSON");
        for case in cases {
            let text = case["text"].as_str().expect("every case has a text");
            let encoded = tokenizer
                .encode(text)
                .expect("the vocabulary has every byte");
            assert_eq!(json!(encoded.ids), case["padded77"], "{text:?}");
            let all = case["ids"].as_array().expect("every case has ids");
            // A list that ends in "..." was shortened to 90.
            let shortened = all.last().is_some_and(Value::is_string);
            assert_eq!(encoded.truncated, all.len() > 77, "{text:?}");
            assert!(shortened || encoded.token_count == all.len(), "{text:?}");
        }
    }

    #[test]
    fn tokenizer_json_alone_is_enough() {
        let files = golden_files();
        let vocab: Value = serde_json::from_slice(golden!("model/tokenizer/vocab.json"))
            .expect("the golden file is JSON");
        let merges = std::str::from_utf8(golden!("model/tokenizer/merges.txt"))
            .expect("the golden file is text");
        let lines: Vec<&str> = merges.lines().skip(1).collect();
        let pairs: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
        for merges in [json!(lines), json!(pairs)] {
            let files = TokenizerFiles {
                vocab: None,
                merges: None,
                tokenizer: bytes(&json!({"model": {"vocab": vocab, "merges": merges}})),
                ..files.clone()
            };
            check(&files, "a photo of a cat", &[320, 838, 776, 320, 609]);
        }
    }

    /// Ids from transformers 5.23 with the same files.
    #[test]
    fn special_tokens_are_found_as_declared() {
        let token = |content: &str, normalized: bool| {
            json!({"content": content, "lstrip": false, "normalized": normalized,
                   "rstrip": false, "single_word": false})
        };
        let (start, end) = ("<|startoftext|>", "<|endoftext|>");
        let split_start = [27, 347, 514, 516, 554, 69, 83, 68, 87, 339, 91, 285];
        let split_end = [27, 347, 544, 561, 69, 83, 68, 87, 339, 91, 285];
        let with = |config: Value, map: Value| TokenizerFiles {
            config: bytes(&config),
            special_tokens_map: bytes(&map),
            ..golden_files()
        };

        let bare = with(json!({}), json!({}));
        check(&bare, "<|endoftext|>a", &[933, 320]);
        check(&bare, "<|STARTOFTEXT|>", &split_start);
        check(&bare, "<|ENDOFTEXT|>", &split_end);

        let mixed = with(
            json!({"bos_token": token(start, true), "eos_token": token(end, true)}),
            json!({}),
        );
        check(&mixed, "<|STARTOFTEXT|>", &[932]);
        check(&mixed, "<|ENDOFTEXT|>", &split_end);

        let last_counts = with(
            json!({"eos_token": token(end, false), "unk_token": token(end, true),
                   "pad_token": token(end, false)}),
            json!({}),
        );
        check(&last_counts, "<|ENDOFTEXT|>", &[933]);

        let padding = with(
            json!({"pad_token": end}),
            json!({"bos_token": token(start, true), "eos_token": token(end, true),
                   "unk_token": token(end, true), "pad_token": "!"}),
        );
        check(&padding, "a!! b !", &[320, 0, 0, 321, 0]);
        check(&padding, "<|ENDOFTEXT|>", &[933]);

        let listed = with(
            json!({"pad_token": "!", "added_tokens_decoder": {
                "0": token("!", false), "932": token(start, true), "933": token(end, false)}}),
            json!({"pad_token": end}),
        );
        check(&listed, "a!! b !", &[320, 0, 0, 321, 0]);
        check(&listed, "<|STARTOFTEXT|>", &[932]);
        check(&listed, "<|ENDOFTEXT|>", &split_end);

        let extra = with(json!({"additional_special_tokens": ["<Cat>"]}), json!({}));
        check(&extra, "a<Cat>", &[320, 934]);
        check(&extra, "<cat>", &[283, 609, 285]);
    }

    /// Ids from transformers 5.24 with the same files.
    #[test]
    fn added_tokens_are_read_from_every_file_that_may_list_them() {
        let token = |content: &str| {
            json!({"content": content, "lstrip": false, "normalized": true,
                   "rstrip": false, "single_word": false, "special": false})
        };
        let (cat, dog) = ("<cat-toy>", "<dog>");
        let none = json!({});
        let special = json!({"additional_special_tokens": [cat]});
        let listed = json!({"added_tokens_decoder": {"934": token(dog)}});
        let mut of_json = token(dog);
        of_json["id"] = json!(934);
        let of_json = json!({"added_tokens": [of_json]});
        let split_cat = [283, 609, 268, 554, 344, 285];
        let split_dog = [934, 283, 828, 285];
        let both = [&split_cat[..5], &[29, 283, 828, 285]].concat();
        let dog_split = [&split_cat[..], &[934]].concat();
        // tokenizer_config.json, added_tokens.json, tokenizer.json, text, ids.
        type Case<'a> = (&'a Value, Value, Option<&'a Value>, &'a str, &'a [i64]);
        #[rustfmt::skip]
        let cases: [Case<'_>; 13] = [
            (&none, json!({}), None, "a <cat-toy> b", &[&[320], &split_cat[..], &[321]].concat()),
            (&none, json!({}), None, "<cat-toy><dog>", &both),
            (&none, json!({cat: 934}), None, "a <cat-toy> b", &[320, 934, 321]),
            (&none, json!({cat: 934}), None, "a<cat-toy>", &[320, 934]),
            (&none, json!({cat: 934}), None, "<CAT-TOY>", &[934]),
            (&none, json!({cat: 934}), None, "<cat-toy><dog>", &split_dog),
            (&none, json!({dog: 935, cat: 934}), None, "<cat-toy><dog>", &[934, 935]),
            (&none, json!({dog: 934, cat: 935}), None, "<cat-toy><dog>", &[935, 934]),
            (&none, json!({"<|endoftext|>": 933, cat: 934}), None, "a<cat-toy>", &[320, 934]),
            (&special, json!({cat: 934}), None, "<CAT-TOY>", &split_cat),
            (&listed, json!({cat: 934}), None, "<cat-toy><dog>", &dog_split),
            (&none, json!({}), Some(&of_json), "<cat-toy><dog>", &dog_split),
            (&none, json!({cat: 934}), Some(&of_json), "<cat-toy><dog>", &dog_split),
        ];
        for (config, added, tokenizer, text, wanted) in cases {
            let files = TokenizerFiles {
                config: bytes(config),
                added_tokens: bytes(&added),
                tokenizer: tokenizer.and_then(bytes),
                ..golden_files()
            };
            check(&files, text, wanted);
        }
        let with = |added: Value| TokenizerFiles {
            config: None,
            added_tokens: bytes(&added),
            ..golden_files()
        };
        let tokenizer = Tokenizer::from_files(&with(json!({cat: 934}))).expect("good files");
        assert_eq!(tokenizer.vocabulary(), 935);
        check_refused(
            &with(json!({cat: 940})),
            "added token \"<cat-toy>\" has the id 940, but its place is 934",
        );
        check_refused(&with(json!({cat: 5})), "has the id 5, but its place is 934");
        check_refused(&with(json!({cat: "x"})), "added_tokens.json");
    }

    #[test]
    fn padding_and_length_are_the_configurations() {
        let files = |config: Value| TokenizerFiles {
            config: bytes(&config),
            special_tokens_map: None,
            ..golden_files()
        };
        let check = |config: Value, text: &str, wanted: &[i64], truncated: bool| {
            let tokenizer = Tokenizer::from_files(&files(config)).expect("the files are good");
            let encoded = tokenizer
                .encode(text)
                .expect("every byte is in the vocabulary");
            assert_eq!((&*encoded.ids, encoded.truncated), (wanted, truncated));
        };
        let short = json!({"model_max_length": 4, "pad_token": "!"});
        check(short.clone(), "", &[932, 933, 0, 0], false);
        check(short.clone(), "a", &[932, 320, 933, 0], false);
        check(short.clone(), "a a", &[932, 320, 320, 933], false);
        check(short, "a a a", &[932, 320, 320, 933], true);
        for unset in [json!({}), json!({"model_max_length": 1e30})] {
            let tokenizer = Tokenizer::from_files(&files(unset)).expect("the files are good");
            assert_eq!(tokenizer.max_length(), 77);
        }
        check_refused(&files(json!({"model_max_length": 1})), "model_max_length 1");
        check_refused(&files(json!({"model_max_length": 1e9})), "model_max_length");
    }

    #[test]
    fn malformed_files_are_refused() {
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let good = golden_files;
        let cases = [
            (
                TokenizerFiles {
                    vocab: None,
                    ..good()
                },
                "neither vocab.json",
            ),
            (
                TokenizerFiles {
                    vocab: text("{\"a\": -1}"),
                    ..good()
                },
                "vocab.json",
            ),
            (
                TokenizerFiles {
                    vocab: text("{}"),
                    merges: text(""),
                    ..good()
                },
                "start token",
            ),
            (
                TokenizerFiles {
                    merges: text("#version: 0.2\ni n\nbroken\n"),
                    ..good()
                },
                "merge 2",
            ),
            (
                TokenizerFiles {
                    merges: text("\u{1F680} n\n"),
                    ..good()
                },
                "refuses",
            ),
            (
                TokenizerFiles {
                    merges: Some(Bytes::from_static(&[0xFF])),
                    ..good()
                },
                "UTF-8",
            ),
            (
                TokenizerFiles {
                    config: text("{\"tokenizer_class\": \"T5Tokenizer\"}"),
                    ..good()
                },
                "T5Tokenizer",
            ),
            (
                TokenizerFiles {
                    special_tokens_map: text("{\"pad_token\": \"<pad>\"}"),
                    ..good()
                },
                "padding token \"<pad>\"",
            ),
        ];
        for (files, wanted) in cases {
            check_refused(&files, wanted);
        }
    }
}
