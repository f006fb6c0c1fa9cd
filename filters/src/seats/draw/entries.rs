//! The entries file: CSV `index,entry_id,weight,place` in index order, lines end with LF, a void entry has no place.

use std::fmt::Write as _;

use thiserror::Error;

use super::{
    digest::{hex, unhex_into},
    entry::Entry,
};

/// First line of the file.
pub const HEADER: &str = "index,entry_id,weight,place";
/// Most entries of one sale: indices are 32-bit inside.
pub const ENTRIES_MAX: usize = 1 << 28;

/// A line that is not what the format says.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    /// What is wrong and what belongs there.
    pub what: String,
}

/// Entries in index order and the place each was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Entries.
    pub entries: Vec<Entry>,
    /// Their places, `None` for void ones.
    pub places: Vec<Option<u32>>,
}

/// Writes the file.
pub fn write(entries: &[Entry], places: &[Option<u32>]) -> String {
    let mut out = String::with_capacity(64 + entries.len() * 54);
    out.push_str(HEADER);
    out.push('\n');
    for (i, (entry, place)) in entries.iter().zip(places).enumerate() {
        let _ = write!(out, "{i},{},{},", hex(&entry.id), entry.weight);
        if let Some(place) = place {
            let _ = write!(out, "{place}");
        }
        out.push('\n');
    }
    out
}

/// Reads the file; strict, so that two programs cannot read two lists out of one file.
pub fn read(text: &[u8]) -> Result<Listed, LineError> {
    let error = |line: usize, what: String| LineError { line, what };
    let body = text.strip_suffix(b"\n");
    let body = body.ok_or_else(|| error(lines_of(text), "does not end with a line feed: the file is cut".into()))?;
    let mut lines = body.split(|b| *b == b'\n');
    if lines.next() != Some(HEADER.as_bytes()) {
        return Err(error(1, format!("must be `{HEADER}`")));
    }
    let rows = text.len() / 40;
    let mut listed = Listed { entries: Vec::with_capacity(rows), places: Vec::with_capacity(rows) };
    for (at, line) in lines.enumerate() {
        if at >= ENTRIES_MAX {
            return Err(error(at + 2, format!("more than {ENTRIES_MAX} entries")));
        }
        let (entry, place) = row(line, at).map_err(|what| error(at + 2, what))?;
        listed.entries.push(entry);
        listed.places.push(place);
    }
    Ok(listed)
}

fn lines_of(text: &[u8]) -> usize {
    text.split(|b| *b == b'\n').count()
}

fn row(line: &[u8], at: usize) -> Result<(Entry, Option<u32>), String> {
    let mut fields = line.split(|b| *b == b',');
    let mut field = || fields.next().ok_or_else(|| "must have four fields: index,entry_id,weight,place".to_owned());
    let (index, id, weight, place) = (field()?, field()?, field()?, field()?);
    if fields.next().is_some() {
        return Err("must have four fields: index,entry_id,weight,place".into());
    }
    if number(index) != Some(at as u64) {
        return Err(format!("index must be {at}: entries stand in order, none is left out"));
    }
    let mut entry = Entry::VOID;
    if !unhex_into(id, &mut entry.id) {
        return Err("entry_id must be 32 lower-case hex digits".into());
    }
    let weighs = number(weight).and_then(|w| u8::try_from(w).ok());
    entry.weight = weighs.ok_or("weight must be a number from 0 to 16")?;
    if !entry.is_sound() {
        return Err("weight must be a number from 0 to 16, and 0 for a void entry (entry_id of zeros)".into());
    }
    let place = match place {
        b"" => None,
        digits => Some(number(digits).and_then(|p| u32::try_from(p).ok()).ok_or("place must be a number, or empty")?),
    };
    Ok((entry, place))
}

/// Decimal digits in their one spelling: no sign, no leading zero.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 || digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    digits.iter().try_fold(0u64, |n, d| d.is_ascii_digit().then(|| n * 10 + u64::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_spellings_are_refused_with_their_line() {
        let id = "0".repeat(31) + "1";
        let good = format!("{HEADER}\n0,{id},16,1\n1,{id},8,0\n");
        assert_eq!(read(good.as_bytes()).unwrap().places, [Some(1), Some(0)]);
        assert_eq!(read(format!("{HEADER}\n").as_bytes()), Ok(Listed::default()));
        let bad = [
            ("", 1),
            ("index\n", 1),
            (&*format!("{HEADER}\n0,{id},16,1"), 2),
            (&format!("{HEADER}\n\n"), 2),
            (&format!("{HEADER}\n0,{id},16,1\n\n"), 3),
            (&format!("{HEADER}\n1,{id},16,1\n"), 2),
            (&format!("{HEADER}\n00,{id},16,1\n"), 2),
            (&format!("{HEADER}\n0,{id},17,1\n"), 2),
            (&format!("{HEADER}\n0,{id},16,01\n"), 2),
            (&format!("{HEADER}\n0,{id},16,1,\n"), 2),
            (&format!("{HEADER}\n0,{},16,1\n", id.replace('1', "A")), 2),
            (&format!("{HEADER}\n0,{},3,1\n", "0".repeat(32)), 2),
            (&format!("{HEADER}\r\n0,{id},16,1\r\n"), 1),
        ];
        for (text, line) in bad {
            assert_eq!(read(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec((any::<[u8; 16]>(), 0u8..=16, any::<Option<u32>>()), 0..50)) {
            let entries: Vec<Entry> = rows.iter().map(|(id, weight, _)| Entry { id: *id, weight: *weight }).collect();
            let places: Vec<Option<u32>> = rows.iter().map(|r| r.2).collect();
            let text = write(&entries, &places);
            prop_assert_eq!(read(text.as_bytes()), Ok(Listed { entries, places }));
        }

        #[test]
        fn strangers_bytes_never_panic(text in "[0-9a-f,\n]{0,200}") {
            let _ = read(format!("{HEADER}\n{text}").as_bytes());
        }
    }
}
