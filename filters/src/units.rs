//! Quantities as an operator writes them: `10s`, `120/min`, `16KiB`. Parsed strictly; errors say what to write instead.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, in milliseconds. Written `250ms`, `10s`, `5m`, `2h` or `30d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Span(n * 1000)
    }
    /// Milliseconds.
    pub const fn ms(self) -> u64 {
        self.0
    }
    /// Seconds, rounded up.
    pub const fn secs_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

/// Events per second, kept in thousandths of an event per second. Written `10/s`, `120/min` or `5/h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    /// Events.
    pub events: u32,
    /// In how many milliseconds.
    pub per_ms: u32,
}

impl Rate {
    /// `events` a second.
    pub const fn per_s(events: u32) -> Self {
        Rate { events, per_ms: 1000 }
    }
    /// Events per second.
    pub fn as_per_s(self) -> f64 {
        f64::from(self.events) * 1000.0 / f64::from(self.per_ms)
    }
}

/// A number of bytes. Written `512B`, `16KiB`, `10MiB` or `1GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

fn split_number(s: &str) -> Option<(u64, &str)> {
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    Some((s[..end].parse().ok()?, s[end..].trim_start()))
}

impl FromStr for Span {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not a length of time; write a whole number and a unit: 250ms, 10s, 5m, 2h or 30d");
        let (n, unit) = split_number(s).ok_or_else(bad)?;
        let ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        n.checked_mul(ms).filter(|n| *n <= 3_650 * 86_400_000).map(Span).ok_or_else(|| format!("`{s}` is longer than ten years"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = match self.0 {
            0 => (0, "s"),
            n if n % 86_400_000 == 0 => (n / 86_400_000, "d"),
            n if n % 3_600_000 == 0 => (n / 3_600_000, "h"),
            n if n % 60_000 == 0 => (n / 60_000, "m"),
            n if n % 1_000 == 0 => (n / 1_000, "s"),
            n => (n, "ms"),
        };
        write!(f, "{n}{unit}")
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not a rate; write a whole number per unit: 10/s, 120/min or 5/h");
        let (n, unit) = split_number(s).ok_or_else(bad)?;
        let per_ms = match unit {
            "/s" => 1_000,
            "/min" | "/m" => 60_000,
            "/h" => 3_600_000,
            _ => return Err(bad()),
        };
        let events = u32::try_from(n)
            .ok()
            .filter(|n| *n <= 1_000_000_000)
            .ok_or_else(|| format!("`{s}` is more than 1000000000 events"))?;
        Ok(Rate { events, per_ms })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per_ms {
            60_000 => "min",
            3_600_000 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.events)
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not a size; write a whole number and a unit: 512B, 16KiB, 10MiB or 1GiB");
        let (n, unit) = split_number(s).ok_or_else(bad)?;
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(bad()),
        };
        n.checked_mul(factor).filter(|n| *n <= 1 << 40).map(ByteSize).ok_or_else(|| format!("`{s}` is more than 1024GiB"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => (n >> 30, "GiB"),
            n if n > 0 && n % (1 << 20) == 0 => (n >> 20, "MiB"),
            n if n > 0 && n % (1 << 10) == 0 => (n >> 10, "KiB"),
            n => (n, "B"),
        };
        write!(f, "{n}{unit}")
    }
}

/// Text in YAML and JSON, with the pattern in the schema so that editors complain early.
macro_rules! as_text {
    ($t:ty, $name:literal, $pattern:literal, $description:literal) => {
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = Cow::<'de, str>::deserialize(d)?;
                s.parse().map_err(de::Error::custom)
            }
        }
        impl Serialize for $t {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl JsonSchema for $t {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}
as_text!(Span, "Span", "^[0-9]+ ?(ms|s|m|min|h|d)$", "A length of time: 250ms, 10s, 5m, 2h, 30d");
as_text!(Rate, "Rate", "^[0-9]+ ?/(s|m|min|h)$", "A rate: 10/s, 120/min, 5/h");
as_text!(ByteSize, "ByteSize", "^[0-9]+ ?(B|KiB|MiB|GiB)$", "A size: 512B, 16KiB, 10MiB, 1GiB");

/// A number in double precision that reads as it was written: 0.55 is 0.55, not what its nearest single-precision number is.
pub fn as_written(n: f32) -> f64 {
    n.to_string().parse().unwrap_or_else(|_| f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_as_it_was_written() {
        for n in [0.55, 0.85, 1e-30, -3.25, 0.0, f32::MAX] {
            assert_eq!(as_written(n).to_string(), n.to_string());
            assert_eq!(as_written(n) as f32, n);
        }
        assert!(as_written(f32::NAN).is_nan() && as_written(f32::INFINITY).is_infinite());
    }

    #[test]
    fn what_is_written_comes_back() {
        for s in ["250ms", "10s", "5m", "2h", "30d", "0s"] {
            assert_eq!(s.parse::<Span>().map(|v| v.to_string()), Ok(s.to_owned()));
        }
        for s in ["10/s", "120/min", "5/h"] {
            assert_eq!(s.parse::<Rate>().map(|v| v.to_string()), Ok(s.to_owned()));
        }
        for s in ["512B", "16KiB", "10MiB", "1GiB"] {
            assert_eq!(s.parse::<ByteSize>().map(|v| v.to_string()), Ok(s.to_owned()));
        }
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        for s in ["", "10", "-5s", "1.5s", "10 parsecs", "99999999999999999999s", "s", "+1s"] {
            assert!(s.parse::<Span>().is_err(), "{s}");
        }
        for s in ["10", "-1/s", "10/year", "99999999999/s", "/s"] {
            assert!(s.parse::<Rate>().is_err(), "{s}");
        }
        for s in ["10", "10KB", "-1B", "99999999GiB"] {
            assert!(s.parse::<ByteSize>().is_err(), "{s}");
        }
        assert!("10KB".parse::<ByteSize>().is_err_and(|e| e.contains("16KiB")));
    }
}
