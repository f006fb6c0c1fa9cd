//! Quantities that only the policy knows: instants, byte rates, socket addresses. Errors say what to write instead.

use std::{borrow::Cow, fmt, net::SocketAddr, str::FromStr};

use jiff::{
    fmt::temporal::{DateTimeParser, Pieces},
    tz::{Disambiguation, Offset, OffsetConflict},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant with the offset or time zone it was written in: `2026-12-01T10:00:00+08:00`, or
/// `2026-12-01T10:00:00 Asia/Shanghai`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    instant: jiff::Timestamp,
    offset: Offset,
    /// IANA name, where it was written.
    zone: Option<Box<str>>,
}

impl Timestamp {
    /// Unix milliseconds; 0 for instants before 1970.
    pub fn unix_ms(&self) -> u64 {
        u64::try_from(self.instant.as_millisecond()).unwrap_or(0)
    }

    /// As people read it: `2026-12-01 10:00 (+08:00)`, `2026-12-01 10:00 Asia/Shanghai (+08:00)`.
    pub fn for_people(&self) -> String {
        let local = self.offset.to_datetime(self.instant);
        let zone = self.zone.as_deref().map_or(String::new(), |z| format!(" {z}"));
        format!("{}{zone} ({})", local.strftime("%Y-%m-%d %H:%M"), self.offset_text())
    }

    /// An instant in UTC.
    pub fn from_unix_ms(ms: u64) -> Option<Self> {
        let instant = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(Timestamp { instant, offset: Offset::UTC, zone: None })
    }

    /// `+08:00`
    fn offset_text(&self) -> String {
        let seconds = self.offset.seconds();
        let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// A local time in a named zone. A time that the clocks there skip or show twice needs its offset.
    fn in_zone(s: &str) -> Result<Self, String> {
        let parser = DateTimeParser::new().disambiguation(Disambiguation::Reject).offset_conflict(OffsetConflict::Reject);
        let zoned = parser.parse_zoned(s).map_err(|e| first_line(&e.to_string()).to_owned())?;
        let zone = zoned.time_zone().iana_name().map(Into::into);
        Ok(Timestamp { instant: zoned.timestamp(), offset: zoned.offset(), zone })
    }
}

impl FromStr for Timestamp {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = |why: String| {
            format!(
                "`{s}` is not an instant{why}; write date, time and offset or time zone: 2026-12-01T10:00:00+08:00 or 2026-12-01T10:00:00 Asia/Shanghai"
            )
        };
        // Brackets mean something in YAML: after a blank the zone needs none.
        let bracketed =
            s.split_once(' ').filter(|(t, zone)| t.contains('T') && zone.starts_with(|c: char| c.is_ascii_alphabetic()));
        let bracketed = bracketed.map(|(time, zone)| format!("{time}[{zone}]"));
        let s = bracketed.as_deref().unwrap_or(s);
        let pieces = Pieces::parse(s).map_err(|e| bad(format!(" ({})", first_line(&e.to_string()))))?;
        if pieces.time().is_none() {
            return Err(bad(" (the time of day is missing)".into()));
        }
        let stamp = match (pieces.time_zone_annotation(), pieces.to_numeric_offset()) {
            (Some(_), _) => Timestamp::in_zone(s).map_err(|why| bad(format!(" ({why})")))?,
            (None, Some(offset)) => {
                let instant = s.parse::<jiff::Timestamp>().map_err(|e| bad(format!(" ({})", first_line(&e.to_string()))))?;
                Timestamp { instant, offset, zone: None }
            }
            (None, None) => return Err(bad(" (the offset from UTC is missing)".into())),
        };
        if stamp.instant.as_millisecond() < 0 {
            return Err(bad(" after 1970".into()));
        }
        Ok(stamp)
    }
}

fn first_line(s: &str) -> &str {
    s.lines().next().unwrap_or_default()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.instant.display_with_offset(self.offset))?;
        match &self.zone {
            Some(zone) => write!(f, "[{zone}]"),
            None => Ok(()),
        }
    }
}

/// Bytes per second. Written `1KiB/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(pub u64);

impl FromStr for ByteRate {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let size = s.strip_suffix("/s").and_then(|s| s.trim_end().parse::<tidegate_filters::ByteSize>().ok());
        let bad = || format!("`{s}` is not a rate of bytes; write a size per second: 512B/s, 1KiB/s or 10MiB/s");
        size.map(|s| ByteRate(s.0)).ok_or_else(bad)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", tidegate_filters::ByteSize(self.0))
    }
}

/// Where a listener sends everybody: the same host and path on https. Written `https`, or `https:8443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Of the https listener as visitors reach it.
    pub port: u16,
}

/// The port of https that no address needs to name.
const HTTPS_PORT: u16 = 443;

impl FromStr for Redirect {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let port = match s.strip_prefix("https") {
            Some("") => Some(HTTPS_PORT),
            Some(rest) => rest.strip_prefix(':').and_then(|p| p.parse().ok()).filter(|p| *p != 0),
            None => None,
        };
        port.map(|port| Redirect { port }).ok_or_else(|| format!("`{s}` is no redirect; write https, or https:8443"))
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            HTTPS_PORT => f.write_str("https"),
            port => write!(f, "https:{port}"),
        }
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
as_text!(
    Timestamp,
    "Timestamp",
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*([Zz]|[+-][0-9]{2}:?[0-9]{2}|\\[[A-Za-z0-9_+/-]+\\]| [A-Za-z0-9_+/-]+)$",
    "An instant with its offset from UTC or its time zone: 2026-12-01T10:00:00+08:00, 2026-12-01T10:00:00 Asia/Shanghai"
);
as_text!(Redirect, "Redirect", "^https(:[0-9]{1,5})?$", "To the same host and path on https: https, https:8443");
as_text!(ByteRate, "ByteRate", "^[0-9]+ ?(B|KiB|MiB|GiB) ?/s$", "Bytes per second: 1KiB/s");

