//! Which file of a room uses which: a reader of `use` items and of paths in code.
//!
//! Takes the source of a room's files, returns for each file the files that define what it names.
//! A `mod` line is not a use. A `pub use` is not a use either unless the file itself needs the
//! name: a path through it leads to the file that defines the item. Code of tests is left out.

use std::collections::{BTreeMap, BTreeSet};

/// The names of a module and of those around it, from the crate's root.
pub(crate) type Module = Vec<String>;

/// Re-exports that a path may lead through.
const REEXPORTS_MAX: usize = 8;

/// What one `use` item brings in under one name.
struct Import {
    path: Vec<String>,
    name: String,
    public: bool,
}

/// What one file says of others.
#[derive(Default)]
struct Source {
    imports: Vec<Import>,
    /// Paths of at least two segments outside of `use` items.
    paths: BTreeSet<Vec<String>>,
    /// Names outside of `use` items.
    names: BTreeSet<String>,
    /// Child modules that only tests compile.
    tests: BTreeSet<String>,
}

/// The files of one room by module.
pub(crate) struct Room(BTreeMap<Module, Source>);

impl Room {
    /// Reads a room from (path below its source folder, text) of each file.
    pub(crate) fn read<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Room {
        let files = files.map(|(path, text)| (module(path), read(text)));
        let mut room = Room(files.collect());
        let tests = room.0.iter().flat_map(|(module, source)| {
            source
                .tests
                .iter()
                .map(|name| child(module, name))
                .collect::<Vec<_>>()
        });
        for test in tests.collect::<Vec<_>>() {
            room.0.retain(|module, _| !module.starts_with(&test));
        }
        room
    }

    /// The modules that each module uses.
    pub(crate) fn uses(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut uses = BTreeMap::new();
        for (module, source) in &self.0 {
            let named = source.imports.iter().filter(|import| {
                let needed = !import.public || source.names.contains(&import.name);
                needed && (import.name == "*" || !self.0.contains_key(&import.path))
            });
            let paths = named.map(|import| &import.path).chain(&source.paths);
            let found = paths.filter_map(|path| self.resolve(module, path, REEXPORTS_MAX));
            let mut found: BTreeSet<Module> = found.collect();
            found.remove(module);
            uses.insert(module.clone(), found);
        }
        uses
    }

    /// The module that defines what `path` names where `from` says it, or nothing where that is
    /// another crate's, or a module alone (what is used of it counts where it is used).
    fn resolve(&self, from: &[String], path: &[String], reexports: usize) -> Option<Module> {
        let first = path.first()?.as_str();
        let (mut at, mut rest) = match first {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|name| *name == "super").count();
                (from[..from.len().checked_sub(up)?].to_vec(), &path[up..])
            }
            _ if self.0.contains_key(&child(from, first)) => (from.to_vec(), path),
            _ => return self.follow(from, path, false, reexports),
        };
        while let Some(name) = rest.first() {
            if name == "*" {
                return Some(at);
            }
            let below = child(&at, name);
            if !self.0.contains_key(&below) {
                let reexported = self.follow(&at, rest, true, reexports);
                return reexported.or(Some(at));
            }
            (at, rest) = (below, &rest[1..]);
        }
        None
    }

    /// Resolves a path whose first name `module` imports.
    fn follow(
        &self,
        module: &[String],
        path: &[String],
        public: bool,
        reexports: usize,
    ) -> Option<Module> {
        let mut imports = self.0.get(module)?.imports.iter();
        let import = imports.find(|import| import.name == path[0] && (import.public || !public))?;
        let whole = [&import.path, &path[1..]].concat();
        let left = reexports.checked_sub(1)?;
        (whole != path).then(|| self.resolve(module, &whole, left))?
    }
}

fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

/// The module of a file: `a/mod.rs` and `a.rs` are `a`, `lib.rs` and `main.rs` the root.
fn module(path: &str) -> Module {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let mut names: Module = stem.split('/').map(str::to_owned).collect();
    let last = names.last().map(String::as_str);
    if last == Some("mod") || (names.len() == 1 && matches!(last, Some("lib" | "main"))) {
        names.pop();
    }
    names
}

fn read(text: &str) -> Source {
    let mut source = Source::default();
    let tokens = without_tests(&tokens(text), &mut source.tests);
    // The depth of the blocks of code, and at which of them a module within the file begins.
    let (mut depth, mut inner) = (0, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "use" => {
                let rest = tokens[at..].iter();
                let end = at + rest.take_while(|token| *token != ";").count();
                let public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                let first = source.imports.len();
                read_tree(&tokens[at + 1..end], &[], public, &mut source.imports);
                let imports = source.imports[first..].iter_mut();
                imports.for_each(|import| leave(&mut import.path, inner.len()));
                at = end + 1;
                continue;
            }
            "mod" => {
                if tokens.get(at + 2).is_some_and(|token| token == "{") {
                    inner.push(depth);
                }
                at += 2;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inner.retain(|start| *start < depth);
            }
            _ => {}
        }
        let begins = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        let mut path = vec![tokens[at].clone()];
        at += 1;
        while begins && at + 1 < tokens.len() && tokens[at] == "::" && is_name(&tokens[at + 1]) {
            path.push(tokens[at + 1].clone());
            at += 2;
        }
        source.names.extend(path.iter().cloned());
        if path.len() > 1 {
            leave(&mut path, inner.len());
            source.paths.insert(path);
        }
    }
    source
}

