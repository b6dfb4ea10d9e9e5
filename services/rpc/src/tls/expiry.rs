//! When a certificate stops being valid.

/// `notAfter`, in seconds of Unix time. `None` for what is no certificate in DER.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::not_after;

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
    fn a_part_of_a_certificate_is_none() {
        let whole = certificate(2030, 6, 1);
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }
}
