//! What is known of each provider in each country, by transport. Memory is bounded by the numbering plans: about 230
//! country calling codes, two transports and 16 providers make 7,000 records of 250 bytes.

use std::collections::HashMap;
use std::time::Duration;

use spillway_store::verifications::Transport;
use tokio::time::Instant;

use super::faded::Faded;
use super::wilson;

/// Codes are proved or not within minutes, and a country has few of them, so this memory is long.
const CONVERSION: Duration = Duration::from_secs(3_600);
/// Answers come within seconds.
const ANSWERS: Duration = Duration::from_secs(600);
/// "Lately", for a collapse, is the last so many codes, with weights that fall off: a busy provider is found out within
/// seconds, and a quiet one at all.
const LATELY: f64 = 50.0;
/// Proved or unproved codes without which there is no past to collapse from.
const PAST_MIN: f64 = 100.0;
const LATELY_MIN: f64 = 25.0;
/// A collapse is a conversion below half of its own past: weather and weekends move it by a tenth.
const COLLAPSE: f64 = 0.5;
/// One receipt of ten minutes ago counts still.
const RECEIPTS_MIN: f64 = 0.4;
/// How many codes the provider's conversion in all countries is worth as a prior for one country.
const PRIOR: f64 = 10.0;

/// Which record: the provider's place in the settings, the country calling code, the transport.
pub(super) type Cell = (usize, u16, Transport);

#[derive(Debug, Default)]
pub(super) struct Records {
    cells: HashMap<Cell, Record>,
    /// Over all countries.
    wide: HashMap<(usize, Transport), Record>,
}

#[derive(Clone, Debug)]
struct Record {
    sent: Faded,
    verified: Faded,
    sent_lately: f64,
    verified_lately: f64,
    /// Receipts, and those that say that the message has arrived.
    receipts: Faded,
    arrived: Faded,
    receipts_lately: f64,
    arrived_lately: f64,
    attempts: Faded,
    accepted: Faded,
    /// Seconds, and codes that they are the sum of.
    delay: Faded,
    delays: Faded,
}

/// The two shapes of a beta distribution over conversion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shapes {
    pub(super) verified: f64,
    pub(super) unverified: f64,
}

impl Records {
    pub(super) fn answered(&mut self, cell: Cell, accepted: bool, now: Instant) {
        self.each(cell, now, |record| {
            record.attempts.add(1.0, now);
            record.accepted.add(f64::from(accepted), now);
        });
    }

    pub(super) fn delayed(&mut self, cell: Cell, delay: Duration, now: Instant) {
        self.each(cell, now, |record| {
            record.delay.add(delay.as_secs_f64(), now);
            record.delays.add(1.0, now);
        });
    }

    /// The time in which a code should have been typed is over, and it was or was not. What was typed early is counted
    /// then too: counted at once, it would make a provider look good that is given more, and bad that is given less.
    pub(super) fn judged(&mut self, cell: Cell, verified: bool, now: Instant) {
        self.each(cell, now, |record| {
            record.sent.add(1.0, now);
            record.verified.add(f64::from(verified), now);
            let keep = 1.0 - 1.0 / LATELY;
            record.sent_lately = record.sent_lately * keep + 1.0;
            record.verified_lately = record.verified_lately * keep + f64::from(verified);
        });
    }

    /// The provider has said whether the message has arrived.
    pub(super) fn receipted(&mut self, cell: Cell, arrived: bool, now: Instant) {
        self.each(cell, now, |record| {
            record.receipts.add(1.0, now);
            record.arrived.add(f64::from(arrived), now);
            let keep = 1.0 - 1.0 / LATELY;
            record.receipts_lately = record.receipts_lately * keep + 1.0;
            record.arrived_lately = record.arrived_lately * keep + f64::from(arrived);
        });
    }

    /// Whether the provider gives receipts.
    pub(super) fn gives_receipts(&self, provider: usize, transport: Transport, now: Instant) -> bool {
        self.wide.get(&(provider, transport)).is_some_and(|record| record.receipts.get(now) >= RECEIPTS_MIN)
    }

    /// A code whose time was thought to be over has been typed after all.
    pub(super) fn late(&mut self, cell: Cell, now: Instant) {
        self.each(cell, now, |record| record.verified.add(1.0, now));
    }

    /// What to believe about the conversion: what was seen in the country, on top of what was seen everywhere as if it
    /// had been [`PRIOR`] codes here. Where nothing was seen anywhere, all conversions are equally likely.
    pub(super) fn conversion(&self, cell: Cell, now: Instant) -> Shapes {
        let seen = |record: Option<&Record>| {
            record.map_or((0.0, 0.0), |record| {
                let sent = record.sent.get(now);
                (record.verified.get(now).min(sent), sent)
            })
        };
        let (wide_verified, wide_sent) = seen(self.wide.get(&(cell.0, cell.2)));
        let (verified, sent) = seen(self.cells.get(&cell));
        let mean = (1.0 + wide_verified) / (2.0 + wide_sent);
        let weight = (2.0 + wide_sent).min(PRIOR);
        Shapes { verified: weight * mean + verified, unverified: weight * (1.0 - mean) + (sent - verified) }
    }

    /// The share of calls that the provider takes in this country.
    pub(super) fn acceptance(&self, cell: Cell, now: Instant) -> f64 {
        self.cells
            .get(&cell)
            .map_or(1.0, |record| (record.accepted.get(now) + 1.0) / (record.attempts.get(now) + 1.0))
    }

