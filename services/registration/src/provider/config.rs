//! The list of providers in the settings, and the providers that it makes.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spillway_chassis::Tasks;
use spillway_store::verifications::Transport;

use super::http::{HttpConfig, HttpConfigError, HttpProvider};
use super::sandbox::{Sandbox, SandboxConfig};
use super::smpp::{Smpp, SmppConfig, SmppConfigError};
use super::twilio::{Twilio, TwilioConfig, TwilioConfigError};
use super::{Carrier, Provider};
use crate::config::{BudgetConfig, CostConfig, CountryCode};
use crate::routing::{Costs, Terms};

/// A session remembers that many which failed, and 16 contracts are more than anybody has.
const PROVIDERS_MAX: usize = 16;
/// A name is a label of metrics.
const NAME_MAX: usize = 32;

/// One of the companies that deliver codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// For metrics and logs: lower-case letters, digits, `-` and `_`.
    pub name: String,
    pub kind: ProviderKind,
    pub transports: Vec<TransportName>,
    /// Country calling codes that it serves. Empty: all.
    pub countries: Vec<CountryCode>,
    /// Of an SMS.
    pub cost: CostConfig,
    /// Of a call; absent: as an SMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice_cost: Option<CostConfig>,
    /// Codes that it takes in a second. Absent: learnt from its answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    pub sandbox: SandboxConfig,
    pub http: HttpConfig,
    pub twilio: TwilioConfig,
    pub smpp: SmppConfig,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Delivers to nobody; codes can be read at `listen.sandbox_codes`.
    #[default]
    Sandbox,
    /// A webhook.
    Http,
    Twilio,
    /// A short message centre, by SMPP 3.4.
    Smpp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportName {
    Sms,
    Voice,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: ProviderKind::default(),
            transports: vec![TransportName::Sms, TransportName::Voice],
            countries: Vec::new(),
            cost: CostConfig::default(),
            voice_cost: None,
            rate_per_second: None,
            sandbox: SandboxConfig::default(),
            http: HttpConfig::default(),
            twilio: TwilioConfig::default(),
            smpp: SmppConfig::default(),
        }
    }
}

/// Why a list of providers cannot be used. The texts name the key inside the list, which the caller knows.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    #[error("there are {0} providers, and there may be {PROVIDERS_MAX}")]
    TooMany(usize),
    #[error("[{index}].name is {name:?}: 1 to {NAME_MAX} lower-case letters, digits, - and _")]
    Name { index: usize, name: String },
    #[error("[{index}].name is {name:?}, as another provider's is, or too like it")]
    SameName { index: usize, name: String },
    #[error("{name}.transports is empty: name \"sms\", \"voice\" or both")]
    NoTransport { name: String },
    #[error("{name}.rate_per_second is {rate}: it must be more than 0")]
    Rate { name: String, rate: f64 },
    #[error(
        "{name}.cost is more than 0, so set registration.budget.hour or registration.budget.day: money is not spent \
         without a limit"
    )]
    NoBudget { name: String },
    #[error("{name}.http cannot be used")]
    Http { name: String, source: HttpConfigError },
    #[error("{name}.twilio cannot be used")]
    Twilio { name: String, source: TwilioConfigError },
    #[error("{name}.smpp cannot be used")]
    Smpp { name: String, source: SmppConfigError },
}

/// Providers, and how to read what their sandboxes delivered.
#[derive(Debug)]
pub struct Carriers {
    pub carriers: Vec<Carrier>,
    /// One for all sandboxes, if there are any.
    pub sandbox: Option<Sandbox>,
}

impl ProviderConfig {
    fn terms(&self) -> Terms {
        let costs = |cost: &CostConfig| Costs { default: cost.default, countries: cost.by_country() };
        let mut terms = Terms {
            name: self.name.clone(),
            transports: self.transports.iter().map(|transport| (*transport).into()).collect(),
            countries: self.countries.iter().map(|country| country.0).collect(),
            sms: costs(&self.cost),
            voice: costs(self.voice_cost.as_ref().unwrap_or(&self.cost)),
            rate_per_second: self.rate_per_second,
            guarded: true,
        };
        terms.guarded = self.kind != ProviderKind::Sandbox || terms.costs_money();
        terms
    }

    fn check(&self, index: usize, budget: &BudgetConfig) -> Result<(), ProvidersError> {
        let name = self.name.clone();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
            return Err(ProvidersError::Name { index, name });
        }
        if self.transports.is_empty() {
            return Err(ProvidersError::NoTransport { name });
        }
        if let Some(rate) = self.rate_per_second.filter(|rate| !(*rate > 0.0 && rate.is_finite())) {
            return Err(ProvidersError::Rate { name, rate });
        }
        if self.terms().costs_money() && budget.hour.is_none() && budget.day.is_none() {
            return Err(ProvidersError::NoBudget { name });
        }
        Ok(())
    }
}

/// Finds what is wrong with a list without making anything of it.
///
/// # Errors
///
/// The first problem.
pub fn check(configs: &[ProviderConfig], budget: &BudgetConfig) -> Result<(), ProvidersError> {
    if configs.len() > PROVIDERS_MAX {
        return Err(ProvidersError::TooMany(configs.len()));
    }
    let mut tags = HashSet::new();
    for (index, config) in configs.iter().enumerate() {
        config.check(index, budget)?;
        if !tags.insert(config.terms().tag()) {
            return Err(ProvidersError::SameName { index, name: config.name.clone() });
        }
        match config.kind {
            ProviderKind::Sandbox => {}
            ProviderKind::Http => drop(http(config)?),
            ProviderKind::Twilio => drop(twilio(config)?),
            ProviderKind::Smpp => check_smpp(config)?,
        }
    }
    Ok(())
}

