//! What an operator may order.

use std::fmt;
use std::str::FromStr;

use spillway_waiting_room::Operator;

/// An order, as text: `auto`, `freeze`, `open` or a number of sign-ups a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RoomOrder {
    #[default]
    Auto,
    Freeze,
    Open,
    /// Sign-ups a second.
    Rate(f64),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not auto, freeze, open or a number of sign-ups a second that is not negative")]
pub struct NoRoomOrder(String);

impl RoomOrder {
    /// # Errors
    ///
    /// When it is negative or not a number.
    pub fn rate(rate: f64) -> Result<Self, NoRoomOrder> {
        if rate.is_finite() && rate >= 0.0 {
            Ok(Self::Rate(rate))
        } else {
            Err(NoRoomOrder(rate.to_string()))
        }
    }

    pub(super) const fn operator(self) -> Operator {
        match self {
            Self::Auto => Operator::Auto,
            Self::Freeze => Operator::Freeze,
            Self::Open => Operator::Open,
            Self::Rate(rate) => Operator::Rate(rate),
        }
    }
}

impl FromStr for RoomOrder {
    type Err = NoRoomOrder;

    fn from_str(text: &str) -> Result<Self, NoRoomOrder> {
        match text {
            "auto" => Ok(Self::Auto),
            "freeze" => Ok(Self::Freeze),
            "open" => Ok(Self::Open),
            _ => Self::rate(text.parse().map_err(|_| NoRoomOrder(text.to_owned()))?),
        }
    }
}

impl fmt::Display for RoomOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Freeze => f.write_str("freeze"),
            Self::Open => f.write_str("open"),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for order in [RoomOrder::Auto, RoomOrder::Freeze, RoomOrder::Open, RoomOrder::Rate(2.5)] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for wrong in ["", "-1", "nan", "inf", "fast"] {
            assert!(wrong.parse::<RoomOrder>().is_err(), "{wrong}");
        }
    }
}
