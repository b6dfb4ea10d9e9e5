use std::collections::HashMap;

use spillway_store::verifications::{ProviderTag, Transport};

/// On what terms a provider is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// For metrics, logs and the sessions in which it failed.
    pub name: String,
    pub transports: Vec<Transport>,
    /// Country calling codes; empty: all.
    pub countries: Vec<u16>,
    pub sms: Costs,
    pub voice: Costs,
    /// Codes a second that it takes; absent: unknown, and learnt.
    pub rate_per_second: Option<f64>,
    /// Whether its codes cost money or reach people, so that abuse has to be kept from it.
    pub guarded: bool,
}

/// Millionths of the currency's unit for a code, by country calling code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    pub default: u64,
    pub countries: HashMap<u16, u64>,
}

impl Terms {
    /// All transports and countries, any rate, at no cost, unguarded.
    pub fn free(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            transports: vec![Transport::Sms, Transport::Voice],
            countries: Vec::new(),
            sms: Costs::default(),
            voice: Costs::default(),
            rate_per_second: None,
            guarded: false,
        }
    }

    /// FNV-1a, 32 bits: the same in every process, whatever the order of the settings.
    pub(crate) fn tag(&self) -> ProviderTag {
        ProviderTag(
            self.name
                .bytes()
                .fold(0x811C_9DC5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)),
        )
    }

    pub(crate) fn serves(&self, country: u16, transport: Transport) -> bool {
        self.transports.contains(&transport)
            && (self.countries.is_empty() || self.countries.contains(&country))
    }

    /// In millionths of the currency's unit.
    pub(crate) fn cost(&self, country: u16, transport: Transport) -> u64 {
        let costs = match transport {
            Transport::Sms => &self.sms,
            Transport::Voice => &self.voice,
        };
        costs.countries.get(&country).copied().unwrap_or(costs.default)
    }

    /// The least that a code of any transport costs anywhere, in millionths of the currency's unit.
    pub(crate) fn cheapest(&self) -> u64 {
        let costs = [(Transport::Sms, &self.sms), (Transport::Voice, &self.voice)].into_iter();
        let served = costs.filter(|(transport, _)| self.transports.contains(transport));
        served.flat_map(|(_, c)| c.countries.values().copied().chain([c.default])).min().unwrap_or(0)
    }

    /// The most that an SMS costs anywhere, in millionths of the currency's unit.
    pub(crate) fn dearest_sms(&self) -> u64 {
        self.sms.countries.values().copied().fold(self.sms.default, u64::max)
    }

    pub(crate) fn costs_money(&self) -> bool {
        [&self.sms, &self.voice]
            .iter()
            .any(|costs| costs.default > 0 || costs.countries.values().any(|c| *c > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_of_the_standard_and_costs_go_by_country() {
        // From the test vectors of FNV.
        assert_eq!(Terms::free("foobar").tag(), ProviderTag(0xBF9C_F968));
        let sms = Costs { default: 5, countries: HashMap::from([(49, 7)]) };
        let terms = Terms { sms, countries: vec![49, 1], ..Terms::free("a") };
        assert_eq!((terms.cost(49, Transport::Sms), terms.cost(1, Transport::Sms)), (7, 5));
        assert_eq!(terms.cost(49, Transport::Voice), 0);
        assert!(terms.serves(49, Transport::Voice) && !terms.serves(7, Transport::Sms));
    }
}
