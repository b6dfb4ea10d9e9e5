//! How people and the way to the service behave while a load is played.

use std::time::Duration;

/// What is not a rate. The default is what the reference client and a patient person do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// How long a code takes to the phone, beyond what the provider took.
    pub code_delay: Option<CodeDelay>,
    /// Share of newcomers who ask for a second code before the first has come.
    pub resend_share: f64,
    /// Newcomers type the code so long after it came, evenly between the two.
    pub type_after: Option<(Duration, Duration)>,
    /// Share of newcomers whose first code is mistyped.
    pub wrong_code_share: f64,
    /// Share of existing people who are offline when the load begins.
    pub offline_share: f64,
    /// A person waits so long for a send and then sends it again, up to [`IMPATIENT_TRIES`] times in all.
    pub send_patience: Option<Duration>,
    /// Share of existing people whose connections do not hold.
    pub flapping_share: f64,
    /// How long who flaps stays away, evenly between the two.
    pub away: Option<(Duration, Duration)>,
    /// Times in which everything on the way from the service takes longer.
    pub slow: Vec<Slow>,
}

/// Of the log-normal distribution that delays of text messages are near to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeDelay {
    pub median: Duration,
    /// Standard deviation of the delay's logarithm.
    pub sigma: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    pub from: Duration,
    pub to: Duration,
    pub by: Duration,
}

/// Sends of one message by somebody who is impatient.
pub const IMPATIENT_TRIES: u32 = 4;

impl Behaviour {
    /// Both: of two that say something, the stronger.
    pub fn and(mut self, other: Self) -> Self {
        let stronger = |a: Option<CodeDelay>, b: Option<CodeDelay>| match (a, b) {
            (Some(a), Some(b)) => Some(if a.median >= b.median { a } else { b }),
            (a, b) => a.or(b),
        };
        let later = |a: Option<(Duration, Duration)>, b: Option<(Duration, Duration)>| match (a, b) {
            (Some(a), Some(b)) => Some(if a.1 >= b.1 { a } else { b }),
            (a, b) => a.or(b),
        };
        self.slow.extend(other.slow);
        Self {
            code_delay: stronger(self.code_delay, other.code_delay),
            resend_share: self.resend_share.max(other.resend_share),
            type_after: later(self.type_after, other.type_after),
            wrong_code_share: self.wrong_code_share.max(other.wrong_code_share),
            offline_share: self.offline_share.max(other.offline_share),
            send_patience: [self.send_patience, other.send_patience].into_iter().flatten().min(),
            flapping_share: self.flapping_share.max(other.flapping_share),
            away: later(self.away, other.away),
            slow: self.slow,
        }
    }

    /// What has its time has it so much later.
    pub fn after(&self, pause: Duration) -> Self {
        let slow = self.slow.iter();
        let slow = slow.map(|slow| Slow { from: slow.from + pause, to: slow.to + pause, ..*slow }).collect();
        Self { slow, ..self.clone() }
    }

    /// In `factor` of the time. How long a send is waited for stays, because that is set against the service's own latency.
    pub fn at_speed(self, factor: f64) -> Self {
        let scale = |duration: Duration| duration.mul_f64(factor);
        let both = |(from, to): (Duration, Duration)| (scale(from), scale(to));
        let slow = self.slow.iter();
        let slow = slow.map(|slow| Slow { from: scale(slow.from), to: scale(slow.to), ..*slow }).collect();
        Self {
            code_delay: self.code_delay.map(|delay| CodeDelay { median: scale(delay.median), ..delay }),
            type_after: self.type_after.map(both),
            away: self.away.map(both),
            slow,
            ..self
        }
    }

    /// In words, one of each thing that is not the default.
    pub fn words(&self) -> Vec<String> {
        let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let mut words = Vec::new();
        if let Some(delay) = self.code_delay {
            words.push(format!("half of the codes take longer than {} to the phone", seconds(delay.median)));
        }
        if self.resend_share > 0.0 {
            words.push(format!("{} of newcomers ask for a second code", percent(self.resend_share)));
        }
        if let Some((from, to)) = self.type_after {
            words.push(format!("codes are typed {} to {} after they came", seconds(from), seconds(to)));
        }
        if self.wrong_code_share > 0.0 {
            words.push(format!("{} of newcomers mistype the code", percent(self.wrong_code_share)));
        }
        if self.offline_share > 0.0 {
            words.push(format!("{} of existing users are offline at first", percent(self.offline_share)));
        }
        if let Some(patience) = self.send_patience {
            words.push(format!(
                "a send is waited for {}, and sent {IMPATIENT_TRIES} times at most",
                seconds(patience)
            ));
        }
        if let Some((from, to)) = self.away {
            words.push(format!("who flaps stays away for {} to {}", seconds(from), seconds(to)));
        }
        for slow in &self.slow {
            words.push(format!(
                "answers take {} longer from {} to {}",
                seconds(slow.by),
                seconds(slow.from),
                seconds(slow.to)
            ));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_behaviours_the_stronger_holds_and_times_move() {
        let slow =
            Slow { from: Duration::from_secs(1), to: Duration::from_secs(3), by: Duration::from_secs(2) };
        let a = Behaviour { resend_share: 0.2, slow: vec![slow], ..Behaviour::default() };
        let b = Behaviour { resend_share: 0.1, wrong_code_share: 0.3, ..a.after(Duration::from_secs(10)) };
        let both = a.and(b);
        assert_eq!((both.resend_share, both.wrong_code_share), (0.2, 0.3));
        assert_eq!(both.slow[1].from, Duration::from_secs(11));
        let fast = both.at_speed(0.5);
        assert_eq!((fast.slow[1].from, fast.slow[1].by), (Duration::from_millis(5_500), slow.by));
        assert_eq!(fast.words().len(), 4);
        assert!(Behaviour::default().words().is_empty());
    }
}
