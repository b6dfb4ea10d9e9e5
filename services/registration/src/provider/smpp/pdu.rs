//! Messages as SMPP 3.4 wants them.

use std::time::Duration;

use rusmpp::CommandStatus;
use rusmpp::pdus::{BindTransceiver, SubmitSm};
use rusmpp::types::{COctetString, EmptyOrFullCOctetString, OctetString};
use rusmpp::values::{
    DataCoding, EsmClass, InterfaceVersion, IntermediateNotification, MCDeliveryReceipt, Npi,
    RegisteredDelivery, SmeOriginatedAcknowledgement, Ton,
};
use spillway_types::PhoneNumber;

use super::super::{Code, ProviderError};
use super::config::SmppConfig;

const SEPTETS_MAX: usize = 160;
const UCS2_MAX: usize = 70;
/// Digits of the longest short code.
const SHORT_CODE_MAX: usize = 6;
const ALPHANUMERIC_MAX: usize = 11;
/// When a centre says "no more" it does not say for how long.
const THROTTLED: Duration = Duration::from_secs(1);

/// Who a message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    ton: Ton,
    npi: Npi,
    address: String,
}

impl Source {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let is_short = digits.len() <= SHORT_CODE_MAX && digits.len() == text.len();
            let (ton, npi) =
                if is_short { (Ton::Unknown, Npi::Unknown) } else { (Ton::International, Npi::Isdn) };
            // E.164: 15 digits.
            return (digits.len() <= 15).then(|| Self { ton, npi, address: digits.to_owned() });
        }
        let is_name = (1..=ALPHANUMERIC_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ' || byte == b'-');
        is_name.then(|| Self { ton: Ton::Alphanumeric, npi: Npi::Unknown, address: text.to_owned() })
    }
}

pub(super) fn bind(config: &SmppConfig) -> BindTransceiver {
    BindTransceiver::builder()
        .system_id(terminated(&config.system_id))
        .password(terminated(&config.password))
        .system_type(terminated(&config.system_type))
        .interface_version(InterfaceVersion::Smpp3_4)
        .build()
}

pub(super) fn submit(config: &SmppConfig, source: &Source, number: &PhoneNumber, code: &Code) -> SubmitSm {
    let text = config.text.replace("{code}", code.expose());
    let (coding, bytes) = body(&text).expect("it was checked, and all codes are of one length");
    let receipt = if config.receipts {
        MCDeliveryReceipt::McDeliveryReceiptRequestedWhereFinalDeliveryOutcomeIsSuccessOrFailure
    } else {
        MCDeliveryReceipt::NoMcDeliveryReceiptRequested
    };
    SubmitSm::builder()
        .source_addr_ton(source.ton)
        .source_addr_npi(source.npi)
        .source_addr(terminated(&source.address))
        .dest_addr_ton(Ton::International)
        .dest_addr_npi(Npi::Isdn)
        .destination_addr(terminated(number.as_e164().trim_start_matches('+')))
        // Not the library's default, which marks the message as an acknowledgement.
        .esm_class(EsmClass::from(0))
        .validity_period(config.validity.map_or_else(EmptyOrFullCOctetString::null, validity))
        .registered_delivery(RegisteredDelivery::new(
            receipt,
            SmeOriginatedAcknowledgement::NoReceiptSmeAcknowledgementRequested,
            IntermediateNotification::NoIntermediaryNotificationRequested,
            0,
        ))
        .data_coding(coding)
        .short_message(OctetString::from_vec(bytes).expect("160 octets are less than 255"))
        .build()
}

/// `None`: it does not fit into one message.
pub(super) fn body(text: &str) -> Option<(DataCoding, Vec<u8>)> {
    if text.bytes().all(is_plain) {
        return (text.len() <= SEPTETS_MAX).then(|| (DataCoding::McSpecific, text.as_bytes().to_vec()));
    }
    let units: Vec<u16> = text.encode_utf16().collect();
    let bytes = || units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    (units.len() <= UCS2_MAX).then(|| (DataCoding::Ucs2, bytes()))
}

/// Has the same place in ASCII and in the GSM alphabet (3GPP TS 23.038), so that it arrives whichever the centre takes for its own.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'!'..=b'#' | b'%'..=b'/' | b':'..=b'?' | b'\n')
}

/// Relative to now: `YYMMDDhhmmss000R`, section 7.1.1.
fn validity(validity: Duration) -> EmptyOrFullCOctetString<17> {
    let seconds = validity.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    let text = format!("0000{days:02}{hours:02}{minutes:02}{seconds:02}000R\0");
    EmptyOrFullCOctetString::from_vec(text.into_bytes()).expect("16 characters and a zero")
}

fn terminated<const MAX: usize>(text: &str) -> COctetString<1, MAX> {
    COctetString::from_vec([text.as_bytes(), &[0]].concat()).expect("its length and characters were checked")
}

/// What a centre says about a message that it did not take.
pub(super) fn refusal(status: CommandStatus) -> ProviderError {
    match status {
        CommandStatus::EsmeRthrottled | CommandStatus::EsmeRmsgqful => {
            ProviderError::Throttled { retry_after: THROTTLED }
        }
        CommandStatus::EsmeRinvdstadr | CommandStatus::EsmeRinvdstton | CommandStatus::EsmeRinvdstnpi => {
            ProviderError::Refused(answered(status))
        }
        _ => ProviderError::Failed(answered(status).into()),
    }
}

pub(super) fn answered(status: CommandStatus) -> String {
    format!("it answered with status {:#06x}", u32::from(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_told_apart() {
        let kind = |text| Source::parse(text).map(|source| (source.ton, source.npi, source.address));
        assert_eq!(kind("+4930123456"), Some((Ton::International, Npi::Isdn, "4930123456".to_owned())));
        assert_eq!(kind("12345"), Some((Ton::Unknown, Npi::Unknown, "12345".to_owned())));
        assert_eq!(kind("Spillway"), Some((Ton::Alphanumeric, Npi::Unknown, "Spillway".to_owned())));
        for wrong in ["", "+", "Twelve chars", "ümlaut", "1234567890123456"] {
            assert_eq!(kind(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn plain_text_is_sent_as_it_is_and_other_text_in_ucs_2() {
        assert_eq!(body("Code 1"), Some((DataCoding::McSpecific, b"Code 1".to_vec())));
        // In the GSM alphabet the dollar is at 2.
        let (coding, bytes) = body("a$").unwrap();
        assert_eq!((coding, bytes), (DataCoding::Ucs2, vec![0, b'a', 0, b'$']));
    }

    #[test]
    fn a_validity_is_relative() {
        let text = validity(Duration::from_secs(2 * 86_400 + 3 * 3_600 + 4 * 60 + 5));
        assert_eq!(text.as_str(), "000002030405000R");
    }
}
