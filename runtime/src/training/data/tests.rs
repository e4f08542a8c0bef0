//! Tests of indices: which samples files hold, and with which captions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::sample::PictureSample;
use super::{DataSet, PictureSet};

type Files = BTreeMap<String, Bytes>;

fn files(files: &[(&str, &str)]) -> Files {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), Bytes::from((*text).to_owned()));
    files.iter().map(owned).collect()
}

/// A tar file of these members.
fn shard(members: &[(&str, &str)]) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let appended = archive.append_data(&mut header, name, content.as_bytes());
        appended.expect("a member");
    }
    archive.into_inner().expect("a tar file").into()
}

fn pictures(files: Files) -> Result<PictureSet, String> {
    match DataSet::open(Arc::new(files)) {
        Ok(DataSet::Pictures(set)) => Ok(set),
        Ok(DataSet::Encoded(_)) => panic!("they are pictures"),
        Err(error) => Err(error.to_string()),
    }
}

/// A line for each sample: its name, its picture's bytes, its captions.
fn shown(set: &PictureSet) -> Vec<String> {
    let line = |sample: &PictureSample| {
        let picture = sample.picture.read(&*set.files);
        let picture = picture.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let picture = picture.unwrap_or_else(|error| error.to_string());
        let captions = sample.captions.read(&*set.files);
        let captions = captions.map(|captions| captions.join("|"));
        let captions = captions.unwrap_or_else(|error| error.to_string());
        format!("{} <{picture}> {captions}", sample.name)
    };
    set.samples.iter().map(line).collect()
}

fn check(given: Files, wanted: &[&str]) {
    let set = pictures(given).expect("a data set");
    assert_eq!(shown(&set), wanted);
}

fn check_refused(given: Files, wanted: &str) {
    let message = pictures(given).err().unwrap_or("accepted".to_owned());
    assert!(message.contains(wanted), "{message} lacks {wanted}");
}

#[test]
fn captions_are_beside_pictures() {
    check(
        files(&[
            ("a.PNG", "A"),
            ("a.txt", "\u{feff} a fox\n"),
            ("b/c.d.jpeg", "C"),
            ("b/c.d.txt", ""),
            ("b/e.webp", "E"),
            ("b/notes.txt", "nobody's"),
            ("._a.png", "hidden"),
            (".cache/f.png", "hidden"),
        ]),
        &[
            "a.PNG <A> a fox",
            "b/c.d.jpeg <C> ",
            "b/e.webp <E> it has no caption",
        ],
    );
    check_refused(
        files(&[("a.png", "A"), ("b.png", "B")]),
        "no picture has a caption (found 2)",
    );
    check_refused(
        files(&[("notes.txt", "x")]),
        "found no sample (and 1 files in all)",
    );
}

#[test]
fn metadata_has_a_row_for_each_picture() {
    let lines = "{\"file_name\": \"a.png\", \"text\": \"a fox\"}\n\n\
                 {\"file_name\": \"./b.png\", \"caption\": [\"one\", \"two\"], \"id\": 3}\n\
                 {\"file_name\": \"gone.png\", \"text\": []}\n";
    check(
        files(&[
            ("train/metadata.jsonl", lines),
            ("train/a.png", "A"),
            ("train/b.png", "B"),
        ]),
        &[
            "train/a.png <A> a fox",
            "train/b.png <B> one|two",
            "train/gone.png <cannot read \"train/gone.png\": there is no such file> it has no caption",
        ],
    );
    let table = "\u{feff}text,file_name\n\"a fox, red\",a.png\n\"two\nlines\",b.png\n";
    check(
        files(&[
            ("metadata.csv", table),
            ("a.png", "A"),
            ("b.png", "B"),
            ("c.png", "C"),
        ]),
        &["a.png <A> a fox, red", "b.png <B> two\nlines"],
    );
    let cases = [
        (
            "metadata.jsonl",
            "{\"text\": \"x\"}",
            "line 1: expected a text \"file_name\"",
        ),
        ("metadata.jsonl", "\n[]", "line 2: expected a JSON object"),
        (
            "metadata.jsonl",
            "{\"file_name\": \"a\", \"text\": 3}",
            "\"text\" to be a text or a list",
        ),
        ("metadata.jsonl", "{", "line 1: EOF"),
        (
            "metadata.csv",
            "name,text\na,b\n",
            "the columns [\"name\", \"text\"]; expected file_name",
        ),
        ("metadata.csv", "file_name,text\na\n", "line 2"),
        (
            "metadata.csv",
            "file_name\na.png\n",
            "no picture has a caption (found 1)",
        ),
    ];
    for (name, text, wanted) in cases {
        check_refused(files(&[(name, text)]), wanted);
    }
}

#[test]
fn members_of_one_base_name_are_a_sample() {
    let first = shard(&[
        ("x/0001.jpg", "P1"),
        ("x/0001.json", "{\"caption\": \"not this\"}"),
        ("x/0001.txt", "a fox"),
        (
            "x/0002.json",
            "{\"caption\": [\"b\", \"c\"], \"url\": \"http://x\"}",
        ),
        ("x/0002.webp", "P2"),
        ("x/0003.txt", "no picture"),
        ("x/0004.png", "P4"),
        ("x/0005.cls", "7"),
        (".hidden.jpg", "P"),
    ]);
    let second = shard(&[
        ("0001.jpg", "Q1"),
        ("0001.jpg", "Q2"),
        ("0001.txt", "second"),
        ("0002.png", "Q3"),
        ("0002.json", "[]"),
    ]);
    let name = "a/".repeat(60) + "7.png";
    let long = shard(&[(&name, "L"), (&name.replace("png", "caption"), "long")]);
    check(
        BTreeMap::from([
            ("0.tar".to_owned(), first.clone()),
            ("1.tar".to_owned(), second),
            ("2.tar".to_owned(), long),
            (
                "notes.png".to_owned(),
                Bytes::from_static(b"not in a shard"),
            ),
        ]),
        &[
            "0.tar: x/0001.jpg <P1> a fox",
            "0.tar: x/0002.webp <P2> b|c",
            "0.tar: x/0004.png <P4> it has no caption",
            "1.tar: 0001.jpg <Q1> it has no caption",
            "1.tar: 0001.jpg <Q2> second",
            "1.tar: 0002.png <Q3> \"1.tar\" holds no caption: expected a JSON object",
            &format!("2.tar: {name} <L> long"),
        ],
    );
    let one = |shard: Bytes| BTreeMap::from([("0.tar".to_owned(), shard)]);
    // The end of the last member is missing, or the file begins with something else.
    check_refused(
        one(first.slice(..1500)),
        "\"0.tar\" is not a whole tar file",
    );
    check_refused(
        one(Bytes::from(vec![7; 2048])),
        "\"0.tar\" is not a whole tar file",
    );
    check_refused(one(shard(&[])), "found no sample");
}
