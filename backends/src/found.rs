//! Devices as tables show them.
//!
//! Plain data that a backend fills in and the command prints, as lines or as named facts: neither
//! needs to know what the other has.

/// The types of weights that every target takes.
pub(crate) const TYPES: [&str; 3] = ["f32", "f16", "bf16"];

/// A device of a target as tables show it, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is said of it, line by line.
    pub lines: Vec<String>,
    /// The same as named facts, `usable` among them.
    pub facts: Vec<(&'static str, Fact)>,
}

/// What is known of a device under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Whether it has something.
    Flag(bool),
    /// A count or a limit.
    Number(u64),
    /// A name, or a sentence.
    Text(String),
    /// Several names.
    Texts(Vec<&'static str>),
    /// Facts of one kind.
    Group(Vec<(&'static str, Fact)>),
}

impl Found {
    /// The reason why a target has no device here, and what helps.
    pub(crate) fn absent(reason: &str, hint: Option<&str>) -> Found {
        let mut lines = vec![format!("not usable: {reason}")];
        let mut facts = vec![
            ("usable", Fact::Flag(false)),
            ("reason", Fact::Text(reason.to_owned())),
        ];
        if let Some(hint) = hint {
            lines.push(hint.to_owned());
            facts.push(("hint", Fact::Text(hint.to_owned())));
        }
        Found { lines, facts }
    }
}
