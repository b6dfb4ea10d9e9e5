//! Exemplars: for each bucket of a latency histogram the last traced call that fell into it, so that a slow bucket on a graph leads to a
//! trace. The `prometheus` crate has none; here they are kept beside its histograms and written with them, in OpenMetrics.

mod open_metrics;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use open_metrics::{CONTENT_TYPE, encode};

/// The exemplars of a registry's histograms. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Exemplars(Arc<Mutex<HashMap<Series, Slots>>>);

/// A family, and its labels in the order of their names.
type Series = (String, Vec<(String, String)>);

/// The exemplars of one series. Its number is that of the series, and so bounded as they are.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    /// One more, for what is above all bounds.
    buckets: Vec<Mutex<Option<Exemplar>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: String,
    pub(crate) value: f64,
}

impl Exemplars {
    /// Those of the series of `family` with these labels, whose buckets have the upper bounds `bounds`.
    pub fn slots(&self, family: &str, labels: &[(&str, &str)], bounds: &'static [f64]) -> Slots {
        let buckets = (0..=bounds.len()).map(|_| Mutex::default()).collect();
        let slots = Slots(Arc::new(Inner { bounds, buckets }));
        let key = series(family, labels.iter().copied());
        self.lock().entry(key).or_insert(slots).clone()
    }

    fn get<'a>(&self, family: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Slots> {
        self.lock().get(&series(family, labels)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Series, Slots>> {
        // Only whole entries are added under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// A call of this trace took `value`.
    pub fn note(&self, value: f64, trace_id: String) {
        let at = self.0.bounds.partition_point(|bound| *bound < value);
        // Somebody else is writing one of the same bucket: his is as good, and a call waits for nobody.
        if let Ok(mut slot) = self.0.buckets[at].try_lock() {
            *slot = Some(Exemplar { trace_id, value });
        }
    }

    /// Of the bucket with this number, that above all bounds being the last.
    fn of_bucket(&self, at: usize) -> Option<Exemplar> {
        self.0.buckets.get(at)?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn series<'a>(family: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Series {
    let mut labels: Vec<_> = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    labels.sort_unstable();
    (family.to_owned(), labels)
}
