//! The cache of tuning results beside an artifact: `MODEL.splam.tune.json`.
//!
//! Takes what a device measured, keeps it for later runs on the same machine; the artifact itself
//! never depends on it. A cache that cannot be used is ignored with a warning: everything works
//! without, a little slower. Measurements of other machines stay in the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use compiler::program::Program;
use compiler::tile::{Case, Measurement, Tuning};
use runtime::devices::{TuneOptions, tune};
use runtime::place::Options;
use serde::{Deserialize, Serialize};

use crate::error::{At, Failure, said};
use crate::{outputs, progress};

/// The form of the file; another one is not read.
const FORMAT: u32 = 1;

/// No cache is longer: a thousand regions are 1 MB.
const BYTES_MAX: u64 = 32 << 20;

/// The time for quick measurements of all programs together, in seconds.
const QUICK_SECONDS: f64 = 60.0;

/// Regions of a smaller share of a program's time are not measured.
const SHARE_MIN: f64 = 0.002;

/// Ways to compute a region that are measured.
const CONTENDERS_MAX: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    format: u32,
    /// Who measured: kernels change from version to version.
    producer: String,
    cases: Vec<Entry>,
}

/// A case with its measurements, and the machine that they were made on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    machine: String,
    target: String,
    threads: usize,
    region: String,
    measured: Vec<Way>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Way {
    program: String,
    parameters: [usize; 3],
    seconds: f64,
}

/// The cache of the artifact at `path`.
fn beside(path: &Path) -> PathBuf {
    let named = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = named.file_name().unwrap_or_default().to_owned();
    name.push(".tune.json");
    named.with_file_name(name)
}

/// What was measured on this machine of the artifact at `path`.
pub(crate) fn load(path: &Path) -> Tuning {
    of_machine(entries(&beside(path)), &machine()).0
}

/// What was measured on one machine, and what on others.
fn of_machine(entries: Vec<Entry>, machine: &str) -> (Tuning, Vec<Entry>) {
    let entries = entries.into_iter();
    let (own, others): (Vec<_>, _) = entries.partition(|entry| entry.machine == machine);
    let cases = own.into_iter().map(case).collect();
    (Tuning { cases }, others)
}

fn case(entry: Entry) -> (Case, Vec<Measurement>) {
    let measurement = |way: Way| Measurement {
        program: way.program,
        parameters: way.parameters,
        seconds: way.seconds,
    };
    let case = Case {
        region: entry.region,
        target: entry.target,
        threads: entry.threads,
    };
    (case, entry.measured.into_iter().map(measurement).collect())
}

fn entry((case, measured): (&Case, &Vec<Measurement>), machine: &str) -> Entry {
    let way = |own: &Measurement| Way {
        program: own.program.clone(),
        parameters: own.parameters,
        seconds: own.seconds,
    };
    Entry {
        machine: machine.to_owned(),
        target: case.target.clone(),
        threads: case.threads,
        region: case.region.clone(),
        measured: measured.iter().map(way).collect(),
    }
}

/// The entries of a cache; none, after a warning, if it cannot be used.
fn entries(path: &Path) -> Vec<Entry> {
    if !path.exists() {
        return Vec::new();
    }
    match read(path) {
        Ok(cache) => cache.cases,
        Err(reason) => {
            let path = path.display();
            progress::warn(format!("{path}: the tuning cache is ignored: {reason}"));
            Vec::new()
        }
    }
}

fn read(path: &Path) -> Result<Cache, String> {
    let bytes = fs::metadata(path).map_err(said)?.len();
    if bytes > BYTES_MAX {
        return Err(format!(
            "it has {bytes} bytes; expected at most {BYTES_MAX}"
        ));
    }
    let text = fs::read_to_string(path).map_err(said)?;
    let cache: Cache = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match (cache.format, cache.producer == producer()) {
        (FORMAT, true) => Ok(cache),
        (FORMAT, false) => Err(format!(
            "it holds measurements of {:?}; expected those of {:?}",
            cache.producer,
            producer()
        )),
        (format, _) => Err(format!("its format is {format}; expected {FORMAT}")),
    }
}

