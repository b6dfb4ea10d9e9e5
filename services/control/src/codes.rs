//! What the verification codes of the fleet bound: how many sign-ups a second providers take, and how many are paid for.
//!
//! Each registration process tells its part with its beacon, the parts are added up, and what is silent does not count:
//!
//! ```text
//! per sign-up = codes that went out / sign-ups that began, of late        within 1..4
//! providers   = (codes a second - waiting / 10 s) / per sign-up           a tenth of it at least
//! budget      = (codes a second that processes have money for + what nobody has borrowed pays for) / per sign-up
//! ```
//!
//! Waiting are the codes in the queue beyond a second's worth, without those that wait for something else than a provider: so a backlog is
//! worked off at the expense of those who are still outside, who lose no code by waiting. The tenth is for a queue that is not worked
//! off, whatever the cause, so that it does not close the room.
//!
//! Without any report nothing is let in, because nobody knows that a code could be sent, or paid for.

use std::cmp::Reverse;
use std::collections::HashMap;

use spillway_api::FieldError;
use spillway_api::internal::v1 as wire;
use spillway_waiting_room::Country;

/// Sign-ups that count as having needed one code each, so that a few say little.
const PRIOR: f64 = 20.0;
const PER_SIGN_UP_MAX: f64 = 4.0;
const WORKED_OFF_IN_SECONDS: f64 = 10.0;
const LEFT_BY_A_BACKLOG: f64 = 0.1;
/// Places that one process tells, and that are told to all: some kilobytes a second.
const PLACES_MAX: usize = 64;
const PLACES_TOLD_MAX: usize = 256;
/// More calling codes than there are.
const COUNTRIES_MAX: usize = 1_000;
/// A country bounds all sign-ups only when most of them are its own: others are not to wait for its budget, and its people are told when
/// their number is known.
const COUNTRY_SHARE_MIN: f64 = 0.5;

/// What one process tells, or all of them together. Rates in codes a second; infinite where there is no bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Codes {
    providers: f64,
    paid: f64,
    /// What nobody has borrowed pays for: one sum, of which each process knows.
    shared: Option<f64>,
    codes: f64,
    sign_ups: f64,
    queued: f64,
    aside: f64,
    countries: HashMap<u32, InCountry>,
    places: HashMap<u64, PlaceCount>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct InCountry {
    sign_ups: f64,
    paid: f64,
    shared: Option<f64>,
}

/// Codes to one place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PlaceCount {
    codes: f64,
    proofs: f64,
    out: f64,
}

/// Sign-ups a second.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) providers: f64,
    pub(crate) budget: f64,
    pub(crate) countries: Vec<Country>,
}

impl Bounds {
    /// Nobody has told anything: nothing is spent.
    pub(crate) const UNKNOWN: Bounds =
        Bounds { providers: 0.0, budget: f64::INFINITY, countries: Vec::new() };
}

impl TryFrom<wire::VerificationCapacity> for Codes {
    type Error = FieldError;

    fn try_from(told: wire::VerificationCapacity) -> Result<Self, FieldError> {
        let country = |told: &wire::CountryCapacity| {
            let paid = amount("countries.paid_per_second", told.paid_per_second)?;
            let shared = shared("countries.shared_paid_per_second", told.shared_paid_per_second)?;
            let sign_ups = amount("countries.sign_ups", Some(told.sign_ups))?;
            Ok((told.country, InCountry { sign_ups, paid, shared }))
        };
        let place = |told: &wire::PlaceCount| {
            let codes = amount("places.codes", Some(told.codes))?;
            let proofs = amount("places.proofs", Some(told.proofs))?;
            Ok((told.place, PlaceCount { codes, proofs, out: amount("places.out", Some(told.out))? }))
        };
        Ok(Self {
            places: told.places.iter().take(PLACES_MAX).map(place).collect::<Result<_, FieldError>>()?,
            providers: amount("verification.codes_per_second", told.codes_per_second)?,
            paid: amount("verification.paid_per_second", told.paid_per_second)?,
            shared: shared("verification.shared_paid_per_second", told.shared_paid_per_second)?,
            codes: amount("verification.codes", Some(told.codes))?,
            sign_ups: amount("verification.sign_ups", Some(told.sign_ups))?,
            queued: told.queued as f64,
            aside: amount("verification.aside", Some(told.aside))?,
            countries: told
                .countries
                .iter()
                .take(COUNTRIES_MAX)
                .map(country)
                .collect::<Result<_, FieldError>>()?,
        })
    }
}

/// Absent: no bound.
fn amount(field: &'static str, told: Option<f64>) -> Result<f64, FieldError> {
    match told {
        None => Ok(f64::INFINITY),
        Some(told) if told >= 0.0 => Ok(told),
        Some(_) => Err(FieldError::new(field, "is not an amount")),
    }
}

/// Absent: nobody lends anything.
fn shared(field: &'static str, told: Option<f64>) -> Result<Option<f64>, FieldError> {
    told.map(|told| amount(field, Some(told))).transpose()
}

/// All look at the same sum, at different times, and it gets less.
fn least(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    [one, other].into_iter().flatten().reduce(f64::min)
}