/// Makes a path within as many modules of a file one of the file itself.
fn leave(path: &mut Vec<String>, inner: usize) {
    let up = path.iter().take_while(|name| *name == "super").count();
    if (1..=inner).contains(&up) {
        path.splice(..up, ["self".to_owned()]);
    } else if up > inner {
        path.drain(..inner);
    }
}

/// Reads the tree of a `use` item below `prefix`.
fn read_tree(tree: &[String], prefix: &[String], public: bool, imports: &mut Vec<Import>) {
    let Some(open) = tree.iter().position(|token| token == "{") else {
        let cut = tree.iter().position(|token| token == "as");
        let names = tree[..cut.unwrap_or(tree.len())].iter();
        let mut path: Vec<String> = prefix.to_vec();
        path.extend(names.filter(|token| *token != "::").cloned());
        if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        let last = cut
            .and_then(|cut| tree.get(cut + 1))
            .or(path.last())
            .cloned();
        if let Some(name) = last {
            imports.push(Import { path, name, public });
        }
        return;
    };
    let names = tree[..open].iter().filter(|token| *token != "::");
    let prefix: Vec<String> = prefix.iter().chain(names).cloned().collect();
    let (mut depth, mut start) = (0, open + 1);
    for (at, token) in tree.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if (token == "," && depth == 1) || (token == "}" && depth == 0) {
            if start < at {
                read_tree(&tree[start..at], &prefix, public, imports);
            }
            start = at + 1;
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens without items that only tests compile; names of modules among these go to `modules`.
fn without_tests(tokens: &[String], modules: &mut BTreeSet<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is = |offset: usize, wanted: &str| tokens.get(at + offset).is_some_and(|t| t == wanted);
        if !(is(0, "#") && is(1, "[") && is(2, "cfg") && is(4, "test") && is(5, ")")) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let (mut depth, mut end) = (0, at);
        // The item ends with its block, or with a semicolon outside of one.
        while end < tokens.len() {
            match tokens[end].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                "mod" if depth == 0 => drop(modules.insert(tokens[end + 1].clone())),
                _ => {}
            }
            end += 1;
            if depth == 0 && (tokens[end - 1] == "}" || tokens[end - 1] == ";") {
                break;
            }
        }
        at = end;
    }
    kept
}

/// The names, `::` and single marks of a source text, without comments and literals of text.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        at = match chars[at] {
            '/' if next == '/' => skip_until(&chars, at, &['\n']),
            '"' => after_string(&chars, at),
            'r' if next == '"' => skip_until(&chars, at + 2, &['"']) + 1,
            'r' if next == '#' => after_raw_string(&chars, at),
            // A character, unless it is a lifetime.
            '\'' if next == '\\' => skip_until(&chars, at + 3, &['\'']) + 1,
            '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
            ':' if next == ':' => {
                tokens.push("::".to_owned());
                at + 2
            }
            c if c.is_whitespace() => at + 1,
            c if c.is_alphanumeric() || c == '_' => {
                let rest = chars[at..].iter();
                let name: String = rest
                    .take_while(|c| c.is_alphanumeric() || **c == '_')
                    .collect();
                let end = at + name.chars().count();
                tokens.push(name);
                end
            }
            c => {
                tokens.push(c.to_string());
                at + 1
            }
        };
    }
    tokens
}

fn skip_until(chars: &[char], from: usize, ends: &[char]) -> usize {
    let rest = chars.iter().skip(from);
    from + rest.take_while(|c| !ends.contains(c)).count()
}

fn after_string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// After `r#"…"#` with any number of marks.
fn after_raw_string(chars: &[char], from: usize) -> usize {
    let marks = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let mut at = from + marks + 2;
    while at < chars.len() {
        let closing = chars[at + 1..]
            .iter()
            .take(marks)
            .filter(|c| **c == '#')
            .count();
        if chars[at] == '"' && closing == marks {
            break;
        }
        at += 1;
    }
    at + 1 + marks
}

#[test]
fn uses_are_found_through_reexports_and_aliases() {
    let room = Room::read(
        [
            ("lib.rs", "pub mod a; pub mod b; pub use a::A;"),
            (
                "a/mod.rs",
                "mod deep;\nmod own; pub use deep::{A, B as C};\npub fn f() { own::g() }",
            ),
            (
                "a/deep.rs",
                "/* x */ pub struct A; // crate::b::X\nconst S: &str = \"crate::b::Y\";",
            ),
            (
                "a/own.rs",
                "use super::C;\n#[cfg(test)]\nmod tests { use crate::b::D; }\nfn g(c: C) {}",
            ),
            (
                "b.rs",
                "use crate::{a, A};\nfn h<'x>(x: &'x str) { a::f(); }\n#[cfg(test)]\nmod tests;",
            ),
            ("b/tests.rs", "use super::super::a::f;"),
            (
                "c.rs",
                "mod a { mod a { fn f() { super::super::g() } }\nuse super::super::b::X; }",
            ),
        ]
        .into_iter(),
    );
    let shown: Vec<String> = room
        .uses()
        .iter()
        .map(|(module, uses)| {
            let uses: Vec<String> = uses.iter().map(|used| used.join("::")).collect();
            format!("{}: {}", module.join("::"), uses.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            ": ",
            "a: a::own",
            "a::deep: ",
            "a::own: a::deep",
            "b: a a::deep",
            "c: b",
        ]
    );
}
