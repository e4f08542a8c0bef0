//! numpy's `.npz`: a zip archive of arrays, as pytorch-fid stores statistics.
//!
//! Takes bytes, returns arrays of floats by name, and back. Of zip it knows what numpy writes:
//! members that are stored or deflated, not encrypted, in one part. Archives above 4 GB are refused.
//! Sources: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16; numpy `lib/format.py`.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// An array of floats, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// The end of the archive's directory, before its comment.
const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
/// An entry of the directory.
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
/// The header before a member's bytes.
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
/// The longest comment of an archive.
const COMMENT_BYTES_MAX: usize = 0xFFFF;

/// The most bytes of an array: a covariance of 16,384 features.
const ARRAY_BYTES_MAX: usize = 2 << 30;

/// What a npy file begins with.
const NPY: &[u8] = b"\x93NUMPY";

/// The arrays of an archive by name, without `.npy`.
///
/// # Errors
/// When the archive or an array is damaged, or of a kind that is not read.
pub(super) fn read(file: &[u8]) -> Result<BTreeMap<String, Array>, String> {
    let tail = file.len().saturating_sub(END_BYTES + COMMENT_BYTES_MAX);
    let end = file[tail..]
        .windows(END.len())
        .rposition(|seen| seen == END);
    let end = tail + end.ok_or("it is not a zip archive; expected a .npz file of numpy")?;
    slice(file, end, END_BYTES)?;
    let count = number(file, end + 10, 2)?;
    let mut place = number(file, end + 16, 4)?;
    let mut arrays = BTreeMap::new();
    for _ in 0..count {
        if slice(file, place, ENTRY.len())? != ENTRY {
            return Err("the directory of the archive is damaged".to_owned());
        }
        let length = number(file, place + 28, 2)?;
        let name = slice(file, place + ENTRY_BYTES, length)?;
        let name = String::from_utf8_lossy(name).into_owned();
        let content = member(file, place).map_err(|reason| format!("{name:?}: {reason}"))?;
        if let Some(array) = name.strip_suffix(".npy") {
            let parsed = parse(&content).map_err(|reason| format!("{name:?}: {reason}"))?;
            arrays.insert(array.to_owned(), parsed);
        }
        place += ENTRY_BYTES + length + number(file, place + 30, 2)? + number(file, place + 32, 2)?;
    }
    Ok(arrays)
}

/// The bytes of the member whose entry of the directory is at `entry`.
fn member(file: &[u8], entry: usize) -> Result<Vec<u8>, String> {
    let method = number(file, entry + 10, 2)?;
    let (packed, whole) = (number(file, entry + 20, 4)?, number(file, entry + 24, 4)?);
    let local = number(file, entry + 42, 4)?;
    if slice(file, local, LOCAL.len())? != LOCAL {
        return Err("its header is damaged".to_owned());
    }
    let names = number(file, local + 26, 2)? + number(file, local + 28, 2)?;
    let bytes = slice(file, local + LOCAL_BYTES + names, packed)?;
    if whole > ARRAY_BYTES_MAX {
        return Err(format!(
            "it has {whole} bytes; expected at most {ARRAY_BYTES_MAX}"
        ));
    }
    let mut content = Vec::new();
    match method {
        0 => content.extend_from_slice(bytes),
        8 => {
            // No more than the directory says, whatever the bytes expand to.
            let mut decoder = DeflateDecoder::new(bytes).take(whole as u64 + 1);
            let read = decoder.read_to_end(&mut content);
            read.map_err(|error| format!("it cannot be decompressed: {error}"))?;
        }
        method => {
            return Err(format!(
                "found compression {method}; expected none or deflate"
            ));
        }
    }
    match content.len() == whole && checksum(&content) as usize == number(file, entry + 16, 4)? {
        true => Ok(content),
        false => Err("it is cut or changed: the checksum differs".to_owned()),
    }
}

