//! Instants as people and programs write them.

use jiff::{Timestamp, Zoned, civil, fmt::strtime, tz::TimeZone};

/// Unix seconds smaller than this are taken for counts, not times: 1973.
const EPOCH_MIN: f64 = 1e8;
/// Forms that the standard parsers do not know.
const WITH_ZONE: [&str; 3] = ["%d/%b/%Y:%H:%M:%S %z", "%d/%b/%Y:%H:%M:%S.%f %z", "%a, %d %b %Y %H:%M:%S %z"];
const WITHOUT: [&str; 6] =
    ["%d/%b/%Y:%H:%M:%S%.f", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%Y%m%d%H%M%S"];
/// With slashes, where some have the month first and others the day.
const MONTH_FIRST: [&str; 3] = ["%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y"];
const DAY_FIRST: [&str; 3] = ["%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y"];

/// How a column writes dates with slashes.
#[derive(Debug, Default)]
pub(super) struct Slashes {
    /// The first cell that can only have the day first, and the first that can only have the month first.
    day: Option<String>,
    month: Option<String>,
    /// The first that can be both.
    both: Option<String>,
}

impl Slashes {
    /// Looks at all cells.
    pub(super) fn of<'c>(cells: impl Iterator<Item = &'c str>) -> Self {
        let mut found = Slashes::default();
        for cell in cells {
            let Some((first, second)) = slashed(cell) else { continue };
            let place = match (first > 12, second > 12) {
                (true, _) => &mut found.day,
                (_, true) => &mut found.month,
                // The same day either way says nothing.
                _ if first == second => continue,
                _ => &mut found.both,
            };
            place.get_or_insert_with(|| cell.trim().to_owned());
        }
        found
    }

    /// Two cells that cannot be of one column.
    pub(super) fn contradict(&self) -> Option<(&str, &str)> {
        Some((self.day.as_deref()?, self.month.as_deref()?))
    }

    /// As [`parse`], day first where the column is so.
    pub(super) fn parse(&self, cell: &str) -> Option<f64> {
        match (slashed(cell), &self.day) {
            (Some(_), Some(_)) => without_zone(cell.trim().trim_matches('"').trim(), &DAY_FIRST),
            _ => parse(cell),
        }
    }

    /// What a reader should know of it.
    pub(super) fn words(&self) -> Option<String> {
        match (&self.day, &self.month, &self.both) {
            (Some(cell), ..) => Some(format!("dates are read day first, as `{cell}` must be")),
            (None, None, Some(cell)) => Some(format!(
                "dates like `{cell}` are read month first, and nothing in the file says so; if the day is first, write 2026-12-01"
            )),
            _ => None,
        }
    }
}

/// The first two numbers of `1/2/2026 …`.
fn slashed(cell: &str) -> Option<(u32, u32)> {
    let mut parts = cell.trim().trim_matches('"').trim().split('/');
    let (first, second, year) = (parts.next()?, parts.next()?, parts.next()?);
    let short = |s: &str| (1..=2).contains(&s.len()).then(|| s.parse().ok()).flatten();
    let is_year = year.len() >= 4 && year.bytes().take(4).all(|b| b.is_ascii_digit());
    Some((short(first)?, short(second)?)).filter(|_| is_year)
}

fn without_zone(text: &str, forms: &[&str]) -> Option<f64> {
    let parsed = |f: &&str| {
        let parsed = strtime::parse(f, text).ok()?;
        parsed.to_datetime().ok().or_else(|| Some(parsed.to_date().ok()?.to_datetime(civil::Time::midnight())))
    };
    let zoned = forms.iter().find_map(parsed)?.to_zoned(TimeZone::UTC).ok()?;
    Some(seconds(zoned.timestamp()))
}

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
        .or_else(|| [&WITHOUT[..], &MONTH_FIRST, &DAY_FIRST].into_iter().find_map(|forms| without_zone(text, forms)))
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
        assert_eq!(parse("25/12/2015 10:00"), parse("2015-12-25T10:00:00Z"), "there is no 25th month");
        assert_eq!(parse("12/25/2015"), parse("2015-12-25"));
        for text in ["", "42", "126898", "count", "-", "2015-13-01 00:00:00", "99999999999999999999999", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_column_has_the_day_first_or_the_month() {
        let day = Slashes::of(["05/04/2015 10:00:00", "25/04/2015 10:00:00"].into_iter());
        assert_eq!(day.parse("05/04/2015 10:00:00"), parse("2015-04-05T10:00:00Z"));
        assert!(day.words().unwrap().contains("day first"));
        let month = Slashes::of(["05/04/2015 10:00", "04/25/2015 10:00"].into_iter());
        assert_eq!((month.parse("05/04/2015 10:00"), month.words()), (parse("2015-05-04T10:00:00Z"), None));
        let unsure = Slashes::of(["05/04/2015 10:00", "05/05/2015 10:00"].into_iter());
        assert!(unsure.words().unwrap().contains("`05/04/2015 10:00` are read month first"));
        assert_eq!(unsure.parse("05/04/2015 10:00"), parse("2015-05-04T10:00:00Z"));
        assert!(Slashes::of(["25/04/2015", "04/25/2015"].into_iter()).contradict().is_some());
        let other =
            Slashes::of(["2015-04-05T10:00:00Z", "17/May/2015:10:05:03 +0000", "1700000000", "2015/04/05 10:00"].into_iter());
        assert!(other.words().is_none() && other.parse("17/May/2015:10:05:03 +0000").is_some());
    }
}
