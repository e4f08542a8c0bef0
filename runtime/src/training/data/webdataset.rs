//! Webdataset shards: tar files whose members of one base name are one sample.
//!
//! Takes the names of shards, returns the samples and where in the shards their members are. Only
//! headers are read. The base name ends at the first dot of the member's file name; what follows
//! says what the member is.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::error::DataError;
use super::files::{DataFiles, Section, is_picture};
use super::sample::{Captions, PictureSample};

/// Endings of captions, the better one first.
const CAPTIONS: [&str; 4] = ["txt", "text", "caption", "json"];

/// Whether a file of this name is a shard.
pub(super) fn is_shard(name: &str) -> bool {
    name.ends_with(".tar")
}

/// The samples of one shard: members of one base name, wherever they are in it. Base names without
/// a picture are none.
///
/// # Errors
/// When the shard cannot be read, or is damaged or cut.
pub(super) fn samples(files: &dyn DataFiles, shard: &str) -> Result<Vec<PictureSample>, DataError> {
    let wrong = |reason: String| DataError::Shard {
        file: shard.to_owned(),
        reason,
    };
    let length = files.length(shard);
    let length = length.map_err(|error| super::files::failed(shard, error))?;
    let reader = RangeReader {
        files,
        name: shard,
        position: 0,
        length,
    };
    let mut groups = Groups::default();
    let file: Arc<str> = shard.into();
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries_with_seek();
    for entry in entries.map_err(|error| wrong(error.to_string()))? {
        let entry = entry.map_err(|error| wrong(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let start = entry.raw_file_position();
        let end = start.saturating_add(entry.size());
        if end > length {
            let reason = format!("found {length} bytes; expected at least {end}");
            return Err(wrong(reason));
        }
        let Ok(member) = String::from_utf8(entry.path_bytes().into_owned()) else {
            return Err(wrong("the name of a member is not UTF-8 text".to_owned()));
        };
        let section = Section {
            file: file.clone(),
            range: Some(start..end),
        };
        groups.add(&member, section);
    }
    Ok(groups.samples(shard))
}

/// Members by base name, in the order of their first member.
#[derive(Default)]
struct Groups {
    groups: Vec<Group>,
    /// The last group of each base name.
    places: HashMap<String, usize>,
}

/// The members of one base name.
struct Group {
    /// The picture, and its member's name.
    picture: Option<(String, Section)>,
    /// By the places of [`CAPTIONS`].
    captions: [Option<Section>; CAPTIONS.len()],
}

impl Groups {
    /// Adds a member. A second picture of one base name begins another sample.
    fn add(&mut self, member: &str, section: Section) {
        let file = member.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = member[file..].find('.').filter(|dot| *dot > 0) else {
            return;
        };
        let (key, ending) = (&member[..file + dot], &member[file + dot + 1..]);
        let ending = ending.to_ascii_lowercase();
        let caption = CAPTIONS.iter().position(|own| *own == ending);
        if caption.is_none() && !is_picture(&ending) {
            return;
        }
        let known = self.places.get(key).copied();
        let taken = |place: &usize| match caption {
            Some(caption) => self.groups[*place].captions[caption].is_some(),
            None => self.groups[*place].picture.is_some(),
        };
        let place = known.filter(|place| !taken(place)).unwrap_or_else(|| {
            self.groups.push(Group {
                picture: None,
                captions: [const { None }; CAPTIONS.len()],
            });
            self.places.insert(key.to_owned(), self.groups.len() - 1);
            self.groups.len() - 1
        });
        let group = &mut self.groups[place];
        match caption {
            Some(caption) => group.captions[caption] = Some(section),
            None => group.picture = Some((member.to_owned(), section)),
        }
    }

    fn samples(self, shard: &str) -> Vec<PictureSample> {
        let sample = |group: Group| {
            let (member, picture) = group.picture?;
            let mut captions = group.captions.into_iter().enumerate();
            let caption = captions.find_map(|(place, section)| Some((place, section?)));
            Some(PictureSample {
                name: format!("{shard}: {member}"),
                picture,
                captions: match caption {
                    Some((place, section)) if CAPTIONS[place] == "json" => Captions::Json(section),
                    Some((_, section)) => Captions::Text(section),
                    None => Captions::Missing,
                },
            })
        };
        self.groups.into_iter().filter_map(sample).collect()
    }
}

/// A file that is read part by part.
struct RangeReader<'a> {
    files: &'a dyn DataFiles,
    name: &'a str,
    position: u64,
    length: u64,
}

impl Read for RangeReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let count = left.min(out.len() as u64);
        let range = self.position..self.position + count;
        let bytes = self.files.read_range(self.name, range)?;
        let read = bytes.len().min(out.len());
        out[..read].copy_from_slice(&bytes[..read]);
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for RangeReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let outside = || io::Error::other("it ends before the end of a member");
        self.position = position.ok_or_else(outside)?;
        Ok(self.position)
    }
}
