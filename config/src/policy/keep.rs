//! Sales, and what the gate keeps: journal, keys, log.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_filters::{
    ByteSize, Span,
    rule::{
        bot_gate::Runtime,
        sale_window::{Moved, Sale},
    },
};

use super::values::Timestamp;

/// How long a unit is set aside for whoever a draw let in, where the policy does not say: time to read, choose and pay.
pub(super) const RESERVE: Span = Span::secs(120);

/// A scheduled event in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleSettings {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// The room it happens in.
    pub room: String,
    /// From here on people take places and nobody is called; `opens_at` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prequeue_opens_at: Option<Timestamp>,
    /// From here on people are called.
    pub opens_at: Timestamp,
    /// From here on it is over.
    pub closes_at: Timestamp,
    /// Units on sale; not limited by the gate when left out. The routes that sell say `needs: { hold: … }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock: Option<u64>,
    /// Units one visitor may buy; not limited by the gate when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_visitor_max: Option<u32>,
    /// Who comes in has a unit set aside for so long: nobody inside who is faster can take it, and nobody else is let in for
    /// it. 0s: inside, whoever is faster buys. Left out: two minutes where places are drawn, else 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Span>,
    /// The sale does not take place, for this reason. Who entered its draw is told; the list is still frozen, drawn and
    /// published, with the cancellation signed. A cancelled sale stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<String>,
    /// The cancelled sale whose draw is done again here, under rules and a secret of its own; part of its published rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redraws: Option<String>,
}

impl SaleSettings {
    /// From when on people take places or enter: the pre-queue's opening, else the sale's.
    pub fn enters_at(&self) -> &Timestamp {
        self.prequeue_opens_at.as_ref().unwrap_or(&self.opens_at)
    }

    /// As the filters want it; `lot` is the least units a hold takes, `reserve` how long one is set aside for who comes in.
    pub fn compile(&self, lot: u32, reserve: Span) -> Sale {
        Sale {
            name: self.name.as_str().into(),
            room: self.room.as_str().into(),
            prequeue_opens_ms: self.enters_at().unix_ms(),
            opens_ms: self.opens_at.unix_ms(),
            closes_ms: self.closes_at.unix_ms(),
            cancelled: self.cancelled.is_some(),
            stock: self.stock,
            moved: Moved::default(),
            per_visitor_max: self.per_visitor_max,
            lot,
            reserve_s: reserve.secs_ceil() as u32,
        }
    }
}

/// What rooms with `admission: forecast` look ahead with. Experts that learn here and now are always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForecastSettings {
    /// One more expert, trained on history: `none`, or the path of an `.onnx` file with its card. The file is read
    /// again when it changes; a bad one is refused and the old one stays.
    #[serde(default = "no_model")]
    pub model: String,
    /// What runs it.
    #[serde(default)]
    pub runtime: Runtime,
}

impl ForecastSettings {
    /// The model's file, where there is one.
    pub fn file(&self) -> Option<&Path> {
        (self.model != NO_MODEL).then(|| Path::new(&self.model))
    }
}

impl Default for ForecastSettings {
    fn default() -> Self {
        ForecastSettings { model: no_model(), runtime: Runtime::default() }
    }
}

const NO_MODEL: &str = "none";

fn no_model() -> String {
    NO_MODEL.into()
}

/// The log of decisions, Parquet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Directory of its files; made when missing.
    pub directory: PathBuf,
    /// Files older than this are deleted.
    #[serde(default = "keep")]
    pub keep: Span,
    /// A file is closed at this size.
    #[serde(default = "file_bytes")]
    pub file_bytes: ByteSize,
    /// A file is closed after this time, full or not.
    #[serde(default = "file_age")]
    pub file_age: Span,
    /// How visitors and networks appear.
    #[serde(default)]
    pub addresses: Addresses,
}

impl Journal {
    /// A journal in a directory, everything else at its default.
    pub fn at(directory: PathBuf) -> Self {
        Journal { directory, keep: keep(), file_bytes: file_bytes(), file_age: file_age(), addresses: Addresses::Hashed }
    }
}

fn keep() -> Span {
    Span::secs(30 * 86_400)
}

fn file_bytes() -> ByteSize {
    ByteSize(64 << 20)
}

fn file_age() -> Span {
    Span::secs(15)
}

/// How visitors and networks appear in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Addresses {
    /// As keyed hashes: a row names nobody.
    #[default]
    Hashed,
}

/// The secrets that sign tickets and passes and key the hashes of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Directory of the key files, readable by the gate alone; keys are made at the first start.
    pub directory: PathBuf,
}

/// Where rooms live on over a restart: places, seats and what they need, written before they are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Directory of one gate's state, readable by it alone; made at the first start.
    pub directory: PathBuf,
    /// How long a request waits for the disk before the room does as its `on_failure` says.
    #[serde(default = "budget")]
    pub budget: Span,
}

fn budget() -> Span {
    Span::secs(1)
}

/// The program's own log, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What is broken.
    Error,
    /// And what will break.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}
