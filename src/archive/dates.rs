//! Dates and times of day, from the many forms in which microscopes write them to ISO 8601.

use chrono::{Datelike, NaiveDate, NaiveTime};

/// Tried in this order, with every separator as `/`. Two digits of a year are of this century up to 68.
///
/// Files do not say which of two small numbers is the month: the first is, as in RosettaSciIO.
const DATES: [&str; 8] =
    ["%d/%b/%y", "%m/%d/%y", "%d/%m/%y", "%d/%b/%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%Y/%b/%d"];

/// Tried in this order.
const TIMES: [&str; 4] = ["%I:%M:%S%p", "%I:%M%p", "%H:%M:%S", "%H:%M"];

/// `2021-03-12` from `3/12/2021`, `12-Mar-21`, `14/05/2019`, `2021-03-12` or `2021-03-12T15:16:22`; none from anything
/// else.
pub(super) fn date(text: &str) -> Option<String> {
    let text = text.trim().split(['T', ' ']).next()?.replace(['-', '.'], "/");
    let date = DATES.iter().find_map(|format| NaiveDate::parse_from_str(&text, format).ok())?;
    (1900..=2200).contains(&date.year()).then(|| date.to_string())
}

/// `14:49:45` from `2:49:45 PM`, `14:49:45` or `2021-03-12T14:49:45.5+01:00`; none from anything else.
pub(super) fn time(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let text = text.rsplit_once('t').map_or(&text[..], |(_, time)| time);
    // Fractions of a second and time zones are left out.
    let clock: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == ':').collect();
    let half = ["am", "pm"].into_iter().find(|half| text.ends_with(half)).unwrap_or_default();
    let clock = clock + half;
    let time = TIMES.iter().find_map(|format| NaiveTime::parse_from_str(&clock, format).ok())?;
    Some(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_many_countries_are_read() {
        for (text, found) in [
            ("14/05/2019", Some("2019-05-14")),
            ("3/10/2020", Some("2020-03-10")),
            ("12-Mar-21", Some("2021-03-12")),
            ("2016-04-22T16:34:54", Some("2016-04-22")),
            ("13/13/2020", None),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(date(text).as_deref(), found, "{text}");
        }
    }

    #[test]
    fn times_of_two_halves_or_of_one_day_are_read() {
        for (text, found) in [
            ("2:49:45 PM", Some("14:49:45")),
            ("12:00:01 AM", Some("00:00:01")),
            ("1:10:00 AM", Some("01:10:00")),
            ("20:50:13", Some("20:50:13")),
            ("2016-04-22T16:34:54.25Z", Some("16:34:54")),
            ("2016-04-22", None),
            ("24:00:00", None),
            ("noon", None),
        ] {
            assert_eq!(time(text).as_deref(), found, "{text}");
        }
    }
}
