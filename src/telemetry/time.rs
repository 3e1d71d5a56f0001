//! Times as log lines show them: RFC 3339, UTC, milliseconds.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::json::digits;

/// `2026-08-20T14:02:11.123Z`.
pub struct Rfc3339(pub SystemTime);

impl Rfc3339 {
    /// Writes it as it is shown.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let of_day = seconds % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let parts = [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (hour, 2, b':'), (minute, 2, b':'), (second, 2, b'.')];
        for (number, least, behind) in parts.into_iter().chain([(u64::from(since.subsec_millis()), 3, b'Z')]) {
            digits(out, number, least);
            out.push(behind);
        }
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.write_to(&mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Year, month and day of a day that is counted from 1 January 1970, in the proleptic Gregorian calendar.
/// Years begin in March here, so that the leap day is a year's last.
#[expect(clippy::arithmetic_side_effects, reason = "no step leaves u64 for the days that a SystemTime can hold, and every divisor is a number of its own")]
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    let days = days.saturating_add(DAYS_TO_1970);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_shown_as_the_calendar_has_them() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_787_234_531, "2026-08-20T14:02:11.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), shown);
        }
    }
}
