use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const EVER: Duration = Duration::from_secs(1 << 30);

/// A one-seat call of its own flow; its number is the waiter.
fn call(number: u32, tier: Tier, cohort: u8) -> Entry<u32> {
    Entry {
        level: Level::new(tier, cohort),
        user: User(u64::from(number)),
        flow: u64::from(number),
        seats: 1,
        kind: Kind::default(),
        arrived: Duration::ZERO,
        expires: EVER,
        doomed: false,
        deadline: EVER,
        waiter: number,
    }
}

fn push(queue: &mut Queue<u32>, entry: Entry<u32>, seats_max: u64) -> Result<(Place, Vec<u32>), u32> {
    if !queue.has_room(entry.level, entry.seats, seats_max) {
        return Err(entry.waiter);
    }
    let mut evicted = Vec::new();
    let place = queue.push(Duration::ZERO, entry, seats_max, false, &mut evicted);
    Ok((place, evicted.into_iter().map(|entry| entry.waiter).collect()))
}

fn serve(queue: &mut Queue<u32>) -> Option<Entry<u32>> {
    match queue.pop(Duration::ZERO, |_| true) {
        Next::Serve(entry) => Some(entry),
        Next::Empty => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_more_important_push_out_the_newest_of_the_worst() {
    let mut queue = Queue::new();
    for number in 0..4 {
        push(&mut queue, call(number, Tier::Lookup, number as u8 / 2), 4).unwrap();
    }
    assert_eq!(push(&mut queue, call(10, Tier::Lookup, 1), 4), Err(10), "no better than the worst");
    assert_eq!(push(&mut queue, call(11, Tier::Lookup, 0), 4).unwrap().1, [3]);
    assert_eq!(push(&mut queue, call(12, Tier::Ack, 127), 4).unwrap().1, [2]);
    assert_eq!(push(&mut queue, call(13, Tier::FinishSignUp, 0), 4), Err(13));
    assert_eq!(serve(&mut queue).unwrap().waiter, 12);
    assert_eq!((queue.len(), queue.seats()), (3, 3));
}

#[test]
fn a_flood_of_the_more_important_leaves_the_others_the_places_of_their_floors() {
    let mut queue = Queue::new();
    let mut number = 0;
    let mut pushed = |tier, count: usize| {
        let pushed = (0..count).filter_map(|_| {
            number += 1;
            push(&mut queue, call(number, tier, 0), 100).ok()
        });
        let evicted: Vec<Vec<u32>> = pushed.map(|(_, evicted)| evicted).collect();
        (evicted.len(), evicted.concat().len())
    };
    assert_eq!(pushed(Tier::Resume, 120), (100, 0));
    assert_eq!(pushed(Tier::Send, 30), (20, 20), "a fifth is theirs");
    assert_eq!(pushed(Tier::Resume, 120), (0, 0), "and stays theirs");
    assert_eq!(pushed(Tier::Background, 10), (0, 0), "they have no floor");
    assert_eq!(pushed(Tier::Ack, 200), (70, 70), "all but the floors of a tenth and a fifth");
    assert_eq!(pushed(Tier::FinishSignUp, 10), (3, 3));
    let mut waiting = [0; Tier::COUNT];
    while let Some(entry) = serve(&mut queue) {
        waiting[entry.level.tier() as usize] += 1;
    }
    assert_eq!(waiting, [0, 67, 10, 20, 0, 3, 0, 0]);
}

#[test]
fn when_all_tiers_wait_each_gets_its_floor_and_acks_the_rest() {
    let mut queue = Queue::new();
    for number in 0..70_000 {
        let tier = Tier::from_index(1 + number as usize % 7).unwrap();
        push(&mut queue, call(number, tier, 0), u64::MAX).unwrap();
    }
    let mut served = [0; Tier::COUNT];
    for _ in 0..10_000 {
        served[serve(&mut queue).unwrap().level.tier() as usize] += 1;
    }
    let expected = [0, 6_000, 1_000, 2_000, 500, 300, 200, 0i32];
    for (served, expected) in served.iter().zip(expected) {
        assert!((served - expected).abs() <= 70, "{served} of {expected}");
    }
}

#[test]
fn a_flood_does_not_delay_the_others_of_its_tier() {
    let mut queue = Queue::new();
    for number in 0..2_000 {
        let flood = Entry { user: User(7), flow: u64::from(number), ..call(number, Tier::Send, 0) };
        push(&mut queue, flood, u64::MAX).unwrap();
    }
    for number in 10_000..10_050 {
        push(&mut queue, call(number, Tier::Send, 0), u64::MAX).unwrap();
    }
    // 58 lanes, 8 of them the flood's, each served 4 seats a round: all others are through after two rounds.
    let first: Vec<u32> = (0..8 * 8 + 50).map(|_| serve(&mut queue).unwrap().waiter).collect();
    assert_eq!(first.iter().filter(|&&number| number >= 10_000).count(), 50, "{first:?}");
}

#[test]
fn the_newest_comes_first_between_users_and_a_flow_keeps_its_order() {
    let mut queue = Queue::new();
    let mut evicted = Vec::new();
    for number in 0..9 {
        let entry = Entry { flow: u64::from(number % 3), ..call(number, Tier::Send, 0) };
        let entry = Entry { user: User(u64::from(number % 3)), ..entry };
        queue.push(Duration::ZERO, entry, 100, true, &mut evicted);
    }
    let order: Vec<u32> = std::iter::from_fn(|| serve(&mut queue)).map(|entry| entry.waiter).collect();
    assert_eq!(order, [2, 5, 8, 1, 4, 7, 0, 3, 6]);
}

#[test]
fn a_wide_call_is_not_overtaken() {
    let mut queue = Queue::new();
    push(&mut queue, Entry { seats: 40, ..call(1, Tier::Send, 0) }, 100).unwrap();
    push(&mut queue, call(2, Tier::Lookup, 0), 100).unwrap();
    assert!(matches!(queue.pop(Duration::ZERO, |seats| seats <= 39), Next::Blocked));
    assert!(
        matches!(queue.pop(Duration::ZERO, |seats| seats <= 40), Next::Serve(entry) if entry.waiter == 1)
    );
}

#[test]
fn a_place_that_was_taken_again_is_not_left_twice() {
    let mut queue = Queue::new();
    let (first, _) = push(&mut queue, call(1, Tier::Send, 0), 10).unwrap();
    assert_eq!(queue.remove(first).unwrap().waiter, 1);
    let (second, _) = push(&mut queue, call(2, Tier::Send, 0), 10).unwrap();
    assert!(queue.remove(first).is_none() && queue.len() == 1);
    assert!(queue.remove(second).is_some() && queue.is_empty());
}

#[test]
fn who_waited_too_long_is_not_served() {
    let mut queue = Queue::new();
    let ms = Duration::from_millis;
    push(&mut queue, Entry { expires: ms(5), ..call(1, Tier::Send, 0) }, 10).unwrap();
    push(&mut queue, Entry { expires: ms(50), arrived: ms(3), ..call(2, Tier::Send, 0) }, 10).unwrap();
    push(&mut queue, Entry { expires: ms(7), ..call(3, Tier::Ack, 0) }, 10).unwrap();
    assert!(matches!(queue.pop(ms(7), |_| true), Next::Expired(entry) if entry.waiter == 3));
    let ages = |age| move |_| ms(age);
    let numbers = |entries: Vec<Entry<u32>>| entries.iter().map(|entry| entry.waiter).collect::<Vec<_>>();
    assert_eq!(numbers(queue.sweep(ms(8), ages(1_000))), [1]);
    assert_eq!(numbers(queue.sweep(ms(9), ages(7))), [0; 0]);
    assert_eq!(queue.standing(Tier::Send, ms(8)), ms(8));
    assert_eq!(queue.standing(Tier::Ack, ms(8)), Duration::ZERO);
    assert_eq!(numbers(queue.sweep(ms(10), ages(7))), [2]);
}

#[derive(Clone, Debug)]
enum Step {
    Push { tier: usize, cohort: u8, user: u64, flow: u64, seats: u32, life: u64 },
    Pop { free: u32 },
    Remove { of: usize },
    Sweep,
    Wait { time: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..8, 0u8..4, 0u64..5, 0u64..8, 1u32..9, 1u64..50)
            .prop_map(|(tier, cohort, user, flow, seats, life)| Step::Push { tier, cohort, user, flow, seats, life }),
        4 => (0u32..20).prop_map(|free| Step::Pop { free }),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Remove { of: index.index(1 << 16) }),
        1 => Just(Step::Sweep),
        2 => (0u64..10).prop_map(|time| Step::Wait { time }),
    ]
}

