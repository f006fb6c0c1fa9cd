//! Instants as people and programs write them.

use jiff::{Timestamp, Zoned, civil, fmt::strtime, tz::TimeZone};

/// Unix seconds smaller than this are taken for counts, not times: 1973.
const EPOCH_MIN: f64 = 1e8;
/// Forms that the standard parsers do not know.
const WITH_ZONE: [&str; 3] = ["%d/%b/%Y:%H:%M:%S %z", "%d/%b/%Y:%H:%M:%S.%f %z", "%a, %d %b %Y %H:%M:%S %z"];
const WITHOUT: [&str; 8] = [
    "%d/%b/%Y:%H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%Y%m%d%H%M%S",
];

/// Unix seconds with their fraction; a time without a zone is UTC.
pub(super) fn parse(text: &str) -> Option<f64> {
    let text = text.trim().trim_matches('"').trim();
    if text.is_empty() || text.len() > 64 || !text.as_bytes()[0].is_ascii_alphanumeric() {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.matches('.').count() <= 1 {
        return epoch(text);
    }
    let utc = |d: civil::DateTime| d.to_zoned(TimeZone::UTC).ok().map(|z| seconds(z.timestamp()));
    if let Ok(t) = text.parse::<Timestamp>() {
        return Some(seconds(t));
    }
    if let Ok(z) = text.parse::<Zoned>() {
        return Some(seconds(z.timestamp()));
    }
    if let Ok(d) = text.parse::<civil::DateTime>() {
        return utc(d);
    }
    if let Ok(d) = text.parse::<civil::Date>() {
        return utc(d.to_datetime(civil::Time::midnight()));
    }
    WITH_ZONE
        .iter()
        .find_map(|f| strtime::parse(f, text).ok()?.to_timestamp().ok().map(seconds))
        .or_else(|| WITHOUT.iter().find_map(|f| strtime::parse(f, text).ok()?.to_datetime().ok()).and_then(utc))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, by their size.
fn epoch(text: &str) -> Option<f64> {
    // Fourteen digits without a point are a date run together when they make one.
    if text.len() == 14
        && let Some(t) = strtime::parse("%Y%m%d%H%M%S", text).ok().and_then(|t| t.to_datetime().ok())
    {
        return t.to_zoned(TimeZone::UTC).ok().map(|z| seconds(z.timestamp()));
    }
    let n: f64 = text.parse().ok()?;
    let unit = [1.0, 1e3, 1e6, 1e9].into_iter().find(|u| n / u < 1e10)?;
    (n / unit >= EPOCH_MIN).then_some(n / unit)
}

fn seconds(t: Timestamp) -> f64 {
    t.as_second() as f64 + f64::from(t.subsec_nanosecond()) * 1e-9
}

/// `2026-12-01T09:30:00Z`.
pub(super) fn show(at_s: u64) -> String {
    i64::try_from(at_s).ok().and_then(|s| Timestamp::from_second(s).ok()).map_or_else(|| at_s.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_usual_forms_are_read() {
        let at = 1_431_857_103.0;
        for text in [
            "2015-05-17T10:05:03Z",
            "2015-05-17 10:05:03",
            "2015-05-17T12:05:03+02:00",
            "17/May/2015:10:05:03 +0000",
            "17/May/2015:13:35:03 +0330",
            "17/May/2015:10:05:03.000",
            "1431857103",
            "1431857103000",
            "1431857103000000",
            "05/17/2015 10:05:03",
            "20150517100503",
            "\"2015/05/17 10:05:03\"",
        ] {
            assert_eq!(parse(text), Some(at), "{text}");
        }
        assert!((parse("2023-11-16 18:17:03.9799600").unwrap() - 1_700_158_623.98).abs() < 1e-3);
        assert_eq!(parse("1998-04-30").map(|t| t % 86_400.0), Some(0.0));
        for text in ["", "42", "126898", "count", "-", "2015-13-01 00:00:00", "99999999999999999999999", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
