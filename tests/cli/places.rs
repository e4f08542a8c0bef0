//! Where outputs go: links, pipes, devices and folders stay what they are, and a name says what is
//! written.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::edit::{floats, write};
use crate::support::{copy, golden, scratch, splamc};
use crate::{Case, check, whole};

/// Commands with a file to write at the end; what they write is the same each time.
const LINES: [&str; 4] = [
    "sample model -p x --steps 1 -W 16 -H 16 -o",
    "sample model -p x --steps 1 -W 16 -H 16 -o picture.png --latents-out",
    "run model --component vae_decoder --inputs x.safetensors --outputs",
    "grad model --component vae_decoder --inputs t.safetensors --outputs",
];

/// A folder with a model, and inputs for `run` and `grad`.
fn prepare(name: &str) -> std::path::PathBuf {
    let folder = scratch(name);
    copy(&golden("sd21/model"), &folder.join("model"));
    floats(
        &folder,
        "x.safetensors",
        "latent_sample",
        &[1, 4, 2, 2],
        0.5,
    );
    crate::grad::target(&folder, [1, 3, 8, 8]);
    fs::rename(folder.join("x.safetensors"), folder.join("t.safetensors")).expect("renamed");
    floats(
        &folder,
        "x.safetensors",
        "latent_sample",
        &[1, 4, 2, 2],
        0.5,
    );
    folder
}

fn command(folder: &Path, line: &str, output: &str) -> Command {
    let mut command = splamc();
    command
        .args(line.split(' '))
        .arg(output)
        .current_dir(folder);
    command
}

fn succeeds(mut command: Command) -> Vec<u8> {
    let output = command.output().expect("the command runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    output.stdout
}

/// Runs a program that makes a file; whether it could.
fn makes(folder: &Path, line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command
        .args(words)
        .current_dir(folder)
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn an_output_stays_the_kind_of_file_that_it_is() {
    let folder = prepare("cli-kinds-of-outputs");
    let is_link = |name: &str| folder.join(name).is_symlink();
    for line in LINES {
        succeeds(command(&folder, line, "new.png"));
        let wanted = fs::read(folder.join("new.png")).expect("a new file");
        let written = |name: &str| fs::read(folder.join(name)).expect("a file") == wanted;

        write(&folder, "old.png", b"old");
        fs::set_permissions(folder.join("old.png"), Permissions::from_mode(0o640)).expect("a mode");
        succeeds(command(&folder, line, "old.png"));
        let mode = fs::metadata(folder.join("old.png"))
            .expect("a file")
            .permissions();
        assert!(written("old.png") && mode.mode() & 0o777 == 0o640, "{line}");

        let _ = fs::create_dir(folder.join("behind"));
        let _ = symlink("behind/there.png", folder.join("link.png"));
        write(&folder, "behind/there.png", b"old");
        succeeds(command(&folder, line, "link.png"));
        assert!(is_link("link.png") && written("behind/there.png"), "{line}");
        fs::remove_file(folder.join("behind/there.png")).expect("removed");
        succeeds(command(&folder, line, "link.png"));
        assert!(is_link("link.png") && written("behind/there.png"), "{line}");

        let pipe = folder.join("pipe.png");
        assert!(pipe.exists() || makes(&folder, "mkfifo pipe.png"));
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).expect("a pipe")
        });
        succeeds(command(&folder, line, "pipe.png"));
        assert!(reader.join().expect("a reader") == wanted, "{line}");
        let is_pipe = |path: &Path| path.metadata().is_ok_and(|own| own.file_type().is_fifo());
        assert!(is_pipe(&pipe), "{line}");

        assert!(succeeds(command(&folder, line, "-")) == wanted, "{line}");
        let left = fs::read_dir(&folder).expect("a folder").flatten();
        let mut left = left.map(|entry| entry.file_name().display().to_string());
        assert!(
            left.all(|name| !name.ends_with(".part") && name != "-"),
            "{line}"
        );
    }
}

#[test]
fn inputs_are_read_from_a_pipe() {
    let folder = prepare("cli-pipe-in");
    let line = "run model --component vae_decoder --inputs /dev/stdin --outputs";
    let wanted = succeeds(command(&folder, LINES[2], "-"));
    let content = fs::read(folder.join("x.safetensors")).expect("inputs");
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&content).expect("a pipe holds 64 KB");
    drop(writer);
    let mut piped = command(&folder, line, "-");
    piped.stdin(reader);
    assert!(succeeds(piped) == wanted);
}

