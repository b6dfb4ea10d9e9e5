use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use spillway_types::NumberMac;
use tokio::time::Instant;

use super::{BELIEVED_FOR, Filter};

/// Spreads small numbers over all bits, as a keyed hash does (the finaliser of SplitMix64).
fn number(n: u64) -> NumberMac {
    let mut mixed = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let mut bytes = [1; NumberMac::LEN];
    bytes[1..9].copy_from_slice(&mixed.to_le_bytes());
    NumberMac::from_bytes(bytes)
}

fn filter() -> Filter {
    let filter = Filter::new(usize::MAX);
    filter.caught_up(Instant::now());
    filter
}

#[tokio::test(start_paused = true)]
async fn it_knows_nothing_before_it_is_complete_and_believed() {
    let filter = Filter::new(usize::MAX);
    assert!(filter.view().is_none());
    filter.begin();
    assert!(filter.add_walked(&[number(1)]));
    assert!(filter.finish().is_some());
    assert!(filter.view().is_none(), "nobody has asked the store what is new");
    filter.caught_up(Instant::now());
    assert!(filter.view().unwrap().may_have(&number(1)));
    assert!(!filter.view().unwrap().may_have(&number(2)));
    tokio::time::advance(BELIEVED_FOR - Duration::from_millis(1)).await;
    assert!(filter.view().is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(filter.view().is_none(), "what it was told last is too old");
    filter.caught_up(Instant::now());
    assert!(filter.view().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_takes_the_one_that_is_being_built_along() {
    let filter = filter();
    filter.begin();
    filter.finish().unwrap();
    filter.begin();
    filter.forget();
    assert!(filter.view().is_none());
    assert!(!filter.add_walked(&[number(1)]));
    assert_eq!(filter.finish(), None);
    assert!(filter.view().is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64),
    Remove(u64),
    Begin,
    /// Walks over some more entries.
    Walk(usize),
    Abandon,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..500).prop_map(Step::Put),
        2 => (0_u64..500).prop_map(Step::Remove),
        1 => Just(Step::Begin),
        6 => (1_usize..60).prop_map(Step::Walk),
        1 => Just(Step::Abandon),
        1 => Just(Step::Forget),
    ]
}

/// A store, and a walk over it that ends with the change to the next filter.
struct World {
    filter: Filter,
    entries: BTreeSet<u64>,
    walked: Option<Option<u64>>,
    finished: usize,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Put(n) => {
                self.entries.insert(n);
                self.filter.add(&[number(n)]);
            }
            Step::Remove(n) => {
                self.entries.remove(&n);
            }
            Step::Begin => {
                self.filter.begin();
                self.walked = Some(None);
            }
            Step::Walk(count) => self.walk(count),
            Step::Abandon => {
                self.filter.abandon();
                self.walked = None;
            }
            Step::Forget => {
                self.filter.forget();
                self.walked = None;
            }
        }
    }

    fn walk(&mut self, count: usize) {
        let Some(after) = self.walked else { return };
        let ahead = self.entries.iter().copied().filter(|n| after.is_none_or(|after| *n > after));
        let page: Vec<u64> = ahead.take(count).collect();
        let numbers: Vec<_> = page.iter().copied().map(number).collect();
        assert!(self.filter.add_walked(&numbers));
        if page.len() == count {
            self.walked = Some(page.last().copied());
        } else {
            self.walked = None;
            self.filter.finish().unwrap();
            self.finished += 1;
        }
    }

    fn check(&self) {
        let Some(view) = self.filter.view() else { return };
        for n in &self.entries {
            assert!(view.may_have(&number(*n)), "{n} can be found and is denied");
        }
    }
}

proptest! {
    #[test]
    fn nobody_who_can_be_found_is_denied(steps in proptest::collection::vec(step(), 1..200)) {
        let mut world =
            World { filter: filter(), entries: BTreeSet::new(), walked: None, finished: 0 };
        for step in steps {
            world.take(step);
            world.check();
        }
    }
}

/// The same with threads: two that ask, one that adds, and one that builds one filter after the other.
#[test]
fn nobody_is_denied_while_filters_change_under_those_who_ask() {
    const ADDED_MAX: u64 = 400_000;
    const CHANGES: usize = 4;
    let filter = filter();
    let (added, done, asked) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..ADDED_MAX).take_while(|_| !done.load(Ordering::Acquire)) {
                filter.add(&[number(n)]);
                added.store(n + 1, Ordering::Release);
            }
        });
        scope.spawn(|| {
            for _ in 0..CHANGES {
                // Each has something new to walk over, and some have been asked about.
                let (before, asked_before) = (added.load(Ordering::Acquire), asked.load(Ordering::Acquire));
                while added.load(Ordering::Acquire) < (before + 1_000).min(ADDED_MAX) {
                    std::thread::yield_now();
                }
                filter.begin();
                // One may be on its way: added to the filter before and not counted yet. What comes after it is in both.
                for n in 0..=added.load(Ordering::Acquire) {
                    filter.add_walked(&[number(n)]);
                }
                filter.finish().unwrap();
                while asked.load(Ordering::Acquire) <= asked_before {
                    std::thread::yield_now();
                }
            }
            done.store(true, Ordering::Release);
        });
        for start in 1..=2 {
            let (filter, added, done, asked) = (&filter, &added, &done, &asked);
            scope.spawn(move || {
                let mut n = start;
                while !done.load(Ordering::Acquire) {
                    let known = added.load(Ordering::Acquire);
                    let Some(view) = filter.view().filter(|_| known > 0) else {
                        std::thread::yield_now();
                        continue;
                    };
                    n = (n * 48_271 + 11) % known;
                    assert!(view.may_have(&number(n)), "{n} of {known}");
                    asked.fetch_add(1, Ordering::Release);
                }
            });
        }
    });
}
