//! Compilations that are broken off: the old artifact stays whole, and the next one succeeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::answer;
use crate::edit::write;
use crate::support::{copy, golden, scratch, splamc};

const COMPILE: &str = "compile model --target cpu -W 16 -H 16 -o m.splam";
/// Other sizes and another type: no file is the same but the tokenizer's.
const OTHER: &str = "compile model --target cpu -W 32 -H 16 --dtype f16 -o m.splam";

fn prepare(name: &str) -> PathBuf {
    let folder = scratch(name);
    copy(&golden("sd21/model"), &folder.join("model"));
    folder
}

/// The files of a folder and below, with their contents.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            // A compiler at work may rename it meanwhile.
            path => found.extend(fs::read(&path).ok().map(|content| (path, content))),
        }
    }
    found
}

#[test]
fn a_full_disk_leaves_the_old_artifact_or_nothing() {
    let folder = prepare("cli-full-disk");
    let artifact = folder.join("m.splam");
    // A limit on the length of files takes the place of a full disk, which only root can make.
    let limited = |blocks: u32| {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(splamc().get_program());
        command.args(OTHER.split(' ')).current_dir(&folder);
        let output = command.output().expect("the command runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{blocks}: {told}");
        assert!(told.contains("cannot write"), "{blocks}: {told}");
    };
    // In units of 1024 bytes: some files fit, others do not.
    for blocks in [0, 2, 14, 100] {
        limited(blocks);
        assert!(
            !artifact.exists(),
            "{blocks}: {:?}",
            files(&artifact).keys()
        );
    }
    assert_eq!(answer(&folder, COMPILE), "exit 0\n\n");
    write(&artifact, "notes.txt", b"of the user");
    let before = files(&artifact);
    for blocks in [0, 2, 14, 100] {
        limited(blocks);
        assert!(files(&artifact) == before, "{blocks}");
    }
    assert_eq!(answer(&folder, OTHER), "exit 0\n\n");
    let after = files(&artifact);
    assert!(after.contains_key(&artifact.join("notes.txt")));
    let manifest = fs::read_to_string(artifact.join("manifest.json")).expect("a manifest");
    for path in after.keys().filter(|path| !path.ends_with("notes.txt")) {
        let name = path.file_name().expect("a name").display().to_string();
        assert!(
            name == "manifest.json" || manifest.contains(&name),
            "{name} is left over"
        );
    }
}

#[test]
fn a_compilation_that_is_killed_does_not_refuse_the_next() {
    for (is_new, files_min) in [(true, 1), (true, 4), (false, 2), (false, 5)] {
        let folder = prepare("cli-killed");
        let artifact = folder.join("m.splam");
        if !is_new {
            assert_eq!(answer(&folder, COMPILE), "exit 0\n\n");
        }
        let before = files(&artifact);
        let mut command = splamc();
        command
            .args(OTHER.split(' '))
            .current_dir(&folder)
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("the command starts");
        let start = Instant::now();
        while files(&artifact).len() < before.len() + files_min
            && child.try_wait().expect("a child").is_none()
            && start.elapsed() < Duration::from_secs(60)
        {
            sleep(Duration::from_micros(200));
        }
        // It may be too late: then there is a whole new artifact.
        let _ = child.kill();
        let is_done = child.wait().expect("a child").success();
        let after = files(&artifact);
        let manifest = artifact.join("manifest.json");
        if before.get(&manifest) == after.get(&manifest) {
            assert!(
                before
                    .iter()
                    .all(|(path, own)| after.get(path) == Some(own)),
                "{files_min}"
            );
        } else {
            assert!(is_done || after.len() > before.len(), "{files_min}");
        }
        assert_eq!(answer(&folder, OTHER), "exit 0\n\n", "{is_new} {files_min}");
        let count = files(&artifact).len();
        assert_eq!(answer(&folder, OTHER), "exit 0\n\n");
        assert_eq!(files(&artifact).len(), count);
        assert_eq!(
            answer(&folder, "sample m.splam -p x --steps 1 -o x.png"),
            "exit 0\n\n"
        );
    }
}

#[test]
fn a_folder_with_a_manifest_of_another_kind_is_not_touched() {
    let folder = prepare("cli-web-folder");
    fs::create_dir(folder.join("m.splam")).expect("a folder");
    write(
        &folder,
        "m.splam/manifest.json",
        b"{\"name\": \"a web page\"}",
    );
    write(&folder, "m.splam/index.html", b"x");
    let before = files(&folder.join("m.splam"));
    assert!(answer(&folder, COMPILE).contains("exit 1"));
    assert!(files(&folder.join("m.splam")) == before);
}