/// Makes the providers of a list that [`check`] has found nothing wrong with.
///
/// # Errors
///
/// When a client cannot be set up.
pub fn build(configs: &[ProviderConfig], tasks: &Tasks) -> Result<Carriers, ProvidersError> {
    let mut sandbox: Option<Sandbox> = None;
    let mut carriers = Vec::new();
    for config in configs {
        let provider: Arc<dyn Provider> = match config.kind {
            ProviderKind::Http => Arc::new(http(config)?),
            ProviderKind::Twilio => Arc::new(twilio(config)?),
            ProviderKind::Smpp => Arc::new(smpp(config, tasks)?),
            ProviderKind::Sandbox => {
                let new = match &sandbox {
                    Some(first) => first.beside(config.sandbox.clone()),
                    None => Sandbox::new(config.sandbox.clone(), tasks),
                };
                let new = new.named(&config.name);
                sandbox.get_or_insert_with(|| new.clone());
                Arc::new(new)
            }
        };
        carriers.push(Carrier { terms: config.terms(), provider });
    }
    Ok(Carriers { carriers, sandbox })
}

fn http(config: &ProviderConfig) -> Result<HttpProvider, ProvidersError> {
    HttpProvider::new(&config.http)
        .map_err(|source| ProvidersError::Http { name: config.name.clone(), source })
}

fn twilio(config: &ProviderConfig) -> Result<Twilio, ProvidersError> {
    let twilio = Twilio::new(&config.twilio, config.transports.contains(&TransportName::Voice));
    twilio.map_err(|source| ProvidersError::Twilio { name: config.name.clone(), source })
}

fn check_smpp(config: &ProviderConfig) -> Result<(), ProvidersError> {
    let wrong = |source| ProvidersError::Smpp { name: config.name.clone(), source };
    if config.transports != [TransportName::Sms] {
        return Err(wrong(SmppConfigError::Voice));
    }
    config.smpp.check().map_err(wrong)
}

fn smpp(config: &ProviderConfig, tasks: &Tasks) -> Result<Smpp, ProvidersError> {
    check_smpp(config)?;
    Smpp::new(&config.smpp, tasks)
        .map_err(|source| ProvidersError::Smpp { name: config.name.clone(), source })
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Sms => Self::Sms,
            TransportName::Voice => Self::Voice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> ProviderConfig {
        ProviderConfig { name: name.to_owned(), ..ProviderConfig::default() }
    }

    fn problem(config: ProviderConfig) -> String {
        check(&[named("first"), config], &BudgetConfig::default()).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_name_their_key() {
        check(&[named("first"), named("second")], &BudgetConfig::default()).unwrap();
        assert!(problem(named("")).starts_with("[1].name is \"\""));
        assert!(problem(named("A b")).starts_with("[1].name"));
        assert!(problem(named("first")).starts_with("[1].name is \"first\", as another"));
        let transports = Vec::new();
        assert!(problem(ProviderConfig { transports, ..named("a") }).starts_with("a.transports"));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let rate_per_second = Some(rate);
            assert!(
                problem(ProviderConfig { rate_per_second, ..named("a") }).starts_with("a.rate_per_second")
            );
        }
        let kind = ProviderKind::Http;
        assert!(problem(ProviderConfig { kind, ..named("a") }).starts_with("a.http"));
        let kind = ProviderKind::Twilio;
        assert!(problem(ProviderConfig { kind, ..named("a") }).starts_with("a.twilio"));
        let kind = ProviderKind::Smpp;
        assert!(problem(ProviderConfig { kind, ..named("a") }).starts_with("a.smpp"));
        let many: Vec<_> = (0..17).map(|n| named(&n.to_string())).collect();
        let too_many = check(&many, &BudgetConfig::default()).unwrap_err();
        assert!(too_many.to_string().contains("17 providers"));
    }

    #[test]
    fn money_needs_a_budget() {
        let voice_cost = Some(CostConfig { default: 1, ..CostConfig::default() });
        let paid = ProviderConfig { voice_cost, ..named("a") };
        assert!(problem(paid.clone()).contains("registration.budget.day"));
        let budget = BudgetConfig { day: Some(1_000), ..BudgetConfig::default() };
        check(std::slice::from_ref(&paid), &budget).unwrap();
        assert!(paid.terms().guarded && !named("b").terms().guarded);
    }

    #[test]
    fn costs_are_read_by_country() {
        let config: ProviderConfig =
            serde_json::from_str(r#"{"name": "a", "cost": {"default": 5, "49": 7}}"#).unwrap();
        let terms = config.terms();
        assert_eq!((terms.cost(49, Transport::Sms), terms.cost(1, Transport::Voice)), (7, 5));
        let wrong = serde_json::from_str::<ProviderConfig>(r#"{"cost": {"de": 7}}"#).unwrap_err();
        assert!(wrong.to_string().contains("country calling code"), "{wrong}");
        let config: ProviderConfig = serde_json::from_str(r#"{"countries": [49, "1"]}"#).unwrap();
        assert_eq!(config.countries, [CountryCode(49), CountryCode(1)]);
        for wrong in ["0", "049", "+49", "1000", ""] {
            CountryCode::try_from(wrong.to_owned()).unwrap_err();
        }
    }
}
