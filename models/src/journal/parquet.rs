//! Journal rows to Parquet and back.

use std::{
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    vec,
};

use ::parquet::{
    basic::{Compression, ZstdLevel},
    column::{
        reader::{ColumnReader, ColumnReaderImpl},
        writer::ColumnWriterImpl,
    },
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type},
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, RowGroupReader, SerializedFileReader},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::{parser::parse_message_type, types::TypePtr},
};
use tidegate_filters::Row;

use super::{
    JournalError, SCHEMA_VERSION,
    columns::{COLUMNS, Cell},
};
use crate::features::{self, FEATURES};

/// Rows buffered before they are encoded as one row group: at about 500 bytes a row, 8 MiB.
pub const ROW_GROUP_ROWS: usize = 16_384;

/// Row groups larger than this are refused on reading: a journal never has them, a damaged or hostile file may.
const ROW_GROUP_ROWS_MAX: i64 = 1 << 20;

const VERSION_KEY: &str = "tidegate.journal.version";
/// Names of the values in `features`, separated by commas.
const FEATURES_KEY: &str = "tidegate.features";
/// SHA-256 of the feature list, [`features::hash`].
const FEATURES_HASH_KEY: &str = "tidegate.features.sha256";

/// Writes one journal file. Dropped without [`finish`](Self::finish), it leaves only a `.part`.
pub struct JournalWriter {
    path: PathBuf,
    part: PathBuf,
    file: SerializedFileWriter<File>,
    buffers: Vec<Buffer>,
    buffered: usize,
    rows: u64,
}

impl JournalWriter {
    /// Starts `PATH.part`; an existing one is overwritten, an existing finished file is an error.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        if path.exists() {
            let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(JournalError::Io { path: path.to_owned(), doing: "create the journal", source });
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(JournalError::io(&part, "create the journal"))?;
        let file =
            schema().and_then(|s| SerializedFileWriter::new(file, s, Arc::new(properties()?))).map_err(encode_error(path))?;
        Ok(JournalWriter { path: path.to_owned(), part, file, buffers: buffers(), buffered: 0, rows: 0 })
    }

    /// Takes rows; encodes a row group whenever [`ROW_GROUP_ROWS`] have gathered.
    pub fn write(&mut self, rows: &[Row]) -> Result<(), JournalError> {
        for row in rows {
            for (buffer, column) in self.buffers.iter_mut().zip(&COLUMNS) {
                buffer.push(&column.cell, row);
            }
            self.buffered += 1;
            if self.buffered == ROW_GROUP_ROWS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows + self.buffered as u64
    }

    /// Encodes what is left, syncs, and gives the file its final name. Returns the rows it holds.
    pub fn finish(mut self) -> Result<u64, JournalError> {
        self.flush()?;
        let file = self.file.into_inner().map_err(encode_error(&self.path))?;
        file.sync_all().map_err(JournalError::io(&self.part, "sync the journal"))?;
        fs::rename(&self.part, &self.path).map_err(JournalError::io(&self.path, "rename the journal"))?;
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|d| d.sync_all()).map_err(JournalError::io(folder, "sync the folder"))?;
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if self.buffered == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group().map_err(encode_error(&self.path))?;
        for buffer in &mut self.buffers {
            let column = group.next_column().map_err(encode_error(&self.path))?;
            column.map_or(Ok(()), |c| buffer.drain(c)).map_err(encode_error(&self.path))?;
        }
        group.close().map_err(encode_error(&self.path))?;
        self.rows += self.buffered as u64;
        self.buffered = 0;
        Ok(())
    }
}

/// Reads one journal file row by row, holding one row group.
pub struct JournalReader {
    path: PathBuf,
    file: SerializedFileReader<File>,
    /// Index in the file of each of [`COLUMNS`]; `None` for one that was added after the file was written.
    found: Vec<Option<usize>>,
    group: usize,
    rows: vec::IntoIter<Row>,
}

