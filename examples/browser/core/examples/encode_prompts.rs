//! Token ids of prompts, for the test that compares the tokenizer of the browser's package.
//!
//! Takes a tokenizer's folder, and on standard input a JSON list of texts; prints a JSON list with
//! the ids of each.

use std::io::{self, Write};
use std::path::PathBuf;

use runtime::tokenizer::{Tokenizer, TokenizerFiles};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a tokenizer's folder")?);
    let file = |name: &str| std::fs::read(folder.join(name)).ok().map(Into::into);
    let tokenizer = Tokenizer::from_files(&TokenizerFiles::from_names(file))?;
    let texts: Vec<String> = serde_json::from_reader(io::stdin().lock())?;
    let mut all = Vec::with_capacity(texts.len());
    for text in &texts {
        all.push(tokenizer.encode(text)?.ids);
    }
    io::stdout().write_all(&serde_json::to_vec(&all)?)?;
    Ok(())
}
