//! `splamc devices`: what can execute programs on this machine.
//!
//! Takes nothing, prints a table or a JSON object to standard output; a target that is not usable
//! says why.

use backends::{BACKENDS, Fact, Found, host};
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::{driver, memory, stdout};

/// List the targets usable on this machine, with what they offer; say why others are not.
#[derive(clap::Args)]
#[command(after_help = "Examples:
    splamc devices
    splamc devices --json    # names, features and limits as one JSON object")]
pub(crate) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints what there is.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    driver::leave_out_desktop();
    let mut targets = Vec::new();
    for backend in &BACKENDS {
        for Found { mut lines, facts } in (backend.devices)() {
            let mut object = group(&facts);
            object.insert("target".to_owned(), json!(backend.name()));
            if backend == host() {
                object.insert("memory_bytes".to_owned(), json!(memory::bytes()));
                let memory = memory::bytes().map(memory::gigabytes);
                lines.extend(memory.map(|found| format!("{found} GB of memory")));
            }
            targets.push(Value::Object(object));
            if !arguments.json {
                let lines = lines.join("\n      ");
                stdout::print(format_args!("{:<5} {lines}\n", backend.name()))?;
            }
        }
    }
    if arguments.json {
        stdout::print(format_args!("{:#}\n", json!({ "targets": targets })))?;
    }
    Ok(())
}

fn group(facts: &[(&'static str, Fact)]) -> Map<String, Value> {
    let entry = |(name, fact): &(&'static str, Fact)| ((*name).to_owned(), value(fact));
    facts.iter().map(entry).collect()
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Flag(flag) => json!(flag),
        Fact::Number(number) => json!(number),
        Fact::Text(text) => json!(text),
        Fact::Texts(texts) => json!(texts),
        Fact::Group(facts) => Value::Object(group(facts)),
    }
}
