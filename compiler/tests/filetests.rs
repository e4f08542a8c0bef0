//! Runs every file of `filetests/`: a line that says what to do, a graph, `---`, what comes out.
//!
//! `UPDATE_EXPECT=1 cargo test -p compiler --test filetests` writes what comes out into the
//! files; read the difference before you keep it. A file whose name begins with a rule's number
//! (`g6_…`, `k4_…`) must break that rule. Every rewrite has `<rule>.txt`, where it applies, and
//! `<rule>_not.txt`, where it must not; what a pass makes is also evaluated against what it took.

use std::fs;
use std::path::{Path, PathBuf};

use compiler::Bindings;
use compiler::graph::autodiff::backward;
use compiler::graph::text::{ParseError, ParseFault, parse, print, print_func};
use compiler::graph::verify::{rule, verify};
use compiler::graph::{Builder, Func, GraphError, Module, Role, Value};
use compiler::kernel;
use compiler::passes::{self, Pass, RAISE, SIMPLIFY};
use compiler::region::{self, Refusal};
use compiler::target::{Blocking, Blocks, Compute, Limits, MatrixRates, Target};
use compiler::tile::{self, Choice, LowerOptions, Tuning, lower};
use compiler::value::array::Precision;

mod meaning;

use meaning::Named;

/// The limits that kernels are checked against: with warps, as some targets have them.
const LIMITS: Limits = Limits {
    warp: kernel::WARP,
    ..Limits::WEBGPU
};

#[test]