impl JournalReader {
    /// Opens and checks footer, version and columns.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(JournalError::io(path, "open the journal"))?;
        let file = guarded(path, || SerializedFileReader::new(file))?;
        let foreign = |why: String| JournalError::Foreign { path: path.to_owned(), why };
        let meta = file.metadata().file_metadata();
        let version = meta.key_value_metadata().and_then(|kv| kv.iter().find(|kv| kv.key == VERSION_KEY));
        match version.and_then(|kv| kv.value.as_deref()).map(str::parse::<u32>) {
            Some(Ok(v)) if v <= SCHEMA_VERSION => {}
            Some(v) => return Err(foreign(format!("its version is {v:?}, this is {SCHEMA_VERSION}"))),
            None => return Err(foreign(format!("the key `{VERSION_KEY}` is missing, so Tidegate did not write it"))),
        }
        let (theirs, ours) = (meta.schema_descr(), schema().map_err(encode_error(path))?);
        let ours = ::parquet::schema::types::SchemaDescriptor::new(ours);
        let mut found = vec![];
        for (i, column) in COLUMNS.iter().enumerate() {
            let at = theirs.columns().iter().position(|c| c.path().string() == column.name);
            if let Some(at) = at {
                let (a, b) = (theirs.column(at), ours.column(i));
                let shape =
                    |c: &::parquet::schema::types::ColumnDescriptor| (c.physical_type(), c.max_def_level(), c.max_rep_level());
                if shape(&a) != shape(&b) {
                    return Err(foreign(format!("column `{}` has another type", column.name)));
                }
            }
            found.push(at);
        }
        Ok(JournalReader { path: path.to_owned(), file, found, group: 0, rows: vec![].into_iter() })
    }

    /// Why nothing can be learnt from its features: they are of another list. `None`: they are of this one.
    pub fn other_features(&self) -> Option<String> {
        let meta = self.file.metadata().file_metadata();
        let value = |key: &str| meta.key_value_metadata()?.iter().find(|kv| kv.key == key)?.value.as_deref();
        let names = FEATURES.iter().map(|f| f.name).collect::<Vec<_>>().join(",");
        // Files of before the hash was written have the names alone.
        let same = match value(FEATURES_HASH_KEY) {
            Some(hash) => hash == features::hash(),
            None => value(FEATURES_KEY).is_some_and(|n| n == names),
        };
        (!same).then(|| "was written with another feature list than this program computes: its features cannot be used".into())
    }

    /// Rows in the whole file, as its footer says.
    pub fn rows_total(&self) -> u64 {
        u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    fn read_group(&mut self) -> Result<Vec<Row>, JournalError> {
        let group = guarded(&self.path, || self.file.get_row_group(self.group))?;
        let n = group.metadata().num_rows();
        if !(0..=ROW_GROUP_ROWS_MAX).contains(&n) {
            return Err(JournalError::Damaged { path: self.path.clone(), why: format!("a row group of {n} rows") });
        }
        let mut rows = vec![Row::blank(); n as usize];
        for (column, at) in COLUMNS.iter().zip(&self.found) {
            let Some(at) = *at else { continue };
            let strange = guarded(&self.path, || fill(&mut rows, &column.cell, group.as_ref(), at))?;
            if let Some(word) = strange {
                let why = format!("column `{}` holds `{word}`, which this version does not know", column.name);
                return Err(JournalError::Foreign { path: self.path.clone(), why });
            }
        }
        Ok(rows)
    }
}

impl Iterator for JournalReader {
    type Item = Result<Row, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            if self.group >= self.file.num_row_groups() {
                return None;
            }
            match self.read_group() {
                Ok(rows) => self.rows = rows.into_iter(),
                // One error, then the end: what follows a damaged group is not trusted.
                Err(e) => {
                    self.group = usize::MAX;
                    return Some(Err(e));
                }
            }
            self.group += 1;
        }
    }
}

/// One column's values until the row group is full. Levels are kept only where a null or a list is possible.
enum Buffer {
    I64(Vec<i64>, Vec<i16>),
    I32(Vec<i32>, Vec<i16>),
    Bool(Vec<bool>),
    F32(Vec<f32>, Vec<i16>),
    Text(Vec<ByteArray>),
    Floats { values: Vec<f32>, def: Vec<i16>, rep: Vec<i16> },
}