    /// Whether codes are taken and, compared with its own past, hardly anybody receives them: as few are typed, or as the provider says itself.
    pub(super) fn has_collapsed(&self, provider: usize, transport: Transport, now: Instant) -> bool {
        let Some(record) = self.wide.get(&(provider, transport)) else { return false };
        let collapsed = |(hits, of): (f64, f64), (hits_lately, lately): (f64, f64)| {
            lately >= LATELY_MIN
                && of >= PAST_MIN
                && wilson::upper(hits_lately, lately) < COLLAPSE * hits / of
        };
        let typed = (record.verified.get(now), record.sent.get(now));
        let arrived = (record.arrived.get(now), record.receipts.get(now));
        collapsed(typed, (record.verified_lately, record.sent_lately))
            || collapsed(arrived, (record.arrived_lately, record.receipts_lately))
    }

    /// Begins "lately" anew, so that a provider that is tried again is judged by what it does then.
    pub(super) fn forget_lately(&mut self, provider: usize, transport: Transport) {
        if let Some(record) = self.wide.get_mut(&(provider, transport)) {
            (record.sent_lately, record.verified_lately) = (0.0, 0.0);
            (record.receipts_lately, record.arrived_lately) = (0.0, 0.0);
        }
    }

    /// Over all countries: the share of codes that were typed, the share that arrived as receipts say, and the mean delay. `None` where nothing is known.
    pub(super) fn summary(
        &self,
        provider: usize,
        transport: Transport,
        now: Instant,
    ) -> (Option<f64>, Option<f64>, Option<Duration>) {
        let Some(record) = self.wide.get(&(provider, transport)) else { return (None, None, None) };
        let mean = |sum: &Faded, count: &Faded| {
            let count = count.get(now);
            (count > 1e-3).then(|| (sum.get(now) / count).max(0.0))
        };
        let delay = mean(&record.delay, &record.delays).map(Duration::from_secs_f64);
        (mean(&record.verified, &record.sent), mean(&record.arrived, &record.receipts), delay)
    }

    fn each(&mut self, cell: Cell, now: Instant, change: impl Fn(&mut Record)) {
        change(self.cells.entry(cell).or_insert_with(|| Record::new(now)));
        change(self.wide.entry((cell.0, cell.2)).or_insert_with(|| Record::new(now)));
    }
}

impl Record {
    fn new(now: Instant) -> Self {
        let faded = |half_life| Faded::new(half_life, now);
        Self {
            sent: faded(CONVERSION),
            verified: faded(CONVERSION),
            sent_lately: 0.0,
            verified_lately: 0.0,
            receipts: faded(ANSWERS),
            arrived: faded(ANSWERS),
            receipts_lately: 0.0,
            arrived_lately: 0.0,
            attempts: faded(ANSWERS),
            accepted: faded(ANSWERS),
            delay: faded(ANSWERS),
            delays: faded(ANSWERS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMS: Transport = Transport::Sms;
    const HERE: Cell = (0, 49, SMS);

    fn judge(records: &mut Records, cell: Cell, verified: usize, of: usize, now: Instant) {
        (0..of).for_each(|n| records.judged(cell, n < verified, now));
    }

    fn mean(shapes: Shapes) -> f64 {
        shapes.verified / (shapes.verified + shapes.unverified)
    }

    #[test]
    fn a_thin_country_is_believed_to_be_like_the_others_until_it_is_known() {
        let now = Instant::now();
        let mut records = Records::default();
        assert!((mean(records.conversion(HERE, now)) - 0.5).abs() < 1e-9);
        judge(&mut records, (0, 1, SMS), 900, 1_000, now);
        let thin = records.conversion(HERE, now);
        assert!((mean(thin) - 0.9).abs() < 0.01 && thin.verified + thin.unverified < 10.1, "{thin:?}");
        judge(&mut records, HERE, 20, 200, now);
        assert!(mean(records.conversion(HERE, now)) < 0.16);
        assert!(mean(records.conversion((0, 1, SMS), now)) > 0.89, "and the other stays what it was");
    }

    #[test]
    fn the_past_fades() {
        let now = Instant::now();
        let mut records = Records::default();
        judge(&mut records, HERE, 0, 1_000, now);
        let day = now + Duration::from_secs(86_400);
        assert!((mean(records.conversion(HERE, day)) - 0.5).abs() < 0.05);
    }

    #[test]
    fn a_late_conversion_corrects_what_was_judged() {
        let now = Instant::now();
        let mut records = Records::default();
        judge(&mut records, HERE, 0, 10, now);
        (0..10).for_each(|_| records.late(HERE, now));
        assert_eq!(records.summary(0, SMS, now).0, Some(1.0));
    }

    #[test]
    fn a_collapse_is_measured_against_its_own_past() {
        let now = Instant::now();
        let mut records = Records::default();
        judge(&mut records, (0, 49, SMS), 800, 1_000, now);
        judge(&mut records, (1, 49, SMS), 100, 1_000, now);
        let later = now + Duration::from_secs(1_200);
        judge(&mut records, (0, 49, SMS), 10, 100, later);
        judge(&mut records, (1, 49, SMS), 10, 100, later);
        assert!(records.has_collapsed(0, SMS, later), "80 % before, 10 % now");
        assert!(!records.has_collapsed(1, SMS, later), "10 % as ever");
        assert!(!records.has_collapsed(0, Transport::Voice, later));
        records.forget_lately(0, SMS);
        assert!(!records.has_collapsed(0, SMS, later));
    }

    #[test]
    fn few_codes_are_no_collapse() {
        let now = Instant::now();
        let mut records = Records::default();
        judge(&mut records, HERE, 800, 1_000, now);
        let later = now + Duration::from_secs(1_200);
        records.forget_lately(0, SMS);
        judge(&mut records, HERE, 0, 20, later);
        assert!(!records.has_collapsed(0, SMS, later));
        judge(&mut records, HERE, 0, 20, later);
        assert!(records.has_collapsed(0, SMS, later));
    }
}
