//! Message ids as the database stores them: in an order that is ours.

use scylla::value::CqlTimeuuid;
use spillway_types::MessageId;

/// A `timeuuid` is ordered by time and then, for a reason older than CQL, by the *signed* bytes of its node. With the
/// signs of these bytes turned over, the database orders ids as [`MessageId`] does. The first byte keeps its sign: it
/// is the same for all ids, because the variant is in it.
const SIGNS: u64 = 0x0080_8080_8080_8080;

pub(super) fn to_row(id: MessageId) -> CqlTimeuuid {
    CqlTimeuuid::from_bytes(turned(id.to_timeuuid()))
}

pub(super) fn from_row(id: CqlTimeuuid) -> MessageId {
    MessageId::from_timeuuid(turned(*id.as_bytes()))
}

fn turned(bytes: [u8; 16]) -> [u8; 16] {
    (u128::from_be_bytes(bytes) ^ u128::from(SIGNS)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CqlTimeuuid` compares as databases do.
    #[test]
    fn rows_are_in_the_order_of_ids() {
        let time = [1, 2, 3, 4, 5, 6, 7, 8];
        let id = |node: [u8; 8]| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&time);
            bytes[8..].copy_from_slice(&node);
            MessageId::from_bytes(bytes)
        };
        let nodes = [
            [0x80, 0x00, 1, 0, 0, 0, 0, 0],
            [0x80, 0x7F, 1, 0, 0, 0, 0x7F, 0],
            [0x80, 0x80, 1, 0, 0, 0, 0, 0],
            [0x80, 0xFF, 1, 0, 0, 0, 0, 0x00],
            [0x80, 0xFF, 1, 0, 0, 0, 0, 0x7F],
            [0x80, 0xFF, 1, 0, 0, 0, 0, 0x80],
            [0xBF, 0x00, 1, 0, 0, 0, 0, 0],
        ];
        let rows: Vec<_> = nodes.into_iter().map(|node| to_row(id(node))).collect();
        assert!(rows.is_sorted(), "{rows:?}");
        assert!(nodes.into_iter().zip(rows).all(|(node, row)| from_row(row) == id(node)));
    }
}
