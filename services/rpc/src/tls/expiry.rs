//! When a certificate stops being valid: the one field of X.509 that nothing else here reads (RFC 5280, 4.1).

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, in which the version is, unless it is the first.
const VERSION: u8 = 0xA0;

/// `notAfter`, in seconds of Unix time. `None` for what is no certificate in DER.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = any(fields)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = any(fields)?.2;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, _, not_after) = any(validity)?;
    let (tag, text, _) = any(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content, and what follows.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
        // More than four bytes of length are no certificate.
        let known = (1..=4).contains(&bytes.len());
        let length = bytes.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        (known.then_some(length)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Content and what follows, of what must have this tag.
fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = any(der)?;
    (tag == wanted).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ`, which is of 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => digits.split_at_checked(2)?,
        GENERALIZED_TIME => digits.split_at_checked(4)?,
        _ => return None,
    };
    if rest.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: i64 = year.parse().ok()?;
    let year = match tag {
        UTC_TIME if year < 50 => 2000 + year,
        UTC_TIME => 1900 + year,
        _ => year,
    };
    let number = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    let seconds = number(4)? * 3_600 + number(6)? * 60 + number(8)?;
    is_date.then(|| days(year, month, day) * 86_400 + seconds)
}

/// From 1970-01-01, in the Gregorian calendar: years begin in March, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::{days, not_after};

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_found_in_both_notations() {
        assert_eq!(not_after(&certificate(2027, 1, 15)), Some(1_799_971_200));
        // From 2050 on a year has four digits.
        assert_eq!(not_after(&certificate(2050, 3, 1)), Some(2_529_705_600));
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        assert_eq!(
            [days(1970, 1, 1), days(2000, 2, 29), days(2000, 3, 1), days(2100, 3, 1)],
            [0, 11_016, 11_017, 47_541]
        );
    }

    #[test]
    fn a_part_of_a_certificate_is_none() {
        let whole = certificate(2030, 6, 1);
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(prop::num::u8::ANY, 0..300)) {
            not_after(&bytes);
        }
    }
}