/// Measures `programs` of the artifact at `path` on this machine, as far as that was not done
/// before, and adds what is new to its cache.
pub(crate) fn quick(path: &Path, programs: &[Program], execution: Options) -> Result<(), Failure> {
    let (start, machine, cache) = (Instant::now(), machine(), beside(path));
    outputs::check(&cache)?;
    let (mut tuning, mut cases) = of_machine(entries(&cache), &machine);
    let known = tuning.cases.len();
    let bar = progress::bar("tune", 0);
    let mut left: u64 = programs.iter().map(flops).sum();
    for program in programs {
        let seconds = QUICK_SECONDS - start.elapsed().as_secs_f64();
        let options = TuneOptions {
            threads: execution.threads,
            exact: execution.exact,
            seconds: seconds * flops(program) as f64 / left as f64,
            share_min: SHARE_MIN,
            contenders_max: CONTENDERS_MAX,
        };
        left -= flops(program);
        let clock = || start.elapsed().as_secs_f64();
        let found = tune(program, &tuning, options, &clock, &mut |done, count| {
            bar.set_length(count as u64);
            bar.set_position(done as u64);
        })
        .at("tuning")?;
        tuning.cases.extend(found.cases);
    }
    bar.finish_and_clear();
    cases.extend(tuning.cases.iter().map(|own| entry(own, &machine)));
    write(&cache, cases)?;
    progress::say(format!(
        "wrote {} ({} regions measured) in {:.1} s",
        cache.display(),
        tuning.cases.len() - known,
        start.elapsed().as_secs_f64(),
    ));
    Ok(())
}

/// The work of a program: 1 at least, so that it can be divided by.
fn flops(program: &Program) -> u64 {
    program.cost().flops.max(1)
}

fn write(path: &Path, cases: Vec<Entry>) -> Result<(), Failure> {
    let cache = Cache {
        format: FORMAT,
        producer: producer(),
        cases,
    };
    let text = serde_json::to_string_pretty(&cache).at(path.display())?;
    outputs::write(path, &[(text + "\n").into()])
}

fn producer() -> String {
    format!("splamc {}", env!("CARGO_PKG_VERSION"))
}

/// The processor's name where the system reports it, else its architecture.
pub(crate) fn machine() -> String {
    let facts = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = facts.lines();
    let name = lines.find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|line| line.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(region: &str, seconds: f64) -> (Case, Vec<Measurement>) {
        let case = Case {
            region: region.to_owned(),
            target: "AVX2".to_owned(),
            threads: 3,
        };
        let measurement = Measurement {
            program: "gemm".to_owned(),
            parameters: [56, 320, 384],
            seconds,
        };
        (case, vec![measurement])
    }

    fn folder(name: &str) -> PathBuf {
        let name = format!("splamc-tuning-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("a.splam")).expect("a folder");
        folder
    }

    #[test]
    fn what_is_written_is_read_on_the_same_machine() {
        let folder = folder("same");
        let (artifact, cache) = (folder.join("a.splam"), folder.join("a.splam.tune.json"));
        assert_eq!(load(&artifact), Tuning::default(), "no cache is no fault");
        let ours = measured("00ff", 0.012_345_678_9);
        let foreign = measured("00ff", 1.0);
        let entries = vec![
            entry((&ours.0, &ours.1), &machine()),
            entry((&foreign.0, &foreign.1), "another machine"),
        ];
        write(&cache, entries).expect("written");
        assert_eq!(
            load(&artifact).cases.into_iter().collect::<Vec<_>>(),
            [ours]
        );
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_ignored() {
        let folder = folder("broken");
        let cache = folder.join("a.splam.tune.json");
        let whole = |format: u32, producer: &str, way: &str| {
            format!(
                r#"{{"format": {format}, "producer": "{producer}", "cases": [{{"machine": "{}",
                "target": "AVX2", "threads": 3, "region": "00ff", "measured": [{way}]}}]}}"#,
                machine()
            )
        };
        let ours = producer();
        let way = r#"{"program": "gemm", "parameters": [1, 2, 3], "seconds": 0.5}"#;
        let short = r#"{"program": "gemm", "parameters": [1, 2], "seconds": 0.5}"#;
        let endless = r#"{"program": "gemm", "parameters": [1, 2, 3], "seconds": 1e999}"#;
        let negative = r#"{"program": "gemm", "parameters": [-1, 2, 3], "seconds": 0.5}"#;
        let cases = [
            (whole(1, &ours, way), true),
            (whole(2, &ours, way), false),
            (whole(1, "splamc 0.0.1", way), false),
            (whole(1, &ours, short), false),
            (whole(1, &ours, endless), false),
            (whole(1, &ours, negative), false),
            (whole(1, &ours, way)[..60].to_owned(), false),
            ("[".repeat(100_000), false),
            (String::new(), false),
        ];
        for (text, wanted) in cases {
            fs::write(&cache, &text).expect("written");
            let found = !load(&folder.join("a.splam")).cases.is_empty();
            assert_eq!(found, wanted, "{}", &text[..text.len().min(200)]);
        }
        fs::remove_file(&cache).expect("removed");
        fs::create_dir(&cache).expect("a folder where a file was wanted");
        assert_eq!(load(&folder.join("a.splam")), Tuning::default());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
