//! The plan's schema: what Rust declares by hand is what `plan.proto` says.

use std::collections::BTreeSet;
use std::fs;

use crate::root;

/// A field as both sides have it: message, name, type, label and number.
type Field = (String, String, String, &'static str, u32);

const FOLDER: &str = "runtime/src/artifact";
const SCALARS: [&str; 5] = ["string", "bytes", "uint32", "uint64", "bool"];

/// The fields of the schema; a field of an enumeration has the type `enum`.
fn of_schema(text: &str) -> BTreeSet<Field> {
    let lines = || text.lines().map(str::trim);
    let enums: Vec<&str> = lines()
        .filter_map(|line| line.strip_prefix("enum ")?.strip_suffix(" {"))
        .collect();
    let (mut message, mut label_of_block) = (None, "");
    let mut fields = BTreeSet::new();
    for line in lines() {
        if let Some(name) = line.strip_prefix("message ") {
            message = name.strip_suffix(" {");
        } else if line.starts_with("enum ") {
            message = None;
        } else if line.starts_with("oneof ") {
            label_of_block = "oneof";
        } else if line == "}" && !label_of_block.is_empty() {
            label_of_block = "";
        }
        let declared = line
            .strip_suffix(';')
            .and_then(|line| line.split_once(" = "));
        let (Some((declared, number)), Some(message)) = (declared, message) else {
            continue;
        };
        let words: Vec<&str> = declared.split(' ').collect();
        let (label, ty, name) = match words[..] {
            ["repeated", ty, name] => ("repeated", ty, name),
            ["optional", ty, name] => ("optional", ty, name),
            [ty, name] => (label_of_block, ty, name),
            _ => panic!("a line of another form: {line}"),
        };
        let ty = if enums.contains(&ty) { "enum" } else { ty };
        let number = number.parse().expect("the number of a field");
        fields.insert((message.into(), name.into(), ty.into(), label, number));
    }
    fields
}

/// The fields of Rust's declarations.
fn of_rust(text: &str) -> BTreeSet<Field> {
    let mut fields = BTreeSet::new();
    let (mut message, mut attribute) = (String::new(), None);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for line in lines {
        let line = line.trim_start_matches("pub(super) ");
        if let Some(name) = line
            .strip_prefix("struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            name.clone_into(&mut message);
        } else if line == "enum Source {" {
            "Upload".clone_into(&mut message);
        } else if let Some(inner) = line.strip_prefix("#[prost(") {
            attribute = inner.strip_suffix(")]");
        } else if let Some(own) = attribute.take() {
            let parts: Vec<&str> = own.split(", ").collect();
            let number = parts.iter().find_map(|part| part.strip_prefix("tag = \""));
            let number = number.and_then(|number| number.strip_suffix('"'));
            let Some(Ok(number)) = number.map(str::parse) else {
                // The whole of a choice, whose fields stand elsewhere.
                continue;
            };
            let (name, declared) = match line.split_once(": ") {
                Some((name, declared)) => (name.to_owned(), declared.trim_end_matches(',')),
                None => {
                    let (name, _) = line.split_once('(').expect("a case of a choice");
                    (name.to_lowercase(), "")
                }
            };
            let kind = parts[0].split(" = ").next().unwrap_or_default();
            let inner = declared
                .trim_start_matches("Vec<")
                .trim_start_matches("Option<");
            let ty = match kind {
                "enumeration" => "enum",
                "message" => inner
                    .trim_end_matches('>')
                    .rsplit("::")
                    .next()
                    .unwrap_or(inner),
                scalar => {
                    assert!(SCALARS.contains(&scalar), "an unknown kind: {own}");
                    scalar
                }
            };
            let label = match (declared.is_empty(), declared, kind) {
                (true, _, _) => "oneof",
                (_, declared, _) if declared.starts_with("Vec<") => "repeated",
                // A message that is absent is told from an empty one without a label.
                (_, declared, kind) if declared.starts_with("Option<") && kind != "message" => {
                    "optional"
                }
                _ => "",
            };
            fields.insert((message.clone(), name, ty.to_owned(), label, number));
        }
    }
    fields
}

#[test]
fn the_plan_is_declared_as_its_schema_says() {
    let read = |file: &str| {
        let path = root().join(FOLDER).join(file);
        fs::read_to_string(path).expect("a file of the artifact's room")
    };
    let schema = of_schema(&read("plan.proto"));
    let mut rust = of_rust(&read("plan.rs"));
    rust.extend(of_rust(&read("commands.rs")));
    assert!(schema.len() > 60, "{} fields", schema.len());
    let only = |first: &BTreeSet<Field>, second: &BTreeSet<Field>| {
        first.difference(second).cloned().collect::<Vec<_>>()
    };
    assert_eq!(only(&schema, &rust), [], "of the schema alone");
    assert_eq!(only(&rust, &schema), [], "of Rust alone");
}