/// An IP address and a port, for `deserialize_with`.
pub(crate) fn socket_address<'de, D: Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
    let s = Cow::<'de, str>::deserialize(d)?;
    parse_socket_address(&s).map_err(de::Error::custom)
}

/// An IP address and a port, with advice for what people write instead.
pub(crate) fn parse_socket_address(s: &str) -> Result<SocketAddr, String> {
    s.parse().map_err(|_| {
        let scheme = s.split_once("://").map(|(_, rest)| rest.trim_end_matches('/'));
        match scheme {
            Some(rest) if rest.parse::<SocketAddr>().is_ok() => format!("`{s}` is a URL; write only {rest}"),
            _ => format!(
                "`{s}` is not an IP address with a port; write 127.0.0.1:3000 or [::1]:3000 (host names are not looked up here)"
            ),
        }
    })
}

/// The schema of a socket address.
pub(crate) fn socket_address_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^(\\[[0-9a-fA-F:.]+\\]|[0-9.]+):[0-9]{1,5}$", "description": "An IP address and a port: 127.0.0.1:3000" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn instants_keep_their_offset() {
        let t: Timestamp = "2026-12-01T10:00:00+08:00".parse().unwrap();
        assert_eq!(t.to_string(), "2026-12-01T10:00:00+08:00");
        assert_eq!(t.unix_ms(), 1_796_090_400_000);
        assert_eq!("2026-12-01T02:00:00Z".parse::<Timestamp>().unwrap().unix_ms(), t.unix_ms());
        assert_eq!(Timestamp::from_unix_ms(t.unix_ms()).unwrap().unix_ms(), t.unix_ms());
    }

    #[test]
    fn time_zones_have_names() {
        let t: Timestamp = "2026-12-01T10:00:00[Asia/Shanghai]".parse().unwrap();
        assert_eq!((t.unix_ms(), t.to_string()), (1_796_090_400_000, "2026-12-01T10:00:00+08:00[Asia/Shanghai]".into()));
        assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t, "what is written is read again");
        assert_eq!("2026-12-01T10:00:00 Asia/Shanghai".parse::<Timestamp>().unwrap(), t, "without brackets, which YAML reads");
        assert_eq!(t.for_people(), "2026-12-01 10:00 Asia/Shanghai (+08:00)");
        assert_eq!("2026-12-01T10:00:00-03:30".parse::<Timestamp>().unwrap().for_people(), "2026-12-01 10:00 (-03:30)");
        let summer: Timestamp = "2026-07-01T10:00:00[Europe/Berlin]".parse().unwrap();
        let winter: Timestamp = "2026-12-01T10:00:00[Europe/Berlin]".parse().unwrap();
        assert!(summer.to_string().contains("+02:00") && winter.to_string().contains("+01:00"));
        // Clocks are put back at 03:00: half past two comes twice, and half past two in March does not come at all.
        for doubtful in ["2026-10-25T02:30:00[Europe/Berlin]", "2026-03-29T02:30:00[Europe/Berlin]"] {
            assert!(doubtful.parse::<Timestamp>().unwrap_err().contains("not an instant"), "{doubtful}");
        }
        assert!("2026-10-25T02:30:00+01:00[Europe/Berlin]".parse::<Timestamp>().is_ok(), "the offset says which");
        let conflict = "2026-12-01T10:00:00+08:00[Europe/Berlin]".parse::<Timestamp>().unwrap_err();
        assert!(conflict.contains("Europe/Berlin"), "{conflict}");
        assert!("2026-12-01T10:00:00[Mars/Olympus]".parse::<Timestamp>().unwrap_err().contains("Mars/Olympus"));
    }

    #[test]
    fn instants_need_all_their_parts() {
        for s in ["2026-12-01", "2026-12-01T10:00:00", "10:00", "tomorrow", "", "2026-13-01T10:00:00Z", "1960-01-01T00:00:00Z"] {
            let e = s.parse::<Timestamp>().unwrap_err();
            assert!(e.contains("write date, time and offset or time zone") || e.contains("1970"), "{s}: {e}");
        }
    }

    #[test]
    fn byte_rates() {
        assert_eq!("1KiB/s".parse::<ByteRate>().unwrap(), ByteRate(1024));
        assert_eq!(ByteRate(1024).to_string(), "1KiB/s");
        for s in ["1KiB", "1kb/s", "-1B/s", "1KiB/min"] {
            assert!(s.parse::<ByteRate>().is_err(), "{s}");
        }
    }

    #[test]
    fn redirects_name_a_port_or_none() {
        assert_eq!("https".parse::<Redirect>().unwrap(), Redirect { port: 443 });
        for s in ["https", "https:8443"] {
            assert_eq!(s.parse::<Redirect>().unwrap().to_string(), s);
        }
        for s in ["", "http", "https:", "https:0", "https:70000", "https://shop", "8443"] {
            assert!(s.parse::<Redirect>().unwrap_err().contains("write https"), "{s}");
        }
    }

    #[test]
    fn addresses_come_with_advice() {
        assert!(parse_socket_address("[::1]:80").is_ok());
        assert!(parse_socket_address("http://127.0.0.1:3000/").unwrap_err().contains("write only 127.0.0.1:3000"));
        assert!(parse_socket_address("shop:3000").unwrap_err().contains("host names"));
        assert!(parse_socket_address("127.0.0.1").is_err());
    }
}
