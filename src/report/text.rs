//! Numbers and names as text: rounded, ticked, printable.

/// `text` with control characters, and those that turn the reading direction, replaced by U+FFFD. Markup is left alone.
pub fn printable(text: &str) -> String {
    let is_printable = |c: char| {
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        // Noncharacters are legal in Rust's strings and not in HTML.
        let noncharacter = matches!(c as u32 & 0xffff, 0xfffe | 0xffff);
        (!c.is_control() || c == '\n' || c == '\t') && !turns && !noncharacter
    };
    text.chars().map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// `value` with four significant digits at most, trailing zeros dropped.
pub fn number(value: f64) -> String {
    digits(value, 4)
}

/// `value` as a share in percent.
pub fn percent(value: f64) -> String {
    if value > 0.0 && value < 1e-4 { "below 0.01 %".into() } else { format!("{} %", digits(value * 100.0, 2)) }
}

/// `count` and `noun`, in the plural unless it is one.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `value` with at most `significant` digits; far from 1 as a power of ten.
pub fn digits(value: f64, significant: usize) -> String {
    if !value.is_finite() {
        return "n/a".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    // Rounded first, so that 9.9996 has the digits of 10.00.
    let scientific = format!("{value:.*e}", significant.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-3..6).contains(&power) {
        let decimals = significant as i32 - 1 - power;
        trimmed(&format!("{value:.*}", decimals.max(0) as usize))
    } else {
        format!("{}×10{}", trimmed(mantissa), superscript(power))
    }
}

fn superscript(power: i32) -> String {
    let raised = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32('⁰' as u32 + (c as u32 - '0' as u32)).unwrap_or(c),
    };
    power.to_string().chars().map(raised).collect()
}

fn trimmed(decimal: &str) -> String {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.').into() } else { decimal.into() }
}

/// The largest of 1, 2 and 5 times a power of ten that is not above `value`, which is positive.
pub fn round_down(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let lead = [5.0, 2.0].into_iter().find(|lead| lead * power <= value * (1.0 + 1e-9));
    lead.unwrap_or(1.0) * power
}

/// About `count` round values within `[low, high]`; none where that is no range.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let width = high - low;
    if !width.is_finite() || width <= 0.0 {
        return Vec::new();
    }
    let step = round_down(2.0 * width / count.max(1) as f64);
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    (0..=(last - first).clamp(0.0, 100.0) as usize).map(|i| (first + i as f64) * step).collect()
}

/// The label of one of `ticks`, with enough digits to tell it from its neighbours.
pub fn tick_label(value: f64, ticks: &[f64]) -> String {
    let step = match ticks {
        [a, b, ..] => (b - a).abs(),
        _ => return number(value),
    };
    if value.abs() < step * 1e-6 {
        return "0".into();
    }
    let most = ticks.iter().fold(step, |most, t| most.max(t.abs()));
    let significant = most.log10().floor() - step.log10().floor() + 1.0;
    digits(value, significant.clamp(1.0, 12.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_disarmed() {
        assert_eq!(printable("a\u{0}\u{202e}b\n<\u{ffff}"), "a\u{fffd}\u{fffd}b\n<\u{fffd}");
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.98765, "0.9877"),
            (9.99996, "10"),
            (123456.0, "123456"),
            (1.5e9, "1.5×10⁹"),
            (-2e-5, "-2×10⁻⁵"),
            (f64::NAN, "n/a"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(percent(0.0123), "1.2 %");
        assert_eq!(counted(1, "pixel") + &counted(0, "region"), "1 pixel0 regions");
    }

    #[test]
    fn ticks_are_round_and_told_apart() {
        let at = ticks(1500.2, 1502.1, 4);
        let labels: Vec<String> = at.iter().map(|&t| tick_label(t, &at)).collect();
        assert_eq!(labels, ["1500.5", "1501", "1501.5", "1502"]);
        assert_eq!(ticks(0.0, 0.0, 5), Vec::<f64>::new());
        assert_eq!(ticks(0.0, f64::NAN, 5), Vec::<f64>::new());
        assert_eq!(round_down(0.7), 0.5);
        assert_eq!(round_down(100.0), 100.0);
    }
}
