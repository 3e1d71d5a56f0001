//! Durations: as they are written, and what was meant where they are not.

use std::time::Duration;

use super::{Wrong, split_unit};

/// The units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A whole number and a unit; what is too large for a clock is as long as it gets.
pub(super) fn exact(text: &str) -> Option<Duration> {
    let (digits, unit) = split_unit(text);
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit).filter(|_| !digits.is_empty())?;
    Some(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*milliseconds)).map_or(Duration::MAX, Duration::from_millis))
}

/// The duration, if it is long enough and not too long.
pub(super) fn between(duration: Duration, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    match duration {
        short if short < least => Err(Wrong::because(format!("at least {}", written(least)))),
        long if long > most => Err(Wrong::because(format!("at most {}", written(most)))),
        right => Ok(right),
    }
}

/// What is wrong with a text that is no duration.
pub(super) fn wrong(text: &str) -> Wrong {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Wrong::because("the unit is missing").write(format!("{text}s"));
    }
    Wrong::because("a whole number and one of ms, s, m, h, d").write(meant(text).map_or_else(|| "30s".to_owned(), written))
}

/// `2 sec`, `1.5s`, `1m30s`: in units that people use.
fn meant(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let (mut rest, mut whole) = (text.trim_start_matches(['-', '+']), 0.0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, behind) = rest.split_at_checked(digits)?;
        let behind = behind.trim_start();
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at_checked(letters)?;
        let unit = match unit {
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => 1.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
            "d" | "day" | "days" => 86_400_000.0,
            _ => return None,
        };
        whole += number.parse::<f64>().ok()? * unit;
        rest = behind.trim_start();
    }
    Duration::try_from_secs_f64((whole / 1_000.0).min(1e9)).ok().map(|duration| Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

/// With the largest unit that leaves a whole number.
fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let fits = |(_, of): &&(&str, u64)| milliseconds > 0 && milliseconds.is_multiple_of(u128::from(*of));
    UNITS.iter().find(fits).map_or_else(|| "0s".to_owned(), |(name, of)| format!("{}{name}", milliseconds / u128::from(*of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_written_as_it_is_read() {
        for (text, instead) in [
            ("2 sec", "2s"),
            ("500 msec", "500ms"),
            ("500MS", "500ms"),
            ("5 minutes", "5m"),
            ("1.5s", "1500ms"),
            ("1m30s", "90s"),
            ("1h 30min", "90m"),
            ("-5s", "5s"),
            ("48h00m", "2d"),
            ("0 sec", "0s"),
        ] {
            assert_eq!(meant(text).map(written).as_deref(), Some(instead), "{text}");
            assert!(exact(instead).is_some(), "{instead}");
        }
        for nonsense in ["", "s", "never", "PT5S", "5us", "1.2.3s", "5", "5ß"] {
            assert_eq!(meant(nonsense).filter(|_| !nonsense.is_empty()), None, "{nonsense}");
        }
        assert_eq!(exact("99999999999999999999d"), Some(Duration::MAX));
    }
}
