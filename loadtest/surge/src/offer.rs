//! What a run offers: a load at this run's rates and in its time, from a profile or a trace.

use std::time::Duration;

use crate::cli::{AskedError, BaseRate, ReplayOptions, RunOptions, SECONDS};
use crate::cohorts::{MembersError, Shares};
use crate::curve::{Column, Curve, CurveError, HourlyError, signal_2021};
use crate::language::{Expression, LoadError};
use crate::load::{BaseRates, Behaviour, Load, Op};
use crate::plan::{Needs, NotEnough, Rude, Surroundings};
use crate::profile::{Brownout, Profile, pumping};
use crate::run_folder::RunFolderError;
use crate::trace::{Format, How, Scanned, TraceError, scan};
use crate::workers::Part;
use crate::workload::Habits;

/// Of a plan that was told no rate and probes nothing.
pub(crate) const ASSUMED_PEAK_PER_S: f64 = 50.0;
/// Look-ups for each send of an existing user: one of fifty opens the list of contacts.
const LOOK_UPS_PER_SEND: f64 = 0.02;
/// What is longer is compressed, if it may be.
const AS_LONG_AS_IT_IS: Duration = Duration::from_secs(600);

/// Why there is nothing to offer.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    #[error("the load cannot be made")]
    Load(#[from] LoadError),
    #[error("the curve cannot be made")]
    Curve(#[from] CurveError),
    #[error("the recorded hours cannot be replayed")]
    Hours(#[from] HourlyError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("`{0}` is played in virtual time: it offers nothing to a service")]
    Virtual(String),
    #[error("there is nothing in it: no arrival at any time")]
    Nothing,
    #[error("that is {0:.1e} arrivals a second at the highest, which nobody can send")]
    TooMuch(f64),
    #[error(transparent)]
    NotEnough(#[from] NotEnough),
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error(transparent)]
    Asked(#[from] AskedError),
    #[error(transparent)]
    Members(#[from] MembersError),
}

/// Where the sign-ups of profiles, which are multiples, get their height from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SignUps {
    /// One time is that many a second.
    Base(f64),
    /// The highest second has that many.
    Peak(f64),
    /// The same, and nobody said so.
    AssumedPeak(f64),
}

/// A load, and what it was made with.
#[derive(Clone, Debug)]
pub struct Offer {
    pub load: Load,
    pub rates: BaseRates,
    /// Whether the height of its sign-ups follows from a peak.
    pub is_scaled: bool,
    /// What was found in the trace.
    pub trace: Option<Scanned>,
}

/// A second of more arrivals than that is a mistake: no machine sends them.
const PER_SECOND_MAX: f64 = 1e7;

impl SignUps {
    pub(crate) fn without_probe(options: &RunOptions) -> Self {
        Self::told(options).unwrap_or(Self::AssumedPeak(ASSUMED_PEAK_PER_S))
    }

    /// `None`: it has to be found out.
    pub(crate) fn told(options: &RunOptions) -> Option<Self> {
        base_rate(options, Op::SignUp).map(Self::Base).or(options.peak_rate.map(Self::Peak))
    }
}

impl Offer {
    /// # Errors
    ///
    /// When the trace cannot be read, or there is nothing that could be sent.
    pub(crate) fn of(options: &RunOptions, sign_ups: SignUps) -> Result<Self, OfferError> {
        let mut offer = Self::unchecked(options, sign_ups)?;
        offer.load = offer.load.only(&options.load.only);
        let highest = offer.load.curves().map(|(_, curve)| curve.peak_per_s()).fold(0.0, f64::max);
        if highest > PER_SECOND_MAX {
            return Err(OfferError::TooMuch(highest));
        }
        if offer.load.total() <= 0.0 {
            return Err(OfferError::Nothing);
        }
        Ok(offer)
    }

    fn unchecked(options: &RunOptions, sign_ups: SignUps) -> Result<Self, OfferError> {
        if let Some(steady) = options.steady {
            let rates = rates(options, &Behaviour::default(), steady.sign_ups_per_s);
            let comers = Load::one(Op::SignUp, Curve::constant(steady.sign_ups_per_s, options.surge())?);
            let load = comers.with_background(steady.sends_per_s)?;
            return Ok(Self { load, rates, is_scaled: false, trace: None });
        }
        if let Some(path) = &options.load.trace {
            let rates = rates(options, &Behaviour::default(), base_rate(options, Op::SignUp).unwrap_or(1.0));
            let scanned = scan(path, &of_trace(options))?;
            let unknown = scanned.ops.keys().find(|op| base_rate(options, **op).is_none());
            if let (Format::Multiples, Some(op)) = (scanned.format, unknown) {
                return Err(TraceError::NoBaseRate { path: path.clone(), op: op.name() }.into());
            }
            let load = scanned.load()?.with_background(rates.send)?;
            return Ok(Self { load, rates, is_scaled: false, trace: Some(scanned) });
        }
        if let Some(expression) = options.profile.expression() {
            return Self::of_expression(options, expression, sign_ups);
        }
        let height = match sign_ups {
            SignUps::Base(per_s) | SignUps::Peak(per_s) | SignUps::AssumedPeak(per_s) => per_s,
        };
        let length = options.surge();
        let rates = rates(options, &Behaviour::default(), height);
        let comers = match &options.profile {
            Profile::Signal2021 => {
                let hours = signal_2021(options.column()).replay(length, 1.0)?;
                let factor = match sign_ups {
                    // An hour of it may be shorter than a second.
                    SignUps::Base(per_s) => per_s * highest_multiple(options.column()),
                    _ => height / hours.curve.highest_mean_per_s(Duration::from_secs(1)),
                };
                hours.curve.times(factor)?
            }
            Profile::ProviderBrownout => Brownout::new(height, length).newcomers()?.curve,
            Profile::Pumping => pumping(length)?.curve,
            Profile::RoomMillion | Profile::Load(_) => {
                return Err(OfferError::Virtual(options.profile.name().to_owned()));
            }
        };
        let load = Load::one(Op::SignUp, comers).with_background(rates.send)?;
        let is_scaled = options.profile != Profile::Pumping;
        Ok(Self { load, rates, is_scaled, trace: None })
    }

    fn of_expression(
        options: &RunOptions,
        expression: &Expression,
        sign_ups: SignUps,
    ) -> Result<Self, OfferError> {
        let behaviour = behaviour(options)?;
        let at = |base: f64| -> Result<(Load, BaseRates), OfferError> {
            let rates = rates(options, &behaviour, base);
            Ok((timed(options, expression, expression.load(&rates)?)?, rates))
        };
        let (base, is_scaled) = match sign_ups {
            SignUps::Base(per_s) => (per_s, false),
            SignUps::Peak(peak) | SignUps::AssumedPeak(peak) => solve(peak, |base| Ok(at(base)?.0))?,
        };
        let (load, rates) = at(base)?;
        Ok(Self { load: load.with_background(rates.send)?, rates, is_scaled, trace: None })
    }

    /// Whether existing users write because they always do, and not because a trace says so.
    pub(crate) fn sends_in_background(&self) -> bool {
        self.trace.as_ref().is_none_or(|trace| !trace.ops.contains_key(&Op::Send))
    }

    /// What is needed for all of it, or for one worker's part, where existing users are of these cohorts.
    pub(crate) fn needs(&self, options: &RunOptions, shares: &Shares, part: Part) -> Needs {
        // A share of rates that were accepted is accepted.
        let load = self.load.times(part.share()).unwrap_or_else(|_| self.load.clone());
        let people = part.users(options.existing).len() as u32;
        let habits = Habits::default();
        let peak = load.curve(Op::SignUp).map_or(0.0, Curve::peak_per_s);
        let is_here = |address: &String| crate::target::check_loopback(address, false).is_ok();
        let surroundings = Surroundings {
            people,
            content_bytes: options
                .load
                .bytes
                .as_ref()
                .map_or(habits.content_bytes, |sizes| sizes.mean().round() as usize),
            linger: habits.linger,
            admit_per_s: options
                .admit()
                .map(|share| share * options.peak_rate.map_or(peak, |rate| rate * part.share())),
            own_server: options.target.is_empty(),
            loopback: options.target.iter().all(is_here),
            rude: Rude::of(shares, options.existing, &load, part.share()),
        };
        Needs::of(&load, &surroundings)
    }

    pub(crate) fn title(&self, options: &RunOptions) -> String {
        match &options.load.trace {
            Some(path) => format!("{}, {}", path.display(), self.length()),
            None => format!("{}, {}", options.profile.name(), self.length()),
        }
    }

    fn length(&self) -> String {
        let millis = self.load.duration().as_millis() as u64;
        crate::language::in_words(Duration::from_millis(millis))
    }
}

/// How the trace of a run is replayed.
pub(crate) fn of_trace(options: &RunOptions) -> How {
    let how = how(&options.load.replay, &options.load.base_rate);
    How {
        compress: options.load.time_compress.unwrap_or(1.0),
        // Whoever has a length for runs means traces, too.
        length: how.length.or(options.seconds.map(Duration::from_secs)),
        within: options.load.within.into(),
        seed: options.seed.unwrap_or_default(),
        ..how
    }
}

pub(crate) fn how(options: &ReplayOptions, base_rates: &[BaseRate]) -> How {
    let mut how = How::default();
    for rate in base_rates {
        match rate.op {
            Op::Send => how.rates.send = rate.per_s,
            Op::Discover => how.rates.discover = rate.per_s,
            _ => how.rates.sign_up = rate.per_s,
        }
    }
    let (from_s, to_s) = options.clip.map(crate::cli::Clip::seconds).unwrap_or_default();
    How {
        speed: options.speed.unwrap_or(1.0),
        scale: options.scale.unwrap_or(1.0),
        from_s,
        to_s,
        repeat: options.repeat,
        length: options.length,
        column: options.column.clone(),
        default_op: options.op,
        sort: options.sort,
        ..how
    }
}

/// How people behave in what is played; it does not depend on rates.
pub(crate) fn behaviour(options: &RunOptions) -> Result<Behaviour, OfferError> {
    let Some(expression) = options.profile.expression().filter(|_| options.load.trace.is_none()) else {
        return Ok(Behaviour::default());
    };
    let one = BaseRates { sign_up: 1.0, send: 1.0, discover: 1.0, people: 1.0, offline: 1.0 };
    Ok(timed(options, expression, expression.load(&one)?)?.behaviour)
}

/// Whether the height of its sign-ups has to be found out.
pub(crate) fn is_to_be_probed(options: &RunOptions) -> Result<bool, OfferError> {
    let is_told = SignUps::told(options).is_some() || !options.load.plays(Op::SignUp);
    if is_told || options.load.trace.is_some() || options.steady.is_some() {
        return Ok(false);
    }
    let Some(expression) = options.profile.expression() else {
        return Ok(options.profile != Profile::Pumping);
    };
    let total = |sign_up: f64| {
        let rates = BaseRates { sign_up, send: 1.0, discover: 1.0, people: 1.0, offline: 1.0 };
        Ok::<_, OfferError>(expression.load(&rates)?.curve(Op::SignUp).map_or(0.0, Curve::total))
    };
    Ok(total(1.0)? > total(0.0)?)
}

fn rates(options: &RunOptions, behaviour: &Behaviour, sign_up: f64) -> BaseRates {
    let send = base_rate(options, Op::Send).unwrap_or(options.sends);
    let existing = f64::from(options.existing);
    let offline = (existing * behaviour.offline_share).floor();
    BaseRates {
        sign_up,
        send,
        discover: base_rate(options, Op::Discover).unwrap_or(send * LOOK_UPS_PER_SEND),
        people: existing - offline,
        offline,
    }
}

fn base_rate(options: &RunOptions, op: Op) -> Option<f64> {
    options.load.base_rate.iter().rev().find(|rate| rate.op == op).map(|rate| rate.per_s)
}

fn highest_multiple(column: Column) -> f64 {
    signal_2021(column).iter().map(|hour| hour.multiplier).fold(0.0, f64::max)
}

/// In the time that was wished for.
fn timed(options: &RunOptions, expression: &Expression, load: Load) -> Result<Load, CurveError> {
    let is_long =
        load.duration() > AS_LONG_AS_IT_IS && expression.entries().iter().any(|entry| entry.compressed);
    match (options.seconds, options.load.time_compress) {
        (Some(seconds), _) => load.within(Duration::from_secs(seconds)),
        (None, Some(factor)) => load.within(load.duration().div_f64(factor)),
        (None, None) if is_long => load.within(Duration::from_secs(SECONDS)),
        (None, None) => Ok(load),
    }
}

/// The base rate at which the highest second of sign-ups is `peak`, and whether there is one.
fn solve(peak: f64, load: impl Fn(f64) -> Result<Load, OfferError>) -> Result<(f64, bool), OfferError> {
    let second = Duration::from_secs(1);
    let highest = |base: f64| {
        Ok::<_, OfferError>(
            load(base)?.curve(Op::SignUp).map_or(0.0, |curve| curve.highest_mean_per_s(second)),
        )
    };
    let (without, with) = (highest(0.0)?, highest(1.0)?);
    if with <= without {
        return Ok((0.0, false));
    }
    // Rates grow with the base, at least as fast as between 0 and 1 in the highest second of 1.
    let (mut low, mut high) = (0.0, 1.0);
    while highest(high)? < peak && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if highest(middle)? < peak { low = middle } else { high = middle }
    }
    Ok((high, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> RunOptions {
        RunOptions::typed(line.split('|').filter(|word| !word.is_empty()))
    }

    fn offer(line: &str) -> Offer {
        let options = options(line);
        Offer::of(&options, SignUps::without_probe(&options)).unwrap()
    }

    fn highest(offer: &Offer, op: Op) -> f64 {
        offer.load.curve(op).unwrap().highest_mean_per_s(Duration::from_secs(1))
    }

    #[test]
    fn sign_ups_are_as_high_as_they_were_told_to_be() {
        for profile in ["refugees", "celebrity", "spike", "signal-2021", "signal-2021 x 2", "30s@5 + ramp"] {
            let offer = offer(&format!("--profile|{profile}|--peak-rate|40"));
            assert!(
                (highest(&offer, Op::SignUp) - 40.0).abs() < 0.01,
                "{profile}: {}",
                highest(&offer, Op::SignUp)
            );
        }
        let plain = offer("--profile|30s@5|--peak-rate|40");
        assert_eq!((highest(&plain, Op::SignUp), plain.is_scaled), (5.0, false));
        let based = offer("--profile|spike|--base-rate|signup=3/s,send=7/s");
        assert_eq!((highest(&based, Op::SignUp), highest(&based, Op::Send)), (30.0, 7.0));
        let month = offer("--profile|signal-2021|--base-rate|signup=0.5/s");
        assert!((month.load.curve(Op::SignUp).unwrap().peak_per_s() - 0.5 * 362.66).abs() < 1e-6);
    }

    #[test]
    fn long_profiles_take_a_minute_and_others_their_time() {
        let length = |line: &str| offer(line).load.duration().as_secs_f64();
        assert!((length("--profile|refugees") - 60.0).abs() < 1e-6);
        assert!((length("--profile|refugees|--seconds|20") - 20.0).abs() < 1e-6);
        assert!((length("--profile|soak|--time-compress|3600x") - 8.0).abs() < 1e-6);
        assert_eq!(length("--profile|soak"), 8.0 * 3_600.0);
        assert_eq!(length("--profile|30s@1,1m@2"), 90.0);
        assert!((length("--profile|refugees in 60s then 10s@1") - 70.0).abs() < 1e-6);
    }

    #[test]
    fn existing_users_write_unless_the_load_says_otherwise() {
        assert_eq!(highest(&offer("--profile|10s@5|--sends|33"), Op::Send), 33.0);
        assert_eq!(highest(&offer("--profile|send(10s@5)|--sends|33"), Op::Send), 5.0);
        let mixed = offer("--profile|send(10s@5) then 10s@1|--sends|33");
        assert!((mixed.load.curve(Op::Send).unwrap().total() - 380.0).abs() < 1e-6);
        let storm = offer("--profile|reconnect-storm|--existing|200");
        assert!((storm.load.curve(Op::Reconnect).unwrap().total() - 200.0).abs() < 1e-6);
        let wakes = offer("--profile|broadcast|--existing|200");
        assert!(
            (wakes.load.curve(Op::Wake).unwrap().total() - 30.0).abs() < 1e-6,
            "0.3 of the half that is offline"
        );
    }

    #[test]
    fn only_what_is_a_multiple_of_sign_ups_is_probed() {
        let probed = |line: &str| is_to_be_probed(&options(line)).unwrap();
        assert!(probed("") && probed("--profile|spike") && probed("--profile|provider-brownout"));
        assert!(
            !probed("--profile|30s@5")
                && !probed("--profile|reconnect-storm")
                && !probed("--profile|pumping")
        );
        assert!(!probed("--profile|spike|--peak-rate|3") && !probed("--profile|spike|--base-rate|signup=1"));
        assert!(!probed("--only|send") && !probed("--profile|spike|--only|send,discover"));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let error = |line: &str| {
            let options = options(line);
            Offer::of(&options, SignUps::without_probe(&options)).unwrap_err()
        };
        assert!(matches!(error("--profile|send(10s@0)"), OfferError::Nothing));
        assert!(matches!(error("--profile|10s@5|--only|wake"), OfferError::Nothing));
        assert!(matches!(error("--profile|10s@99999999999"), OfferError::TooMuch(_)));
        assert!(matches!(error("--profile|room-million"), OfferError::Virtual(_)));
    }
}
