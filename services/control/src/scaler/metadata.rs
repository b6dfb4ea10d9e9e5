//! What a ScaledObject says to the scaler: the `metadata` of its trigger.

use std::collections::HashMap;

use super::burst::Burst;
use crate::role::{ROLES, Role};

/// Growth of 43 % within the time until a new replica serves is carried without a refusal. Below half of it replicas stand idle, and
/// it leaves the tenth by which an autoscaler may be off before it acts: it acts at 0.77, and admission refuses from 1 on.
pub(crate) const TARGET: f64 = 0.7;
/// An autoscaler acts when it is off by more than a tenth. Above this that is when calls are already being refused.
const TARGET_MAX: f64 = 0.9;
const TARGET_MIN: f64 = 0.05;
/// A burst ends when the others have a tenth more room than where it begins.
const DEACTIVATION: f64 = 0.9;
const FLOOR_MAX: f64 = 100_000.0;
const NAME_BYTES_MAX: usize = 253;

/// KEDA's own, which it sends along.
const OF_KEDA: [&str; 3] = ["scalerAddress", "enableTLS", "unsafeSsl"];

/// What is asked about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    pub(super) role: Role,
    /// The share of a replica's capacity that is to be in use.
    pub(super) target: f64,
    /// No fewer replicas than these are asked for.
    pub(super) floor: f64,
    pub(super) burst: Option<Burst>,
}

/// The text says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MetadataError {
    #[error("metadata needs `role`: write one of gateway, registration, directory, mailbox")]
    NoRole,
    #[error("metadata `role` is {0:?}: write one of gateway, registration, directory, mailbox")]
    Role(String),
    #[error(
        "metadata `{key}` is {value:?}: write a number from {least} to {most}, in quotes, such as \"{example}\""
    )]
    Number { key: &'static str, value: String, least: String, most: String, example: &'static str },
    #[error(
        "metadata `{0}` goes with `activation` only: write `activation` too, such as \"0.85\", or leave it out"
    )]
    WithoutActivation(&'static str),
    #[error(
        "metadata `deactivation` is not below `activation`: write less, or leave it out for nine tenths of it"
    )]
    Deactivation,
    #[error(
        "metadata `burst` is longer than a name can be: write how the names of the burst's own pods begin"
    )]
    Burst,
    #[error(
        "metadata `{0}` means nothing here: write role, target, floor, and for a burst deployment activation, deactivation, burst"
    )]
    Unknown(String),
}

impl TryFrom<&HashMap<String, String>> for Ask {
    type Error = MetadataError;

    fn try_from(metadata: &HashMap<String, String>) -> Result<Self, MetadataError> {
        let known = ["role", "target", "floor", "activation", "deactivation", "burst"];
        let mut keys: Vec<_> = metadata.keys().map(String::as_str).collect();
        keys.sort_unstable();
        if let Some(unknown) = keys.into_iter().find(|key| !known.contains(key) && !OF_KEDA.contains(key)) {
            return Err(MetadataError::Unknown(unknown.chars().take(64).collect()));
        }
        let number = |key: &'static str, least: f64, most: f64, example| {
            let Some(text) = metadata.get(key) else { return Ok(None) };
            match text.trim().parse::<f64>() {
                Ok(value) if (least..=most).contains(&value) => Ok(Some(value)),
                _ => Err(MetadataError::Number {
                    key,
                    value: text.chars().take(64).collect(),
                    least: least.to_string(),
                    most: most.to_string(),
                    example,
                }),
            }
        };
        let role = metadata.get("role").ok_or(MetadataError::NoRole)?;
        // Control is not scaled: one of its processes acts, and the others wait for it to fail.
        let scaled = ROLES.into_iter().filter(|role| *role != Role::Control);
        let found = scaled.into_iter().find(|scaled| scaled.label() == role);
        let burst = match number("activation", TARGET_MIN, 10.0, "0.85")? {
            Some(on) => {
                let off = number("deactivation", 0.0, 10.0, "0.75")?.unwrap_or(on * DEACTIVATION);
                if off >= on {
                    return Err(MetadataError::Deactivation);
                }
                let pods = metadata.get("burst").cloned().unwrap_or_default();
                if pods.len() > NAME_BYTES_MAX {
                    return Err(MetadataError::Burst);
                }
                Some(Burst { on, off, pods })
            }
            None => {
                let alone = ["deactivation", "burst"].into_iter().find(|key| metadata.contains_key(*key));
                alone.map_or(Ok(None), |key| Err(MetadataError::WithoutActivation(key)))?
            }
        };
        Ok(Self {
            role: found.ok_or_else(|| MetadataError::Role(role.chars().take(64).collect()))?,
            target: number("target", TARGET_MIN, TARGET_MAX, "0.7")?.unwrap_or(TARGET),
            floor: number("floor", 0.0, FLOOR_MAX, "3")?.unwrap_or(0.0),
            burst,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&str, &str)]) -> Result<Ask, MetadataError> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Ask::try_from(&pairs.collect())
    }

    #[test]
    fn a_role_is_enough_and_the_rest_has_reasoned_defaults() {
        let least = ask(&[("role", "gateway"), ("scalerAddress", "control:7710")]).unwrap();
        assert_eq!(least, Ask { role: Role::Gateway, target: TARGET, floor: 0.0, burst: None });
        let all =
            [("role", "mailbox"), ("target", "0.5"), ("floor", "3"), ("activation", "0.8"), ("burst", "b-")];
        let Ask { role, target, floor, burst } = ask(&all).unwrap();
        assert_eq!((role, target, floor), (Role::Mailbox, 0.5, 3.0));
        let burst = burst.unwrap();
        assert_eq!((burst.on, burst.pods.as_str()), (0.8, "b-"));
        assert!((burst.off - 0.72).abs() < 1e-9);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        let says = |pairs: &[(&str, &str)], parts: &[&str]| {
            let text = ask(pairs).unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        };
        says(&[], &["`role`", "gateway, registration, directory, mailbox"]);
        says(&[("role", "control")], &["\"control\"", "gateway"]);
        says(&[("role", "Gateway")], &["\"Gateway\"", "gateway"]);
        let gateway = ("role", "gateway");
        for wrong in ["0.95", "1", "70", "0", "-1", "NaN", "inf", "much", ""] {
            says(&[gateway, ("target", wrong)], &["`target`", "from 0.05 to 0.9", "\"0.7\""]);
        }
        says(&[gateway, ("floor", "-1")], &["`floor`", "\"3\""]);
        says(&[gateway, ("targt", "0.7")], &["`targt`", "target"]);
        says(&[gateway, ("burst", "x-")], &["`burst`", "activation"]);
        says(&[gateway, ("activation", "0.8"), ("deactivation", "0.8")], &["deactivation", "less"]);
    }
}
