//! What a run plays.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::curve::{Curve, CurveError, Replay};
use crate::language::{Expression, SyntaxError};

/// A profile by name, or a load that was written down.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Profile {
    /// January 2021: sign-ups by the hour, compressed
    #[default]
    Signal2021,
    /// The provider of codes takes a tenth for a while; the load tool plays the provider
    ProviderBrownout,
    /// A thousand numbers of one prefix that never type a code, among five per cent of honest people
    Pumping,
    /// A million people at five gateways, of which one is killed; in virtual time, with the waiting room's own code
    RoomMillion,
    /// What [`crate::language`] can say, the other profiles of [`crate::catalog`] among it
    Load(Arc<Expression>),
}

impl FromStr for Profile {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let expression = Expression::parse(text)?;
        let of_its_own = expression.alone().and_then(|entry| {
            [Self::Signal2021, Self::ProviderBrownout, Self::Pumping, Self::RoomMillion]
                .into_iter()
                .find(|profile| profile.name() == entry.name)
        });
        Ok(of_its_own.unwrap_or_else(|| Self::Load(Arc::new(expression))))
    }
}

/// What a provider of codes takes over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brownout {
    /// Codes a second, at first and at last.
    pub full_per_s: f64,
    /// In the middle third.
    pub low_per_s: f64,
    /// Of the measured part, after the calm.
    pub length: Duration,
}

impl Profile {
    /// As it was written.
    pub fn name(&self) -> &str {
        match self {
            Self::Signal2021 => crate::curve::SIGNAL_2021,
            Self::ProviderBrownout => "provider-brownout",
            Self::Pumping => "pumping",
            Self::RoomMillion => "room-million",
            Self::Load(expression) => expression.text(),
        }
    }

    /// Fit for the name of a folder.
    pub fn folder_name(&self) -> String {
        let mut name = String::new();
        for c in self.name().chars().take(FOLDER_NAME_MAX) {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' => name.push(c),
                _ if !name.ends_with('-') => name.push('-'),
                _ => {}
            }
        }
        name.trim_matches('-').to_owned()
    }

    /// `None` for what is more than a load.
    pub fn expression(&self) -> Option<&Expression> {
        match self {
            Self::Load(expression) => Some(expression),
            _ => None,
        }
    }

    /// Whether the load tool plays the provider of codes, and so must start the service itself.
    pub const fn plays_provider(&self) -> bool {
        matches!(self, Self::ProviderBrownout | Self::Pumping)
    }
}

impl Brownout {
    /// Of a provider that takes `full_per_s` codes.
    pub fn new(full_per_s: f64, length: Duration) -> Self {
        Self { full_per_s, low_per_s: full_per_s * LOW, length }
    }

    /// Half of what it takes at its best, all the time: five times what it takes at its worst.
    ///
    /// # Errors
    ///
    /// When that is no rate.
    pub fn newcomers(&self) -> Result<Replay, CurveError> {
        Ok(Replay::of(Curve::constant(self.full_per_s * OFFERED, self.length)?))
    }

    pub fn fails_at(&self) -> Duration {
        self.length / 3
    }

    pub fn is_back_at(&self) -> Duration {
        self.length * 2 / 3
    }
}

const FOLDER_NAME_MAX: usize = 48;
const LOW: f64 = 0.1;
const OFFERED: f64 = 0.5;

/// Numbers that are pumped.
pub const PUMPED: u32 = 1_000;
/// All that they share: German mobile numbers, of which four more digits are free.
pub const PUMPED_PREFIX: &str = "+491761234";
/// Every how manyth of those who come is honest: five in a hundred.
const HONEST_EVERY: u64 = 20;

/// Who comes as the `n`th while a prefix is pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comer {
    Honest,
    /// The number to pump, of [`PUMPED`].
    Pumper(u32),
    /// All numbers have been pumped.
    Nobody,
}

pub fn comer(n: u64) -> Comer {
    if n % HONEST_EVERY == HONEST_EVERY - 1 {
        return Comer::Honest;
    }
    let pumper = n - n / HONEST_EVERY;
    u32::try_from(pumper).ok().filter(|pumper| *pumper < PUMPED).map_or(Comer::Nobody, Comer::Pumper)
}

pub fn pumped_number(pumper: u32) -> String {
    format!("{PUMPED_PREFIX}{pumper:04}")
}

/// Evenly over a run of this length.
///
/// # Errors
///
/// When it has none.
pub fn pumping(length: Duration) -> Result<Replay, CurveError> {
    let all = f64::from(PUMPED) * HONEST_EVERY as f64 / (HONEST_EVERY as f64 - 1.0);
    Ok(Replay::of(Curve::constant(all / length.as_secs_f64(), length)?))
}

#[cfg(test)]
mod tests {
    use spillway_types::PhoneNumber;

    use super::*;

    #[test]
    fn every_pumped_number_can_be_called_and_comes_once_among_five_per_cent() {
        let comers: Vec<_> = (0..1_200).map(comer).collect();
        let pumpers: Vec<_> = comers
            .iter()
            .filter_map(|comer| if let Comer::Pumper(n) = comer { Some(*n) } else { None })
            .collect();
        assert_eq!(pumpers, (0..PUMPED).collect::<Vec<_>>());
        let last = comers.iter().rposition(|comer| matches!(comer, Comer::Pumper(_))).unwrap();
        let honest = comers[..=last].iter().filter(|comer| **comer == Comer::Honest).count();
        assert_eq!(honest, 52);
        assert!((pumping(Duration::from_secs(60)).unwrap().curve.total() - last as f64).abs() < 2.0);
        for n in [0, 7, 999] {
            PhoneNumber::parse(&pumped_number(n)).unwrap();
        }
    }

    #[test]
    fn names_and_loads_are_profiles() {
        for name in ["signal-2021", "provider-brownout", "pumping", "room-million"] {
            let profile: Profile = name.parse().unwrap();
            assert!(profile.expression().is_none() && profile.name() == name, "{name}");
            assert_eq!(profile.folder_name(), name);
        }
        let load: Profile = "30s@50 then spike(to=20x)".parse().unwrap();
        assert!(load.expression().is_some());
        assert_eq!(load.folder_name(), "30s-50-then-spike-to-20x");
        assert!("signal-2021 x 2".parse::<Profile>().unwrap().expression().is_some());
        assert!("spik".parse::<Profile>().is_err());
    }

    #[test]
    fn a_brownout_is_the_middle_third_and_offers_five_times_what_is_taken() {
        let brownout = Brownout::new(200.0, Duration::from_secs(60));
        assert_eq!((brownout.fails_at().as_secs(), brownout.is_back_at().as_secs()), (20, 40));
        assert_eq!(brownout.newcomers().unwrap().curve.peak_per_s() / brownout.low_per_s, 5.0);
    }
}
