//! Dates and times of day as microscopes write them, in the form of ISO 8601.

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// `2021-03-12` of `3/12/2021`, `12-Mar-21`, `14/05/2019`, `2021-03-12` or `2021-03-12T15:16:22`; none of anything else.
///
/// Files do not say which of two small numbers is the month: it is the first, as RosettaSciIO has it.
pub(super) fn date(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.split(['T', ' ']).next()?;
    let parts: Vec<&str> = text.split(['/', '-', '.']).collect();
    let [a, b, c] = parts[..] else { return None };
    let number = |part: &str| part.parse::<u32>().ok();
    let named = |part: &str| {
        let part = part.to_lowercase();
        let month = MONTHS.iter().position(|month| part.starts_with(month));
        month.map(|index| index as u32 + 1)
    };
    let (year, month, day) = if a.len() == 4 {
        (number(a)?, number(b).or(named(b))?, number(c)?)
    } else if let Some(month) = named(b) {
        (number(c)?, month, number(a)?)
    } else {
        match (number(a)?, number(b)?) {
            (day, month) if day > 12 => (number(c)?, month, day),
            (month, day) => (number(c)?, month, day),
        }
    };
    // Two digits: this century's, but for those to come.
    let year = match year {
        0..=68 => year + 2000,
        69..=99 => year + 1900,
        year => year,
    };
    let real = (1900..=2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    real.then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// `14:49:45` of `2:49:45 PM`, `14:49:45` or `2021-03-12T14:49:45.5+01:00`; none of anything else.
pub(super) fn time(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let text = text.rsplit_once('t').map_or(&text[..], |(_, time)| time);
    let half = ["am", "pm"].iter().find(|half| text.ends_with(*half));
    let digits: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == ':').collect();
    let parts: Option<Vec<u32>> = digits.split(':').map(|part| part.parse().ok()).collect();
    let (hour, minute, second) = match parts?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let hour = match half {
        Some(&"am") => hour % 12,
        Some(_) => hour % 12 + 12,
        None => hour,
    };
    let real = hour < 24 && minute < 60 && second < 61;
    real.then(|| format!("{hour:02}:{minute:02}:{second:02}"))
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