impl Buffer {
    // Unsigned numbers keep their bits in Parquet's signed ones; the logical type says how to read them.
    fn push(&mut self, cell: &Cell, row: &Row) {
        match (self, cell) {
            (Buffer::I64(values, def), Cell::U64(get, _, none)) => {
                put(values, def, get(row) as i64, none.is_some(), Some(get(row)) == *none)
            }
            (Buffer::I32(values, def), Cell::U32(get, _, none)) => {
                put(values, def, get(row) as i32, none.is_some(), Some(get(row)) == *none)
            }
            (Buffer::Bool(values), Cell::Bool(get, _)) => values.push(get(row)),
            (Buffer::F32(values, def), Cell::F32(get, _)) => put(values, def, get(row), true, get(row).is_nan()),
            (Buffer::Text(values), Cell::Text(get, _)) => values.push(ByteArray::from(get(row))),
            (Buffer::Floats { values, def, rep }, Cell::Floats(get, _)) => {
                let list = get(row);
                values.extend_from_slice(list);
                def.extend(list.iter().map(|_| 1));
                rep.extend((0..list.len()).map(|i| i16::from(i > 0)));
                if list.is_empty() {
                    def.push(0);
                    rep.push(0);
                }
            }
            // `buffers` builds one buffer for each cell, so no other pair exists.
            _ => {}
        }
    }

    fn drain(&mut self, mut column: SerializedColumnWriter<'_>) -> ParquetResult<()> {
        match self {
            Buffer::I64(v, def) => emit(column.typed::<Int64Type>(), v, def)?,
            Buffer::I32(v, def) => emit(column.typed::<Int32Type>(), v, def)?,
            Buffer::Bool(v) => emit(column.typed::<BoolType>(), v, &mut vec![])?,
            Buffer::F32(v, def) => emit(column.typed::<FloatType>(), v, def)?,
            Buffer::Text(v) => emit(column.typed::<ByteArrayType>(), v, &mut vec![])?,
            Buffer::Floats { values, def, rep } => {
                column.typed::<FloatType>().write_batch(values, Some(def), Some(rep))?;
                values.clear();
                def.clear();
                rep.clear();
            }
        }
        column.close()
    }
}

fn put<T>(values: &mut Vec<T>, def: &mut Vec<i16>, value: T, nullable: bool, null: bool) {
    if nullable {
        def.push(i16::from(!null));
    }
    if !null {
        values.push(value);
    }
}

fn emit<T: DataType>(column: &mut ColumnWriterImpl<'_, T>, values: &mut Vec<T::T>, def: &mut Vec<i16>) -> ParquetResult<()> {
    column.write_batch(values, (!def.is_empty()).then_some(def), None)?;
    values.clear();
    def.clear();
    Ok(())
}

fn buffers() -> Vec<Buffer> {
    let buffer = |cell: &Cell| match cell {
        Cell::U64(..) => Buffer::I64(vec![], vec![]),
        Cell::U32(..) => Buffer::I32(vec![], vec![]),
        Cell::Bool(..) => Buffer::Bool(vec![]),
        Cell::F32(..) => Buffer::F32(vec![], vec![]),
        Cell::Text(..) => Buffer::Text(vec![]),
        Cell::Floats(..) => Buffer::Floats { values: vec![], def: vec![], rep: vec![] },
    };
    COLUMNS.iter().map(|c| buffer(&c.cell)).collect()
}

fn schema() -> ParquetResult<TypePtr> {
    let mut text = String::from("message tidegate_journal {");
    for c in &COLUMNS {
        let (kind, note) = match (&c.cell, c.name) {
            (Cell::U64(..), "at_ms") => ("required int64", " (TIMESTAMP(MILLIS,true))"),
            (Cell::U64(_, _, None), _) => ("required int64", " (INTEGER(64,false))"),
            (Cell::U64(..), _) => ("optional int64", " (INTEGER(64,false))"),
            (Cell::U32(_, _, None), _) => ("required int32", " (INTEGER(32,false))"),
            (Cell::U32(..), _) => ("optional int32", " (INTEGER(32,false))"),
            (Cell::Bool(..), _) => ("required boolean", ""),
            (Cell::F32(..), _) => ("optional float", ""),
            (Cell::Text(..), _) => ("required binary", " (STRING)"),
            (Cell::Floats(..), _) => ("repeated float", ""),
        };
        text.push_str(&format!("{kind} {}{note};", c.name));
    }
    text.push('}');
    Ok(Arc::new(parse_message_type(&text)?))
}

