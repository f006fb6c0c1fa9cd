//! Flat Parquet files of anybody: columns of numbers, words, yes and no.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use parquet::{
    errors::Result as ParquetResult,
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};

use super::table::Cell;
use crate::{forecast::data::DataError, journal::JournalReader};

/// Whether it is a file of our journal.
pub(super) fn is_journal(path: &Path) -> Result<bool, DataError> {
    let file = open(path)?;
    let keys = file.metadata().file_metadata().key_value_metadata();
    let ours = keys.is_some_and(|k| k.iter().any(|kv| kv.key.starts_with("tidegate.journal")));
    Ok(ours && JournalReader::open(path).is_ok())
}

/// Names of its columns, in order.
pub(super) fn columns(path: &Path) -> Result<Vec<String>, DataError> {
    let file = open(path)?;
    let columns = file.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name().to_owned());
    Ok(columns.collect())
}

/// Most rows of a file, labelled or not.
const ROWS_MAX: i64 = 50_000_000;

/// Hears a row: its number from 1, and a look at its cells.
type Take<'t> = &'t mut dyn FnMut(usize, &dyn Fn(usize) -> Cell) -> Result<(), DataError>;

/// Gives each row to `take`.
pub(super) fn rows(path: &Path, take: Take<'_>) -> Result<(), DataError> {
    let file = open(path)?;
    let told = file.metadata().file_metadata().num_rows();
    if !(0..=ROWS_MAX).contains(&told) {
        return Err(DataError::Whole {
            path: path.to_owned(),
            why: format!("{told} rows; at most {ROWS_MAX} are read: split it"),
        });
    }
    let mut rows = guarded(path, || file.get_row_iter(None))?;
    for number in 1.. {
        let row = match guarded(path, || rows.next().transpose())? {
            Some(row) => row,
            None => break,
        };
        let cells: Vec<Cell> = row.get_column_iter().map(|(_, f)| cell(f)).collect();
        take(number, &|i| cells.get(i).cloned().unwrap_or(Cell::Empty))?;
    }
    Ok(())
}

fn cell(field: &Field) -> Cell {
    match field {
        Field::Null => Cell::Empty,
        Field::Bool(b) => Cell::Number(f64::from(u8::from(*b))),
        Field::Byte(n) => Cell::Number(f64::from(*n)),
        Field::Short(n) => Cell::Number(f64::from(*n)),
        Field::Int(n) => Cell::Number(f64::from(*n)),
        Field::Long(n) => Cell::Whole(*n as u64),
        Field::UByte(n) => Cell::Number(f64::from(*n)),
        Field::UShort(n) => Cell::Number(f64::from(*n)),
        Field::UInt(n) => Cell::Number(f64::from(*n)),
        Field::ULong(n) => Cell::Whole(*n),
        Field::Float(n) => Cell::Number(f64::from(*n)),
        Field::Double(n) => Cell::Number(*n),
        Field::Str(s) => Cell::Text(s.clone()),
        other => Cell::Text(other.to_string()),
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), doing: "open it", source })?;
    guarded(path, || SerializedFileReader::new(file))
}

/// Damaged pages reach assertions of the decoder: its panics are errors, too.
fn guarded<T>(path: &Path, step: impl FnOnce() -> ParquetResult<T>) -> Result<T, DataError> {
    let why = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(v)) => return Ok(v),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "the decoder gave up on a damaged page".into(),
    };
    let why = format!("not a Parquet file that can be read: {why} (zstd, snappy or no compression)");
    Err(DataError::Whole { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use parquet::{
        basic::Compression,
        data_type::{BoolType, ByteArrayType, DoubleType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use super::*;
    use crate::{
        bots::data::{Options, read},
        features::FEATURES,
    };

    /// As data tools write it: snappy, nulls, words.
    #[test]
    fn a_file_of_another_tool_is_read_by_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.parquet");
        let schema = "message m { required boolean label; optional double gap_last; required binary network (STRING); }";
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<BoolType>().write_batch(&[true, false, false], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[1.5, -2.0], Some(&[1, 0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&["a".into(), "b".into(), "a".into()], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();

        let visits = read(&[path.display().to_string()], &Options::default()).unwrap();
        let gap = FEATURES.iter().position(|f| f.name == "gap_last").unwrap();
        let seen: Vec<_> = visits.samples.iter().map(|s| (s.bot, s.features[gap])).collect();
        assert_eq!(seen, [(true, 1.5), (false, 0.0), (false, -2.0)]);
        assert_eq!(visits.samples[0].network, visits.samples[2].network);
        let whole = std::fs::read(&path).unwrap();
        // Bytes of pages and of the footer turned round: an error or a table, never a crash.
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            std::fs::write(&path, &damaged).unwrap();
            drop(read(&[path.display().to_string()], &Options::default()));
        }
    }
}
