//! Receipts inside `deliver_sm`.
//!
//! Newer centres name message and state in two optional parameters; all of them write a line of text, of which SMPP 3.4, appendix B, gives
//! the usual form: `id:IIIIIIIIII sub:SSS dlvrd:DDD submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DDDDDDD err:E text: ...`.

use rusmpp::pdus::DeliverSm;
use rusmpp::tlvs::TlvValue;
use rusmpp::values::MessageState;

use super::super::{Delivery, Receipt};
use super::config::MessageIds;

/// The bit of `esm_class` that marks a receipt: section 5.2.12.
const RECEIPT: u8 = 0b0000_0100;

/// `None`: it is an ordinary message, or a receipt that cannot be understood.
pub(super) fn receipt(delivered: &DeliverSm, ids: MessageIds) -> Option<Receipt> {
    if u8::from(delivered.esm_class) & RECEIPT == 0 {
        return None;
    }
    let (mut name, mut delivery) = (None, None);
    for tlv in delivered.tlvs() {
        match tlv.value() {
            Some(TlvValue::ReceiptedMessageId(id)) => name = Some(id.as_str().to_owned()),
            Some(TlvValue::MessageState(state)) => delivery = Some(of_state(*state)),
            _ => {}
        }
    }
    let text = String::from_utf8_lossy(delivered.short_message().as_ref());
    let name = name.or_else(|| field(&text, "id:").map(|id| of_text(id, ids)))?;
    let delivery = delivery.or_else(|| field(&text, "stat:").map(of_stat))?;
    (!name.is_empty()).then_some(Receipt { message: name, delivery })
}

const fn of_state(state: MessageState) -> Delivery {
    match state {
        MessageState::Delivered => Delivery::Arrived,
        MessageState::Expired
        | MessageState::Deleted
        | MessageState::Undeliverable
        | MessageState::Rejected
        | MessageState::Skipped => Delivery::Failed,
        _ => Delivery::Unknown,
    }
}

fn of_stat(stat: &str) -> Delivery {
    match stat.to_ascii_uppercase().as_str() {
        "DELIVRD" | "DELIVERED" => Delivery::Arrived,
        "EXPIRED" | "DELETED" | "UNDELIV" | "REJECTD" | "REJECTED" => Delivery::Failed,
        _ => Delivery::Unknown,
    }
}

/// The same name as in the answer.
fn of_text(id: &str, ids: MessageIds) -> String {
    match ids {
        MessageIds::Same => id.to_owned(),
        MessageIds::HexThenDecimal => {
            id.parse::<u128>().map_or_else(|_| id.to_owned(), |number| format!("{number:x}"))
        }
    }
}

/// The name in an answer, so that it is the same as in a receipt.
pub(super) fn of_answer(id: &str, ids: MessageIds) -> String {
    match ids {
        MessageIds::Same => id.to_owned(),
        MessageIds::HexThenDecimal => {
            u128::from_str_radix(id, 16).map_or_else(|_| id.to_owned(), |number| format!("{number:x}"))
        }
    }
}

/// The word after `key`, which begins a word itself, in whatever case.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|word| {
        let (name, value) = word.split_at_checked(key.len())?;
        (name.eq_ignore_ascii_case(key) && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use rusmpp::tlvs::MessageDeliveryRequestTlvValue;
    use rusmpp::types::{COctetString, OctetString};
    use rusmpp::values::EsmClass;

    use super::*;

    fn delivered(esm_class: u8, text: &str) -> DeliverSm {
        DeliverSm::builder()
            .esm_class(EsmClass::from(esm_class))
            .short_message(OctetString::from_slice(text.as_bytes()).unwrap())
            .build()
    }

    fn told(text: &str) -> Option<Receipt> {
        receipt(&delivered(RECEIPT, text), MessageIds::Same)
    }

    fn says(message: &str, delivery: Delivery) -> Option<Receipt> {
        Some(Receipt { message: message.to_owned(), delivery })
    }

    #[test]
    fn the_usual_line_is_understood_and_so_are_its_variants() {
        let line = "id:0123456789 sub:001 dlvrd:001 submit date:2101150930 done date:2101150931 stat:DELIVRD err:000 text:Your code is";
        assert_eq!(told(line), says("0123456789", Delivery::Arrived));
        assert_eq!(told("ID:a-b STAT:undeliv"), says("a-b", Delivery::Failed));
        assert_eq!(told("id:1 stat:ENROUTE"), says("1", Delivery::Unknown));
        assert_eq!(told("id:1 stat:WHATEVER err:1"), says("1", Delivery::Unknown));
        for garbage in
            ["", "id: stat:DELIVRD", "stat:DELIVRD", "id:1", "\u{1}\u{2}", "Hello id", "text:id:1 stat"]
        {
            assert_eq!(told(garbage), None, "{garbage:?}");
        }
        assert_eq!(
            receipt(&delivered(0, line), MessageIds::Same),
            None,
            "an ordinary message that looks like one"
        );
    }

    #[test]
    fn optional_parameters_come_first() {
        let mut both = delivered(RECEIPT, "id:other stat:UNDELIV");
        both.push_tlv(MessageDeliveryRequestTlvValue::ReceiptedMessageId(
            COctetString::from_static_slice(b"this\0").unwrap(),
        ));
        both.push_tlv(MessageDeliveryRequestTlvValue::MessageState(MessageState::Delivered));
        assert_eq!(receipt(&both, MessageIds::Same), says("this", Delivery::Arrived));
    }

    #[test]
    fn a_hexadecimal_answer_and_a_decimal_receipt_are_of_one_message() {
        let ids = MessageIds::HexThenDecimal;
        let told = receipt(&delivered(RECEIPT, "id:0000006699 stat:DELIVRD"), ids).unwrap();
        assert_eq!(told.message, of_answer("00001A2B", ids));
        assert_eq!(of_answer("not hex", ids), "not hex");
    }
}