fn every_file_gives_what_it_says() {
    let mut files = Vec::new();
    collect(Path::new("tests/filetests"), &mut files);
    files.sort();
    assert!(files.len() > 20, "found {} files", files.len());
    let failures: Vec<String> = files.iter().filter_map(|file| check(file)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_rewrite_has_a_file_where_it_applies_and_one_where_it_must_not() {
    for (folder, pass) in [("simplify", &SIMPLIFY), ("raise", &RAISE)] {
        for rule in pass.rules() {
            for (suffix, applies) in [("", true), ("_not", false)] {
                let path = format!("tests/filetests/{folder}/{rule}{suffix}.txt");
                let text = fs::read_to_string(&path).expect(&path);
                let applied = text.contains(&format!("\n# {rule} at "));
                assert_eq!(applied, applies, "{path}");
            }
        }
    }
}

#[test]
fn every_tile_program_has_a_file_that_it_computes() {
    for name in tile::names() {
        let path = format!("tests/filetests/tile/{name}.txt");
        let text = fs::read_to_string(&path).expect(&path);
        assert!(text.contains(&format!(" {name} : [")), "{path}");
    }
}

#[test]
fn every_pass_over_kernels_has_a_file_where_it_applies_and_one_where_it_must_not() {
    for pass in kernel::PASSES {
        for (suffix, applies) in [("", true), ("_not", false)] {
            let path = format!("tests/filetests/kernel/{}{suffix}.txt", pass.name);
            let text = fs::read_to_string(&path).expect(&path);
            let (before, after) = text.split_once("\n---\n").expect("a result");
            let (_, before) = before.split_once('\n').expect("a header");
            assert_eq!(before != after.trim_end(), applies, "{path}");
        }
    }
}

#[test]
fn every_fusion_has_a_file_where_it_fuses_and_one_where_it_refuses() {
    for rule in region::rules() {
        for (suffix, mark) in [("", ": "), ("_not", " not at ")] {
            let path = format!("tests/filetests/region/{rule}{suffix}.txt");
            let text = fs::read_to_string(&path).expect(&path);
            assert!(text.contains(&format!("\n# {rule}{mark}")), "{path}");
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder of filetests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
}

/// Runs one file; gives what is wrong.
fn check(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).expect("a text file");
    let (header, rest) = text.split_once('\n')?;
    let (input, wanted) = rest.split_once("\n---\n").unwrap_or((rest, ""));
    let input = input.trim_end_matches('\n');
    let found = run(header, input);
    let name = file.file_stem()?.to_str()?;
    if let Some(number) = name
        .strip_prefix(['g', 'k'])
        .and_then(|n| n.split('_').next())
        && number.parse::<u32>().is_ok()
        && !found.starts_with(&format!("error: {}{number}: ", name[..1].to_uppercase()))
    {
        return Some(format!("{}: broke another rule: {found}", file.display()));
    }
    if found == wanted {
        return None;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(file, format!("{header}\n{input}\n---\n{found}")).expect("a writable file");
        return None;
    }
    Some(format!(
        "{}: found\n{found}wanted\n{wanted}",
        file.display()
    ))
}

/// Does what the header says with the graph; gives the outcome as text.
fn run(header: &str, input: &str) -> String {
    if header == "test blocks" {
        return blocks(input);
    }
    if let Some(what) = header.strip_prefix("test kernel ") {
        return kernel(what, input);
    }
    let module = match parse(input) {
        Ok(module) => module,
        Err(ParseError {
            fault: ParseFault::Graph(source),
            ..
        }) => return broken(&source),
        Err(error) => return format!("error: {error}\n"),
    };
    let printed = print(&module);
    let again = parse(&printed).expect("what is printed is read");
    assert_eq!(again, module, "{header}: reading what was printed");
    assert_eq!(print(&again), printed, "{header}: printing twice");
    let words: Vec<&str> = header.split_whitespace().collect();
    match words.as_slice() {
        ["test", "parse"] => printed,
        ["test", "verify"] => match verify(module) {
            Ok(_) => "ok\n".to_owned(),
            Err(error) => format!("error: {error}\n"),
        },
        ["test", "bind", bindings @ ..] => match bind(&module, bindings) {
            Ok(bound) => print(&bound),
            Err(error) => broken(&error),
        },
        ["test", "simplify", bindings @ ..] => pass(&SIMPLIFY, &module, bindings),
        ["test", "raise", bindings @ ..] => pass(&RAISE, &module, bindings),
        ["test", "region", bindings @ ..] => regions(&module, bindings),
        ["test", "recut"] => recut(&module),
        ["test", "hoist", stable @ ..] => hoisted(&module, stable),
        ["test", "tile", bindings @ ..] => tiles(&module, bindings),
        ["test", "inline", func] => match passes::inline(&module, func) {
            Ok(func) => print_func(&func),
            Err(error) => format!("error: {error}\n"),
        },
        ["test", "gradient", wanted @ ..] => gradient(&module, wanted),
        _ => panic!("unknown header {header:?}"),
    }
}

/// Does what the header says with the kernel; gives the outcome as text.
fn kernel(what: &str, input: &str) -> String {
    let parsed = match kernel::parse(input) {
        Ok(parsed) => parsed,
        Err(error) => return format!("error: {error}\n"),
    };
    let printed = parsed.to_string();
    let again = kernel::parse(&printed).expect("what is printed is read");
    assert_eq!(again.to_string(), printed, "{what}: printing twice");
    match (what, kernel::verify(&parsed, &LIMITS)) {
        ("verify", Ok(())) => "ok\n".to_owned(),
        (_, Err(error)) => format!("error: {error}\n"),
        ("parse", Ok(())) => printed,
        (name, Ok(())) => {
            let pass = |name: &str| {
                let found = kernel::PASSES.iter().find(|pass| pass.name == name);
                found
                    .unwrap_or_else(|| panic!("unknown header {what:?}"))
                    .run
            };
            // What a pass leaves over is swept away, for readers.
            let after = pass("sweep")(pass(name)(parsed));
            assert_eq!(kernel::verify(&after, &LIMITS), Ok(()), "{after}");
            after.to_string()
        }
    }
}

fn broken(error: &GraphError) -> String {
    format!("error: {}: {error}\n", rule(error))
}

/// The function with the gradients of its first result with respect to these parameters.
fn gradient(module: &Module, wanted: &[&str]) -> String {
    let func = &module.funcs[0];
    let params = [Role::Input, Role::Weight].map(|role| func.params(role));
    let params: Vec<(Value, &str)> = params
        .into_iter()
        .flatten()
        .map(|(value, name, _)| (value, name))
        .collect();
    let find = |name: &&str| params.iter().find(|(_, own)| own == name);
    let values: Vec<Value> = wanted.iter().filter_map(find).map(|(v, _)| *v).collect();
    let loss = func.results()[0].1;
    let mut builder = Builder::resume(func.clone());
    match backward(&mut builder, loss, &values) {
        Ok(gradients) => {
            for (name, gradient) in wanted.iter().zip(gradients) {
                let named = builder.result(&format!("grad.{name}"), gradient);
                named.expect("distinct names");
            }
            print_func(&builder.finish())
        }
        Err(error) => format!("error: {error}\n"),
    }
}

fn bind(module: &Module, words: &[&str]) -> Result<Module, GraphError> {
    let binding = |word: &&str| {
        let (name, extent) = word.split_once('=').expect("name=extent");
        (name.to_owned(), extent.parse().expect("an extent"))
    };
    let bindings: Bindings = words.iter().map(binding).collect();
    let funcs = module.funcs.iter().map(|func| func.bind(&bindings));
    let funcs = funcs.collect::<Result<Vec<Func>, _>>()?;
    Ok(Module { funcs })
}

/// Gives what was fused and what was refused as comments, and the regions.
fn regions(module: &Module, bindings: &[&str]) -> String {
    let bound = bind(module, bindings).expect("bindings that fit");
    let mut out = String::new();
    for func in &bound.funcs {
        let formed = region::form(func).expect("a graph of known sizes");
        let exact = Precision::Exact;
        let compute =
            |inputs: &Named, weights: &Named| region::eval(&formed.regions, inputs, weights, exact);
        let difference = meaning::difference_of(func, compute, exact, 1e-9);
        assert_eq!(difference, None, "{}", formed.regions);
        for (rule, count) in &formed.counts {
            out += &format!("# {rule}: {count}\n");
        }
        for refusal in &formed.refusals {
            let Refusal {
                rule,
                region,
                reason,
                ..
            } = refusal;
            out += &format!("# {rule} not at {region}: {reason}\n");
        }
        out += &formed.regions.to_string();
    }
    out
}

/// A target of few blocks at once whose threads share rows, with instructions for matrices.
fn staged() -> Target {
    let compute = Compute {
        threads: 16,
        fragment: [16, 8],
        bytes_per_second: 1e12,
        blocking: Blocking::Staged {
            accumulators_max: 1 << 14,
        },
        matrices: Some(MatrixRates {
            multiprocessors: 16,
            flops_per_second: 10e12,
            near_bytes_per_second: 10e12,
            copied_bytes_per_second: 1e12,
            warps_max: 8,
            launch_seconds: 1e-6,
        }),
        blocks: Blocks {
            depths: &[32],
            depth_unit: 8,
            row_unit: 16,
            ..Target::CPU.compute.blocks
        },
        ..Target::CPU.compute
    };
    Target {
        compute,
        ..Target::CPU
    }
}

/// Gives the regions as kernels of such a target compute them, with the original of each.
fn recut(module: &Module) -> String {
    let mut out = String::new();
    for func in &module.funcs {
        let formed = region::form(func).expect("a graph of known sizes");
        let direct = formed.regions.with_direct_statistics();
        let recut = tile::recut(&direct, &staged());
        assert_eq!(region::verify(&recut.regions), Ok(()), "{}", recut.regions);
        let exact = Precision::Exact;
        let compute =
            |inputs: &Named, weights: &Named| region::eval(&recut.regions, inputs, weights, exact);
        let difference = meaning::difference_of(func, compute, exact, 1e-9);
        assert_eq!(difference, None, "{}", recut.regions);
        for (id, _) in recut.regions.iter().filter(|(id, _)| recut.is_new(*id)) {
            out += &format!("# {id} of {}\n", recut.origin(id));
        }
        out += &recut.regions.to_string();
    }
    out
}

/// Gives the prologue and the body of each function.
fn hoisted(module: &Module, stable: &[&str]) -> String {
    let part = |func: &Func| match passes::hoist(func, stable) {
        Some(hoisted) => {
            let difference = meaning::hoisted_difference(func, &hoisted, Precision::Typed);
            assert_eq!(difference, None, "{}", print_func(&hoisted.body));
            print_func(&hoisted.prologue) + &print_func(&hoisted.body)
        }
        None => "# nothing is hoisted\n".to_owned(),
    };
    module.funcs.iter().map(part).collect()
}

/// Gives the block program of each region, or why there is none.
fn tiles(module: &Module, bindings: &[&str]) -> String {
    let bound = bind(module, bindings).expect("bindings that fit");
    let mut out = String::new();
    for func in &bound.funcs {
        let formed = region::form(func).expect("a graph of known sizes");
        let options = LowerOptions { exact: false };
        let tiled = lower(&formed.regions, &Target::CPU, options, &Tuning::default());
        for ((id, _), choice) in formed.regions.iter().zip(&tiled.choices) {
            match choice {
                Choice::Blocks(program) => {
                    assert_eq!(program.verify(), Ok(()), "{program}");
                    out += &program.to_string();
                }
                Choice::Plain(reasons) => {
                    out += &format!("# {id} plain\n");
                    for (name, reason) in reasons {
                        out += &format!("  # not {name}: {reason}\n");
                    }
                }
            }
        }
        if tiled.added_weight_bytes > 0 {
            out += &format!("# {} bytes of weights more\n", tiled.added_weight_bytes);
        }
        let made = tiled.choices.into_iter().filter_map(|choice| match choice {
            Choice::Blocks(program) => Some(*program),
            Choice::Plain(_) => None,
        });
        assert_eq!(tile::parse(&out), Ok(made.collect()), "{out}");
    }
    out
}

/// Reads block programs and prints them again.
fn blocks(input: &str) -> String {
    match tile::parse(input) {
        Ok(programs) => programs.iter().map(ToString::to_string).collect(),
        Err(error) => format!("error: {error}\n"),
    }
}

/// Gives the patches as comments and the graph; `bindings` are those to evaluate it with.
fn pass(pass: &Pass, module: &Module, bindings: &[&str]) -> String {
    let verified = verify(module.clone()).expect("a graph that keeps the rules");
    let (after, patches) = passes::run(pass, verified, None).expect("a pass without faults");
    let (tolerance, precision) = match pass.name {
        "simplify" => (0.0, Precision::Typed),
        _ => (1e-6, Precision::Exact),
    };
    let before = bind(module, bindings).expect("bindings that fit");
    let bound = bind(&after, bindings).expect("bindings that fit");
    for (before, after) in before.funcs.iter().zip(&bound.funcs) {
        let difference = meaning::difference(before, after, precision, tolerance);
        assert_eq!(difference, None, "{}", print_func(after));
    }
    let mut out = String::new();
    for patch in patches {
        out += &format!("# {} at {:?}: {}\n", patch.rule, patch.origin, patch.reason);
    }
    out + &print(&after)
}
