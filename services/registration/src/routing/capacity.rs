//! What can be sent at present, for whoever lets sign-ups in.

use super::budget::Left;
use super::flow::Flow;
use super::guard::{PlaceCount, PlaceKey};

/// Codes, and codes a second. A rate that is infinite is not bounded, as far as is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// What providers take. Money does not count here.
    pub providers: f64,
    /// What this process has borrowed of the hour's and of the day's budget pays for, if it is to last for them, or for an hour of them.
    pub paid: f64,
    /// The same of what no process has borrowed: all see the same, and it is not to be added up.
    pub paid_shared: f64,
    /// Handed over lately, and sign-ups begun: old ones count less and less.
    pub codes: f64,
    pub sign_ups: f64,
    /// About how many codes wait for something else than a provider.
    pub aside: f64,
    /// In the store's queue, when it was looked at last.
    pub queued: usize,
    pub countries: Vec<CountryCapacity>,
    /// Where codes go that nobody types, the most of them first.
    pub places: Vec<(PlaceKey, PlaceCount)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CountryCapacity {
    /// The calling code.
    pub country: u16,
    pub sign_ups: f64,
    pub paid: f64,
    pub paid_shared: f64,
}

/// Sign-ups of late without which nothing is said about a country.
const SIGN_UPS_MIN: f64 = 20.0;
/// A country with less of them bounds nobody.
const SHARE_MIN: f64 = 0.02;

/// Codes a second that money lasts for. A code that is dearer than what is left is not paid.
pub(super) fn paid(left: Option<Left>, cost: f64, of: impl Fn(Left) -> u64) -> f64 {
    match left {
        None => f64::INFINITY,
        Some(_) if cost <= 0.0 => f64::INFINITY,
        Some(left) if (of(left) as f64) < cost => 0.0,
        Some(left) => of(left) as f64 / cost / left.lasts.as_secs_f64(),
    }
}

/// Codes a second for sign-ups as they come at present, when `serving` are those that each country gets at most and `all` those that all
/// get together: nobody may get more than his share of it needs. A country that gets nothing at all bounds nobody, because waiting
/// does not help its people, and others need not wait with them.
pub(super) fn shared_out(
    all: f64,
    flow: &Flow,
    serving: impl Fn(u16) -> f64,
    now: tokio::time::Instant,
) -> f64 {
    let sign_ups: f64 = flow.sign_ups(now).map(|(_, count)| count).sum();
    if sign_ups < SIGN_UPS_MIN {
        return all;
    }
    let bound = flow.sign_ups(now).filter_map(|(country, count)| {
        let share = count / sign_ups;
        let serving = serving(country);
        (share >= SHARE_MIN && serving > 0.0).then_some(serving / share)
    });
    bound.fold(all, f64::min)
}
