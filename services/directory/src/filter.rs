//! Who is certainly not in the directory.
//!
//! A question about a stranger, and of a hundred that an address book asks ninety-eight are, ends here instead of in the
//! store. What it must never do is deny somebody who can be found: so it says nothing before it is complete, and nothing
//! when what was told to it last is too old. Then every question goes to the store.
//!
//! Additions, the change from one filter to the next, and forgetting all take one lock; asking takes none.

mod layers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use spillway_types::NumberMac;
use tokio::time::Instant;

use layers::Layers;

/// How long the filter is believed after the store was asked what is new: less than the minute within which everybody
/// who can be found is found everywhere, by what a put may take between its place in the log and its answer.
pub(crate) const BELIEVED_FOR: Duration = Duration::from_secs(45);
/// With as many layers a question takes noticeably longer, and building it anew makes one of them.
const LAYERS_WORTH_REBUILDING: usize = 3;

#[derive(Debug)]
pub(crate) struct Filter {
    bytes_max: usize,
    began: Instant,
    /// `None` until the first is complete.
    live: ArcSwapOption<Layers>,
    /// Milliseconds after `began`.
    believed_until_ms: AtomicU64,
    /// The next one, while the store is walked over for it.
    building: Mutex<Option<Layers>>,
}

/// What is known at one moment, for all numbers of a call.
#[derive(Debug)]
pub(crate) struct View(Arc<Layers>);

/// For metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) layers: usize,
}

impl View {
    /// `false`: nobody has this number, or nobody who wants to be found.
    pub(crate) fn may_have(&self, number: &NumberMac) -> bool {
        self.0.may_have(number.short())
    }
}

impl Filter {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            began: Instant::now(),
            live: ArcSwapOption::empty(),
            believed_until_ms: AtomicU64::new(0),
            building: Mutex::default(),
        }
    }

    /// `None`: ask the store.
    pub(crate) fn view(&self) -> Option<View> {
        let now_ms = millis(self.began.elapsed());
        let is_believed = now_ms < self.believed_until_ms.load(Ordering::Acquire);
        if is_believed { self.live.load_full().map(View) } else { None }
    }

    /// These can be found from now on.
    pub(crate) fn add(&self, numbers: &[NumberMac]) {
        let mut building = self.building();
        if let Some(building) = &mut *building {
            insert(building, numbers);
        }
        if let Some(live) = self.live.load_full() {
            let mut grown = Layers::clone(&live);
            insert(&mut grown, numbers);
            if grown.len() != live.len() {
                self.live.store(Some(Arc::new(grown)));
            }
        }
    }

    /// Everything that was told up to what was asked of the store at this moment is in here.
    pub(crate) fn caught_up(&self, asked_at: Instant) {
        let until = asked_at.saturating_duration_since(self.began) + BELIEVED_FOR;
        self.believed_until_ms.fetch_max(millis(until), Ordering::AcqRel);
    }

    /// Starts the next one, and drops one that was being built. What is added from now on is in it as well.
    pub(crate) fn begin(&self) {
        let held = self.live.load().as_ref().map_or(0, |live| live.held());
        // Room for what comes until it is built anew, on a day when a quarter comes in an hour.
        *self.building() = Some(Layers::with_room(held + held / 4, self.bytes_max));
    }

    /// For the one that is being built alone. `false`: it was dropped.
    pub(crate) fn add_walked(&self, numbers: &[NumberMac]) -> bool {
        let mut building = self.building();
        let Some(layers) = &mut *building else { return false };
        insert(layers, numbers);
        true
    }

    /// Puts the one that was built in the place of the present one. `None`: it was dropped meanwhile.
    pub(crate) fn finish(&self) -> Option<Size> {
        let mut building = self.building();
        let next = Arc::new(building.take()?);
        let size = Size::of(&next);
        self.live.store(Some(next));
        Some(size)
    }

    /// Drops the one that is being built.
    pub(crate) fn abandon(&self) {
        *self.building() = None;
    }

    /// Something was missed that nobody can tell any more: neither the present one nor the one that is being built is
    /// worth anything.
    pub(crate) fn forget(&self) {
        let mut building = self.building();
        *building = None;
        self.live.store(None);
    }

    pub(crate) fn size(&self) -> Size {
        self.live.load().as_deref().map_or_else(Size::default, Size::of)
    }

    fn building(&self) -> MutexGuard<'_, Option<Layers>> {
        // Between two statements that can panic, the filters are whole.
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Size {
    fn of(layers: &Layers) -> Self {
        Self { entries: layers.held(), bytes: layers.bytes(), layers: layers.len() }
    }

    pub(crate) const fn is_worth_rebuilding(self) -> bool {
        self.layers >= LAYERS_WORTH_REBUILDING
    }
}

fn insert(layers: &mut Layers, numbers: &[NumberMac]) {
    for number in numbers {
        layers.insert(number.short());
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