fn properties() -> ParquetResult<WriterProperties> {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let names = FEATURES.iter().map(|f| f.name).collect::<Vec<_>>().join(",");
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(vec![
            pair(VERSION_KEY, SCHEMA_VERSION.to_string()),
            pair(FEATURES_KEY, names),
            pair(FEATURES_HASH_KEY, features::hash().to_owned()),
        ]))
        .build())
}

/// Fills one column of a row group; gives back the first word that the column's setter does not know.
fn fill(rows: &mut [Row], cell: &Cell, group: &dyn RowGroupReader, at: usize) -> ParquetResult<Option<String>> {
    match (cell, group.get_column_reader(at)?) {
        (Cell::U64(_, set, none), ColumnReader::Int64ColumnReader(r)) => {
            numbers(rows, r, |row, v| set(row, v.map_or(none.unwrap_or_default(), |v| v as u64)))?
        }
        (Cell::U32(_, set, none), ColumnReader::Int32ColumnReader(r)) => {
            numbers(rows, r, |row, v| set(row, v.map_or(none.unwrap_or_default(), |v| v as u32)))?
        }
        (Cell::Bool(_, set), ColumnReader::BoolColumnReader(r)) => numbers(rows, r, |row, v| set(row, v.unwrap_or_default()))?,
        (Cell::F32(_, set), ColumnReader::FloatColumnReader(r)) => numbers(rows, r, |row, v| set(row, v.unwrap_or(f32::NAN)))?,
        (Cell::Text(_, set), ColumnReader::ByteArrayColumnReader(r)) => {
            let mut strange = None;
            numbers(rows, r, |row, v: Option<ByteArray>| {
                let text = v.as_ref().map(|v| String::from_utf8_lossy(v.data())).unwrap_or_default();
                if !set(row, &text) {
                    strange.get_or_insert(text.into_owned());
                }
            })?;
            return Ok(strange);
        }
        (Cell::Floats(_, set), ColumnReader::FloatColumnReader(r)) => lists(rows, r, *set)?,
        _ => return Err(ParquetError::General("a column changed its type between row groups".into())),
    }
    Ok(None)
}

fn numbers<T: DataType>(
    rows: &mut [Row],
    mut column: ColumnReaderImpl<T>,
    mut set: impl FnMut(&mut Row, Option<T::T>),
) -> ParquetResult<()> {
    let (mut values, mut def) = (vec![], vec![]);
    while def.len().max(values.len()) < rows.len() {
        let left = rows.len() - def.len().max(values.len());
        if column.read_records(left, Some(&mut def), None, &mut values)?.0 == 0 {
            return Err(ParquetError::EOF("a column ends before its row group does".into()));
        }
    }
    let required = def.is_empty();
    let mut values = values.into_iter();
    for (i, row) in rows.iter_mut().enumerate() {
        set(row, if required || def[i] == 1 { values.next() } else { None });
    }
    Ok(())
}

fn lists(rows: &mut [Row], mut column: ColumnReaderImpl<FloatType>, set: fn(&mut Row, Vec<f32>)) -> ParquetResult<()> {
    let (mut values, mut def, mut rep) = (vec![], vec![], vec![]);
    let mut records = 0;
    while records < rows.len() {
        let got = column.read_records(rows.len() - records, Some(&mut def), Some(&mut rep), &mut values)?.0;
        if got == 0 {
            return Err(ParquetError::EOF("a list column ends before its row group does".into()));
        }
        records += got;
    }
    let (mut level, mut value) = (0, 0);
    for row in rows {
        let start = value;
        loop {
            value += usize::from(def.get(level) == Some(&1));
            level += 1;
            if rep.get(level) != Some(&1) {
                break;
            }
        }
        set(row, values.get(start..value).unwrap_or_default().to_vec());
    }
    Ok(())
}

/// Runs a step of the decoder; its errors and its panics (damaged pages reach assertions) mean the file is damaged.
fn guarded<T>(path: &Path, step: impl FnOnce() -> ParquetResult<T>) -> Result<T, JournalError> {
    let damaged = |why: String| JournalError::Damaged { path: path.to_owned(), why };
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(r) => r.map_err(|e| damaged(e.to_string())),
        Err(_) => Err(damaged("the decoder gave up on a damaged page".into())),
    }
}

fn encode_error(path: &Path) -> impl FnOnce(ParquetError) -> JournalError {
    move |e| JournalError::Encode { path: path.to_owned(), why: e.to_string() }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
