//! Parses whole numbers in JSON's notation: `5`, `5.0` and `50e-1` are the same number (JSON Schema's `integer`). The
//! digits are parsed directly, since a float cannot represent every 64-bit number.

use windlass_types::Shown;

/// The error for a text that is not a 64-bit whole number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWhole {
    /// The number has a fractional part.
    #[error("must be a whole number, but was {}", Shown(.0))]
    Fraction(String),
    /// The whole number does not fit into 64 bits.
    #[error("must be a whole number from -2^63 to 2^63-1, but was {}", Shown(.0))]
    TooLarge(String),
    /// The text is not a number.
    #[error("must be a whole number, but was '{}'", Shown(.0))]
    NotANumber(String),
}

/// Parses a whole number.
///
/// # Errors
/// When the text is not a number, or the number has a fractional part or does not fit into 64 bits.
pub fn whole(text: &str) -> Result<i64, NotWhole> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let Some(Decimal { sign, digits, exponent }) = Decimal::read(text) else {
        return Err(NotWhole::NotANumber(text.to_owned()));
    };
    if digits.is_empty() {
        return Ok(0);
    }
    let too_large = || NotWhole::TooLarge(text.to_owned());
    let zeros = usize::try_from(exponent).map_err(|_| NotWhole::Fraction(text.to_owned()))?;
    if zeros.saturating_add(digits.len()) > MOST_DIGITS {
        return Err(too_large());
    }
    format!("{sign}{digits}{}", "0".repeat(zeros)).parse().map_err(|_| too_large())
}

/// The number of digits of 2^63.
const MOST_DIGITS: usize = 19;

/// A decimal number: its digits, without leading and trailing zeros, times a power of ten.
struct Decimal<'t> {
    sign: &'t str,
    digits: String,
    exponent: i64,
}

impl<'t> Decimal<'t> {
    fn read(text: &'t str) -> Option<Self> {
        let (sign, rest) = text.split_at(usize::from(text.starts_with('-')));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, are_digits(fraction).then_some(fraction)?),
            None => (mantissa, ""),
        };
        are_digits(whole).then_some(())?;
        let digits = [whole, fraction].concat();
        let significant = digits.trim_matches('0');
        let zeros_after = digits.len() - digits.trim_end_matches('0').len();
        let shift = i64::try_from(zeros_after).ok()?.saturating_sub(i64::try_from(fraction.len()).ok()?);
        Some(Self { sign, digits: significant.to_owned(), exponent: exponent.saturating_add(shift) })
    }
}

/// Parses an exponent. One that does not fit into 64 bits saturates: no body has enough digits to compensate for it.
fn read_exponent(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let exponent = are_digits(digits).then(|| digits.parse().unwrap_or(i64::MAX))?;
    Some(if is_negative { -exponent } else { exponent })
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_accepted_in_any_notation() {
        let table = [
            ("0", 0),
            ("-0", 0),
            ("5", 5),
            ("5.0", 5),
            ("-5.000", -5),
            ("1e5", 100_000),
            ("1E+5", 100_000),
            ("1.5e1", 15),
            ("50e-1", 5),
            ("1200e-2", 12),
            ("0.05e2", 5),
            ("-0.0", 0),
            ("0e999999999999999999999", 0),
            ("0.000e-999999999999999999999", 0),
            ("100000000000000000000000e-20", 1000),
            // A float cannot represent these.
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9007199254740993e0", 9_007_199_254_740_993),
            ("900719925474099.3e1", 9_007_199_254_740_993),
            ("9223372036854775807.0", i64::MAX),
            ("-9223372036854775808.0", i64::MIN),
            ("1e18", 1_000_000_000_000_000_000),
            ("1e00000000000000000000000000002", 100),
        ];
        for (text, expected) in table {
            assert_eq!(whole(text), Ok(expected), "{text}");
        }
        let long = format!("7.{}", "0".repeat(1_000_000));
        assert_eq!(whole(&long), Ok(7));
    }

    #[test]
    fn fractions_overflows_and_non_numbers_are_distinguished() {
        for text in ["1.5", "-0.1", "1e-1", "15e-2", "5.0000000000000000000000001", "1e-400", "1e-99999999999999999999"]
        {
            assert!(matches!(whole(text), Err(NotWhole::Fraction(_))), "{text}");
        }
        for text in
            ["9223372036854775808", "9223372036854775808.0", "1e19", "1e400", "-1e400", "1e999999999999999999999"]
        {
            assert!(matches!(whole(text), Err(NotWhole::TooLarge(_))), "{text}");
        }
        for text in [
            "", "-", ".", "5.", ".5", "e5", "5e", "5e+", "1.5.1", "0x10", "NaN", "Infinity", "1_000", "１", " 5", "--5",
        ] {
            assert!(matches!(whole(text), Err(NotWhole::NotANumber(_))), "{text}");
        }
    }
}