/// An array of a npy file: `f4` or `f8`, in C order.
fn parse(content: &[u8]) -> Result<Array, String> {
    if slice(content, 0, NPY.len())? != NPY {
        return Err("it is not an array of numpy".to_owned());
    }
    let (length, start) = match content.get(6) {
        Some(1) => (number(content, 8, 2)?, 10),
        Some(_) => (number(content, 8, 4)?, 12),
        None => return Err("its header is cut".to_owned()),
    };
    let header = String::from_utf8_lossy(slice(content, start, length)?).into_owned();
    let field = |name: &str| {
        let (_, rest) = header.split_once(&format!("'{name}':"))?;
        Some(rest.trim_start())
    };
    let wrong = || {
        format!(
            "found the header {:?}; expected float32 or float64",
            header.trim()
        )
    };
    let descr = field("descr").ok_or_else(wrong)?;
    let bytes = match descr {
        text if text.starts_with("'<f8'") => 8,
        text if text.starts_with("'<f4'") => 4,
        _ => return Err(wrong()),
    };
    let shape = field("shape").and_then(|text| text.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.ok_or_else(wrong)?;
    let extents = shape
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let shape: Result<Vec<usize>, _> = extents.map(str::parse).collect();
    let shape = shape.map_err(|_| wrong())?;
    // Of one axis both orders are the same.
    let is_fortran = field("fortran_order").is_none_or(|text| !text.starts_with("False"));
    if is_fortran && shape.len() > 1 {
        return Err("found Fortran order; expected C order".to_owned());
    }
    let data = &content[start + length..];
    let wanted = shape
        .iter()
        .try_fold(bytes, |product: usize, extent| product.checked_mul(*extent));
    if wanted != Some(data.len()) {
        return Err(format!("found {} bytes for shape {shape:?}", data.len()));
    }
    let value = |word: &[u8]| match *word {
        [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => f64::NAN,
    };
    Ok(Array {
        values: data.chunks_exact(bytes).map(value).collect(),
        shape,
    })
}

/// An archive of arrays, stored as float64.
///
/// # Errors
/// When it would have more than 4 GB.
pub(super) fn write(arrays: &[(&str, Array)]) -> Result<Vec<u8>, String> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, array) in arrays {
        let content = printed(array);
        let name = format!("{name}.npy");
        let [length, start] = [content.len(), file.len()].map(u32::try_from);
        let (Ok(length), Ok(start)) = (length, start) else {
            return Err("the statistics have more than 4 GB".to_owned());
        };
        // Version, flags, method, time and date (1980-01-01), checksum, sizes, lengths of names.
        let mut facts = Vec::new();
        facts.extend(
            [20_u16, 0, 0, 0, 0x21]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        let numbers = [checksum(&content), length, length];
        facts.extend(numbers.iter().flat_map(|word| word.to_le_bytes()));
        facts.extend(
            [name.len() as u16, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        file.extend_from_slice(LOCAL);
        file.extend_from_slice(&facts);
        file.extend_from_slice(name.as_bytes());
        file.extend_from_slice(&content);
        directory.extend_from_slice(ENTRY);
        directory.extend_from_slice(&20_u16.to_le_bytes());
        directory.extend_from_slice(&facts);
        // Comment, disk, attributes.
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&start.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let place = u32::try_from(file.len()).map_err(|_| "the statistics have more than 4 GB")?;
    let count = arrays.len() as u16;
    file.extend_from_slice(&directory);
    file.extend_from_slice(END);
    file.extend(
        [0, 0, count, count]
            .iter()
            .flat_map(|word: &u16| word.to_le_bytes()),
    );
    file.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    file.extend_from_slice(&place.to_le_bytes());
    file.extend_from_slice(&[0; 2]);
    Ok(file)
}

/// A npy file of version 1.0; the header ends at a multiple of 64 bytes.
fn printed(array: &Array) -> Vec<u8> {
    const ALIGNMENT: usize = 64;
    let extents = array.shape.iter().map(|extent| format!("{extent},"));
    let shape = extents.collect::<Vec<_>>().join(" ");
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}");
    let before = NPY.len() + 4;
    while !(before + header.len() + 1).is_multiple_of(ALIGNMENT) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = NPY.to_vec();
    file.extend_from_slice(&[1, 0]);
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend(array.values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

fn checksum(content: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(content);
    crc.sum()
}

/// A little-endian number of up to four bytes.
fn number(file: &[u8], start: usize, bytes: usize) -> Result<usize, String> {
    let digits = slice(file, start, bytes)?.iter().rev();
    Ok(digits.fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn slice(file: &[u8], start: usize, length: usize) -> Result<&[u8], String> {
    let end = start.checked_add(length);
    let found = end.and_then(|end| file.get(start..end));
    found.ok_or_else(|| "it is cut".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &[u8] = include_bytes!("../../tests/golden/evaluate/statistics.npz");
    const DEFLATED: &[u8] = include_bytes!("../../tests/golden/evaluate/statistics_compressed.npz");

    #[test]
    fn archives_of_numpy_are_read_and_written() {
        let stored = read(STORED).expect("numpy wrote it");
        assert_eq!(stored["mu"].shape, [24]);
        assert_eq!(stored["sigma"].shape, [24, 24]);
        assert_eq!(read(DEFLATED), Ok(stored.clone()));
        let arrays = ["mu", "sigma"].map(|name| (name, stored[name].clone()));
        assert_eq!(read(&write(&arrays).expect("small")), Ok(stored));
    }

    #[test]
    fn damaged_archives_are_errors() {
        for file in [STORED, DEFLATED] {
            for length in 0..file.len() {
                assert!(read(&file[..length]).is_err(), "{length}");
            }
            let whole = read(file).expect("numpy wrote it");
            for place in 0..file.len() {
                let mut changed = file.to_vec();
                changed[place] ^= 0x10;
                // What no reader looks at may change, and so may names.
                if let Ok(found) = read(&changed) {
                    let is_whole = |own: &Array| whole.values().any(|array| array == own);
                    assert!(found.values().all(is_whole), "{place}");
                }
            }
        }
    }
}
