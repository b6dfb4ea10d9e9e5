//! What is replayed, at which rates.

use std::time::Duration;

use super::{AFTER, BEFORE, RECOVERING, Run, RunError, SETTLING, SURGE, probe};
use crate::curve::{Column, Replay, signal_2021};
use crate::load::{Load, Op};
use crate::offer::{self, Offer, OfferError, SignUps};
use crate::plan::Machine;
use crate::profile::{Brownout, Profile, pumping};
use crate::stats::Phase;
use crate::workers::Part;

/// What is replayed.
pub(crate) struct Plan {
    pub(crate) load: Load,
    /// Existing users write as they always do, because what is played does not say how.
    pub(crate) sends_in_background: bool,
    /// Its sign-ups, with the hours that they were recorded in.
    pub(crate) replay: Replay,
    pub(crate) probed_per_s: Option<f64>,
    /// Highest planned rate over one second.
    pub(crate) peak_per_s: f64,
    /// What the waiting room was ordered to let in.
    pub(crate) admit_per_s: Option<f64>,
    pub(crate) brownout: Option<Brownout>,
}

impl Plan {
    /// The parts of the measured part, by planned time.
    pub(super) fn phases(&self, calm: Duration) -> Vec<Phase> {
        let recovered = self.load.behaviour.slow.iter().map(|slow| calm + slow.to + RECOVERING).max();
        let mut phases = vec![(BEFORE, Duration::ZERO), (SURGE, calm)];
        phases.extend(recovered.map(|from| (AFTER, from)));
        phases.push((SETTLING, calm + self.load.duration()));
        phases.into_iter().map(|(name, from)| Phase { name, from }).collect()
    }
}

impl Run {
    pub(super) async fn plan(&mut self) -> Result<Plan, RunError> {
        let length = self.options.surge();
        let probed_per_s = match offer::is_to_be_probed(&self.options)? {
            true => Some(probe::capacity(self).await?),
            false => None,
        };
        let sign_ups = match probed_per_s {
            Some(probed) => SignUps::Peak(probed * self.options.peak_share()),
            None => SignUps::without_probe(&self.options),
        };
        let offer = Offer::of(&self.options, sign_ups)?;
        // Where several play, each looks at its own part.
        if self.options.workers.count().is_none() {
            let part = self.tie.as_ref().map_or(Part::WHOLE, |tie| tie.part);
            let needs = offer.needs(&self.options, &self.shares, part);
            needs.check(&Machine::here()).map_err(OfferError::from)?;
        }
        let comers = offer.load.curve(Op::SignUp).cloned().unwrap_or_default();
        let highest_second = comers.highest_mean_per_s(Duration::from_secs(1));
        let (replay, peak_per_s, brownout) = match (&self.options.profile, sign_ups) {
            _ if self.options.steady.is_some()
                || self.options.load.trace.is_some()
                || !self.options.load.plays(Op::SignUp) =>
            {
                (Replay::of(comers), highest_second, None)
            }
            // As it was told, to the last digit.
            (Profile::Signal2021, SignUps::Peak(peak)) => {
                (scaled(self.options.column(), length, peak)?, peak, None)
            }
            (Profile::Signal2021, _) => {
                (scaled(self.options.column(), length, highest_second)?, highest_second, None)
            }
            (Profile::ProviderBrownout, SignUps::Peak(full_per_s) | SignUps::Base(full_per_s)) => {
                let brownout = Brownout::new(full_per_s, length);
                (Replay::of(comers), highest_second, Some(brownout))
            }
            (Profile::Pumping, _) => {
                let replay = pumping(length)?;
                let peak_per_s = replay.curve.peak_per_s();
                (replay, peak_per_s, None)
            }
            _ => (Replay::of(comers), highest_second, None),
        };
        let admit_per_s = self.options.admit().map(|share| share * peak_per_s);
        let sends_in_background = offer.sends_in_background();
        Ok(Plan {
            load: offer.load,
            sends_in_background,
            replay,
            probed_per_s,
            peak_per_s,
            admit_per_s,
            brownout,
        })
    }
}

/// January scaled so that its highest second has the wanted rate. An hour of January is shorter than a second of the
/// replay, so the highest hour's rate is above it.
fn scaled(column: Column, length: Duration, peak_per_s: f64) -> Result<Replay, RunError> {
    let unscaled = signal_2021(column).replay(length, 1.0)?;
    let highest_second = unscaled.curve.highest_mean_per_s(Duration::from_secs(1));
    Ok(signal_2021(column).replay(length, peak_per_s / highest_second)?)
}