proptest! {
    /// Against a plain list of who waits: nobody is lost, served twice, served late or out of the order of a flow,
    /// and the counts are right whatever happens.
    #[test]
    fn it_holds_exactly_those_who_wait(steps in prop::collection::vec(step(), 1..400), seats_max in 1u64..60) {
        let mut queue = Queue::new();
        let mut waiting: Vec<(u32, Place, u32)> = Vec::new();
        let mut flows: HashMap<(usize, u64), Vec<u32>> = HashMap::new();
        let (mut now, mut number) = (Duration::ZERO, 0);
        for step in steps {
            let mut gone: Vec<Entry<u32>> = Vec::new();
            match step {
                Step::Push { tier, cohort, user, flow, seats, life } => {
                    number += 1;
                    let level = Level::new(Tier::from_index(tier).unwrap(), cohort);
                    let expires = now + Duration::from_millis(life);
                    let entry = Entry { level, user: User(user), flow, seats, arrived: now, expires, ..call(number, Tier::Ack, 0) };
                    if queue.has_room(level, seats, seats_max) {
                        let (before, mut of_tiers) = (queue.seats(), queue.tier_seats);
                        let place = queue.push(now, entry, seats_max, number % 2 == 0, &mut gone);
                        let floor = |tier: Tier| tier.spec().floor * seats_max as f64;
                        for out in &gone {
                            // Also by what has just left of its own tier.
                            let has_a_right = (of_tiers[tier] + u64::from(seats)) as f64 <= floor(level.tier());
                            let of_tier = &mut of_tiers[out.level.tier() as usize];
                            let may_go = if out.level.tier() == level.tier() {
                                out.level > level
                            } else {
                                (out.level > level || has_a_right) && *of_tier as f64 > floor(out.level.tier())
                            };
                            prop_assert!(may_go, "{:?} for {level:?}", out.level);
                            *of_tier -= u64::from(out.seats);
                        }
                        prop_assert!(!gone.is_empty() || before + u64::from(seats) <= seats_max);
                        waiting.push((number, place, seats));
                        flows.entry((tier, flow)).or_default().push(number);
                    }
                }
                Step::Pop { free } => match queue.pop(now, |seats| seats <= free) {
                    Next::Serve(entry) => {
                        prop_assert!(entry.expires > now && entry.seats <= free);
                        let flow = (entry.level.tier() as usize, entry.flow);
                        prop_assert_eq!(flows[&flow][0], entry.waiter, "out of order");
                        gone.push(entry);
                    }
                    Next::Expired(entry) => {
                        prop_assert!(entry.expires <= now);
                        gone.push(entry);
                    }
                    Next::Blocked => prop_assert!(!waiting.is_empty()),
                    Next::Empty => prop_assert!(waiting.is_empty()),
                },
                Step::Remove { of } if !waiting.is_empty() => {
                    let (number, place, _) = waiting[of % waiting.len()];
                    let entry = queue.remove(place).unwrap();
                    prop_assert_eq!(entry.waiter, number);
                    prop_assert!(queue.remove(place).is_none());
                    gone.push(entry);
                }
                Step::Remove { .. } => {}
                Step::Sweep => gone.extend(queue.sweep(now, |_| Duration::MAX)),
                Step::Wait { time } => now += Duration::from_millis(time),
            }
            for entry in gone {
                let at = waiting.iter().position(|(number, ..)| *number == entry.waiter);
                prop_assert!(at.is_some(), "{} left twice", entry.waiter);
                waiting.remove(at.unwrap());
                flows.get_mut(&(entry.level.tier() as usize, entry.flow)).unwrap().retain(|&other| other != entry.waiter);
            }
            prop_assert_eq!(queue.len(), waiting.len());
            prop_assert_eq!(queue.tier_seats.iter().sum::<u64>(), queue.seats());
            prop_assert_eq!(queue.seats(), waiting.iter().map(|(.., seats)| u64::from(*seats)).sum::<u64>());
        }
    }
}
