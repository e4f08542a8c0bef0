//! Arrows between the files of a room: no circles, and no folder uses one above it.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{Module, Room};
use crate::rust_files;

/// The rooms and where their sources are stored.
const ROOMS: [(&str, &str); 5] = [
    ("compiler", "compiler/src/"),
    ("graphs", "graphs/src/"),
    ("backends", "backends/src/"),
    ("runtime", "runtime/src/"),
    ("cli", "cli/"),
];

/// The folders and files of rooms from the ground up: each may use those before it. What stands
/// together in one row may use each other.
const ORDERS: [(&str, &[&[&str]]); 1] = [(
    "compiler",
    &[
        &["value"],
        &["graph", "ops"],
        &["passes"],
        &["target"],
        &["region"],
        &["tile"],
        &["kernel"],
        &["plan"],
        &["program"],
    ],
)];

/// Files of one circle that is inherent: a function holds operators, and an operator may call
/// functions.
fn inherent(room: &str, module: &[String]) -> bool {
    let name = module.join("::");
    let graph = [
        "graph",
        "graph::func",
        "graph::builder",
        "graph::types",
        "ops",
    ];
    room == "compiler" && (graph.contains(&name.as_str()) || name.starts_with("ops::"))
}

fn uses(folder: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let files = rust_files();
    let own = files.iter().filter_map(|(name, text)| {
        let path = name.strip_prefix(folder)?;
        Some((path, text.as_str()))
    });
    Room::read(own).uses()
}

/// All that `from` reaches.
fn reached<'a>(
    from: &Module,
    uses: &'a BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Module> = uses[from].iter().collect();
    while let Some(module) = open.pop() {
        if found.insert(module) {
            open.extend(&uses[module]);
        }
    }
    found
}

/// Uses that are part of a circle which is not inherent, one a line.
fn circles(room: &str, uses: &BTreeMap<Module, BTreeSet<Module>>) -> String {
    let mut circles = String::new();
    let reach: BTreeMap<_, _> = uses
        .keys()
        .map(|from| (from, reached(from, uses)))
        .collect();
    for (module, used) in uses
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
    {
        let mates = reach[used].contains(module);
        if mates && !(inherent(room, used) && inherent(room, module)) {
            circles += &format!("{room}: {} uses {}\n", module.join("::"), used.join("::"));
        }
    }
    circles
}

#[test]
fn no_file_uses_itself_through_others() {
    let found: String = ROOMS
        .iter()
        .map(|(room, folder)| circles(room, &uses(folder)))
        .collect();
    assert!(found.is_empty(), "uses that are part of a circle:\n{found}");
}

#[test]
fn no_folder_uses_itself_through_others() {
    let mut found = String::new();
    for (room, folder) in ROOMS {
        let mut folders: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        let top = |module: &Module| module.iter().take(1).cloned().collect::<Module>();
        for (module, used) in uses(folder) {
            let others = used.iter().map(top).filter(|other| *other != top(&module));
            folders.entry(top(&module)).or_default().extend(others);
        }
        found += &circles(room, &folders);
    }
    assert!(found.is_empty(), "uses that are part of a circle:\n{found}");
}

#[test]
fn folders_use_those_below_them() {
    for (room, order) in ORDERS {
        let (_, folder) = ROOMS
            .into_iter()
            .find(|(name, _)| *name == room)
            .expect("a room");
        let level = |module: &Module| {
            let top = module.first()?;
            let level = order.iter().position(|row| row.contains(&top.as_str()));
            Some(level.unwrap_or_else(|| panic!("{room}/{top} stands in no row of ORDERS")))
        };
        for (module, used) in uses(folder) {
            for used in used {
                let (Some(own), Some(below)) = (level(&module), level(&used)) else {
                    continue;
                };
                let (module, used) = (module.join("::"), used.join("::"));
                assert!(
                    below <= own,
                    "{room}: {module} uses {used}, which lies above it"
                );
            }
        }
    }
}