impl Codes {
    /// The queue is one for all, so the process that sees most of it counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.providers += other.providers;
        self.paid += other.paid;
        self.shared = least(self.shared, other.shared);
        self.codes += other.codes;
        self.sign_ups += other.sign_ups;
        self.queued = self.queued.max(other.queued);
        self.aside += other.aside;
        for (place, count) in &other.places {
            let sum = self.places.entry(*place).or_default();
            sum.codes += count.codes;
            sum.proofs += count.proofs;
            sum.out += count.out;
        }
        for (code, country) in &other.countries {
            let sum = self.countries.entry(*code).or_default();
            sum.sign_ups += country.sign_ups;
            sum.paid += country.paid;
            sum.shared = least(sum.shared, country.shared);
        }
    }

    /// Where the most codes go that nobody types.
    pub(crate) fn places(&self) -> Vec<wire::PlaceCount> {
        let count = |(place, count): (&u64, &PlaceCount)| {
            let PlaceCount { codes, proofs, out } = *count;
            wire::PlaceCount { place: *place, codes, proofs, out }
        };
        let mut places: Vec<_> = self.places.iter().map(count).collect();
        // By the place too, so that the same ones are told each time.
        places.sort_by_key(|count| (Reverse((count.codes + count.out - count.proofs) as u64), count.place));
        places.truncate(PLACES_TOLD_MAX);
        places
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let per_sign_up = ((self.codes + PRIOR) / (self.sign_ups + PRIOR)).clamp(1.0, PER_SIGN_UP_MAX);
        let waiting = (self.queued - self.aside - self.providers).max(0.0);
        let providers =
            (self.providers - waiting / WORKED_OFF_IN_SECONDS).max(self.providers * LEFT_BY_A_BACKLOG);
        let all: f64 = self.countries.values().map(|country| country.sign_ups).sum();
        let countries = self.countries.values().map(|country| Country {
            share: country.sign_ups / (all + PRIOR),
            budget: (country.paid + country.shared.unwrap_or(0.0)) / per_sign_up,
        });
        Bounds {
            providers: providers / per_sign_up,
            budget: (self.paid + self.shared.unwrap_or(0.0)) / per_sign_up,
            countries: countries.filter(|country| country.share >= COUNTRY_SHARE_MIN).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> wire::VerificationCapacity {
        wire::VerificationCapacity {
            codes_per_second: Some(100.0),
            paid_per_second: Some(80.0),
            ..wire::VerificationCapacity::default()
        }
    }

    fn bounds(told: impl IntoIterator<Item = wire::VerificationCapacity>) -> Bounds {
        let mut all = Codes::default();
        told.into_iter().for_each(|told| all.add(&Codes::try_from(told).unwrap()));
        all.bounds()
    }

    #[test]
    fn parts_are_added_up_and_codes_are_shared_out_among_sign_ups() {
        let one = bounds([told()]);
        assert_eq!((one.providers, one.budget), (100.0, 80.0));
        let two = bounds([told(), told()]);
        assert_eq!((two.providers, two.budget), (200.0, 160.0));
        // Three codes for two sign-ups.
        let busy = wire::VerificationCapacity { codes: 3_000.0, sign_ups: 2_000.0, ..told() };
        let busy = bounds([busy]);
        assert!((66.0..68.0).contains(&busy.providers), "{busy:?}");
        // Whoever gets none because he pumps makes no room.
        let pumped = bounds([wire::VerificationCapacity { codes: 10.0, sign_ups: 2_000.0, ..told() }]);
        assert_eq!(pumped.providers, 100.0);
        let free = bounds([wire::VerificationCapacity { codes_per_second: None, ..told() }]);
        assert_eq!(free.providers, f64::INFINITY);
    }

    #[test]
    fn what_nobody_has_borrowed_counts_once_and_the_least_that_is_told() {
        let told = |shared| wire::VerificationCapacity { shared_paid_per_second: shared, ..told() };
        assert_eq!(bounds([told(Some(10.0))]).budget, 90.0);
        assert_eq!(bounds([told(Some(10.0)), told(Some(12.0)), told(None)]).budget, 250.0);
        let wrong = told(Some(-1.0));
        Codes::try_from(wrong).unwrap_err();
    }

    #[test]
    fn a_backlog_is_worked_off_and_closes_nothing_for_good() {
        let waiting = |queued, aside| wire::VerificationCapacity { queued, aside, ..told() };
        assert_eq!(bounds([waiting(100, 0.0)]).providers, 100.0, "on its way");
        assert_eq!(bounds([waiting(600, 0.0)]).providers, 50.0);
        assert_eq!(bounds([waiting(600, 0.0), waiting(600, 0.0)]).providers, 160.0, "the same queue");
        assert_eq!(bounds([waiting(600, 500.0)]).providers, 100.0, "these wait for something else");
        assert_eq!(bounds([waiting(1_000_000, 0.0)]).providers, 10.0);
    }

    #[test]
    fn a_country_counts_when_it_is_most_of_all() {
        let country = |country, sign_ups, paid| wire::CountryCapacity {
            country,
            sign_ups,
            paid_per_second: Some(paid),
            shared_paid_per_second: None,
        };
        let countries = vec![country(49, 900.0, 5.0), country(1, 80.0, 0.0)];
        let bounds = bounds([wire::VerificationCapacity { countries, ..told() }]);
        assert_eq!(bounds.countries, [Country { share: 0.9, budget: 5.0 }]);
    }

    #[test]
    fn places_are_added_up_and_the_worst_come_first() {
        let place = |place, out| wire::PlaceCount { place, codes: 1.0, proofs: 0.5, out };
        let told = |places| Codes::try_from(wire::VerificationCapacity { places, ..told() }).unwrap();
        let mut all = told(vec![place(1, 10.0), place(2, 15.0)]);
        all.add(&told(vec![place(1, 20.0)]));
        let sum = wire::PlaceCount { place: 1, codes: 2.0, proofs: 1.0, out: 30.0 };
        assert_eq!(all.places(), [sum, place(2, 15.0)]);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for wrong in [f64::NAN, -1.0] {
            let codes_per_second = Some(wrong);
            Codes::try_from(wire::VerificationCapacity { codes_per_second, ..told() }).unwrap_err();
            Codes::try_from(wire::VerificationCapacity { aside: wrong, ..told() }).unwrap_err();
        }
    }
}