#[test]
fn a_device_stays_a_device() {
    let folder = prepare("cli-devices-as-outputs");
    // A device of our own, so that a fault does not break the machine: only root may make one.
    if !makes(&folder, "mknod null.png c 1 3") || fs::write(folder.join("null.png"), "").is_err() {
        skip("devices cannot be made here");
        return;
    }
    for line in LINES {
        succeeds(command(&folder, line, "null.png"));
        let kind = fs::symlink_metadata(folder.join("null.png"))
            .expect("a device")
            .file_type();
        assert!(kind.is_char_device(), "{line}");
    }
}

#[test]
fn permissions_of_files_and_folders_decide_what_is_written() {
    let folder = prepare("cli-permissions");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).expect("a mode");
    };
    fs::create_dir(folder.join("closed")).expect("a folder");
    fs::create_dir(folder.join("open")).expect("a folder");
    for name in ["closed/writable.png", "closed/fixed.png", "open/fixed.png"] {
        write(&folder, name, b"old");
    }
    mode("closed/writable.png", 0o666);
    mode("closed/fixed.png", 0o444);
    mode("open/fixed.png", 0o444);
    mode("closed", 0o555);
    mode("open", 0o777);
    if !as_user(command(&folder, "inspect", "model"))
        .output()
        .is_ok_and(|o| o.status.success())
    {
        skip("a user without rights cannot run the command here");
        return;
    }
    let cases = [
        ("closed/writable.png", true),
        ("closed/fixed.png", false),
        ("closed/new.png", false),
        ("open/fixed.png", false),
        ("open/new.png", true),
    ];
    for (name, wanted) in cases {
        let before = fs::read(folder.join(name)).ok();
        let output = as_user(command(&folder, LINES[0], name))
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(i32::from(!wanted)),
            "{name}: {told}"
        );
        let after = fs::read(folder.join(name)).ok();
        assert_eq!(after != before, wanted, "{name}");
        assert!(
            wanted || told.contains("permission denied"),
            "{name}: {told}"
        );
    }
    mode("closed", 0o755);
}

#[test]
fn an_input_survives_outputs_that_cannot_be_written_over_it() {
    let folder = prepare("cli-output-over-input");
    let closed = folder.join("closed");
    fs::create_dir(&closed).expect("a folder");
    let input = closed.join("x.safetensors");
    fs::copy(folder.join("x.safetensors"), &input).expect("copied");
    fs::set_permissions(&input, Permissions::from_mode(0o666)).expect("a mode");
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).expect("a mode");
    let before = fs::read(&input).expect("a file");
    // A limit on the length of files takes the place of a full disk: the old content fits.
    let script = "trap '' XFSZ; ulimit -f $1; shift; exec \"$@\"";
    let run = |blocks: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash", blocks]);
        command.arg(splamc().get_program());
        let line = "run model --component vae_decoder --inputs closed/x.safetensors --outputs";
        command.args(line.split(' ')).arg("closed/x.safetensors");
        command.current_dir(&folder);
        as_user(command).output().expect("it runs")
    };
    let output = run("0");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if told.contains("cannot execute") {
        skip("a user without rights cannot run the command here");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(fs::read(&input).expect("a file") == before, "{told}");
    let output = run("unlimited");
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(&input).expect("a file") != before);
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).expect("a mode");
}

/// Root may write anywhere: its runs are those of a user without rights.
fn as_user(mut command: Command) -> Command {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.uid(65534).gid(65534);
    }
    command
}

/// Says that a test compares nothing.
fn skip(why: &str) {
    #[expect(clippy::print_stderr, reason = "a test that compares nothing says so")]
    {
        eprintln!("skipped: {why}");
    }
}

#[rustfmt::skip]
const CASES: [Case; 9] = [
    ("a picture of another kind", whole, "sample model -p x --steps 1 -o x.jpg"),
    ("several pictures on standard output", whole, "sample model -p x --steps 1 -b 2 -o -"),
    ("a folder that does not exist", whole, "sample model -p x --steps 1 -o x/"),
    ("two outputs of one name", whole, "sample model -p x --steps 1 -o x.png --latents-out x.png"),
    ("two outputs on standard output", whole, "sample model -p x --steps 1 -o - --latents-out -"),
    ("an artifact on standard output", whole, "compile model --target cpu -o -"),
    ("one of several pictures that is a folder", |f| {
        fs::create_dir(f.join("x-1.png")).expect("a folder");
    }, "sample model -p x --steps 1 -b 2 -o x.png"),
    ("links that lead to each other", |f| {
        symlink("b.png", f.join("a.png")).expect("a link");
        symlink("a.png", f.join("b.png")).expect("a link");
    }, "sample model -p x --steps 1 -o a.png"),
    ("a link into a missing folder", |f| {
        symlink("absent/b.png", f.join("a.png")).expect("a link");
    }, "sample model -p x --steps 1 -o a.png"),
];

#[test]
fn outputs_that_cannot_be_meant_are_refused() {
    check("places", &CASES);
}
