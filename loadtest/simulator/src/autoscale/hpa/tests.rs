use proptest::prelude::*;

use super::*;

fn kubernetes() -> Hpa {
    Hpa::new(1, 100, Behavior::kubernetes())
}

/// Every 15 seconds a wish: what becomes of it.
fn play(hpa: &mut Hpa, mut current: u32, wishes: &[u32]) -> Vec<u32> {
    let step = |(sync, wish): (usize, &u32)| {
        current = hpa.scale(15 * sync as u64, current, Some(*wish));
        current
    };
    wishes.iter().enumerate().map(step).collect()
}

/// The larger of 100 % and 4 pods, each 15 seconds.
#[test]
fn kubernetes_doubles() {
    assert_eq!(play(&mut kubernetes(), 1, &[90; 7]), [5, 10, 20, 40, 80, 90, 90]);
}

#[test]
fn the_chart_is_there_at_once() {
    let mut hpa = Hpa::new(9, 150, Behavior::chart());
    assert_eq!(play(&mut hpa, 9, &[70, 200]), [70, 150]);
}

#[test]
fn down_only_to_the_highest_wish_of_five_minutes() {
    let mut wishes = vec![10, 50];
    wishes.extend([10; 20]);
    let replicas = play(&mut kubernetes(), 50, &wishes);
    // From 15 s on until 300 s later.
    assert_eq!(replicas.iter().filter(|replicas| **replicas == 50).count(), 21, "{replicas:?}");
    assert_eq!(replicas.last(), Some(&10));
    // What it found counts as a wish of its first look.
    assert_eq!(play(&mut kubernetes(), 50, &[10; 21])[18..], [50, 50, 10]);
}

/// The documentation's example: of 80 replicas 8 go, of 72 then 7.2, which is rounded up to 8.
#[test]
fn a_tenth_a_minute() {
    let mut hpa = Hpa::new(
        1,
        150,
        Behavior { down: Rules { window_s: 0, ..Behavior::chart().down }, ..Behavior::chart() },
    );
    let replicas = play(&mut hpa, 80, &[10; 9]);
    assert_eq!(replicas, [72, 72, 72, 72, 64, 64, 64, 64, 57]);
}

/// `selectPolicy: Min` and `Disabled`, and a window on the way up, of the documentation's list.
#[test]
fn other_behaviors() {
    let rules = |select| Rules { select, ..Behavior::kubernetes().up };
    let mut least = Hpa::new(1, 100, Behavior { up: rules(Select::Min), ..Behavior::kubernetes() });
    assert_eq!(play(&mut least, 10, &[90; 3]), [14, 18, 22]);
    let mut never = Hpa::new(1, 100, Behavior { up: rules(Select::Disabled), ..Behavior::kubernetes() });
    assert_eq!(play(&mut never, 10, &[90; 3]), [10; 3]);
    let slow = Rules { window_s: 60, ..Behavior::kubernetes().up };
    let mut slow = Hpa::new(1, 100, Behavior { up: slow, ..Behavior::kubernetes() });
    assert_eq!(play(&mut slow, 10, &[10, 20, 20, 20, 20]), [10, 10, 10, 10, 20]);
}

#[test]
fn what_is_not_known_changes_nothing_and_none_stays_none() {
    let mut hpa = kubernetes();
    assert_eq!(hpa.scale(0, 7, None), 7);
    assert_eq!(hpa.scale(15, 0, Some(9)), 0);
    assert_eq!(hpa.scale(30, 120, None), 100);
}

proptest! {
    /// Whatever is wished: within the bounds, and never faster than a policy allows.
    #[test]
    fn bounds_and_policies_hold(
        wishes in proptest::collection::vec(0_u32..500, 1..200),
        first in 3_u32..60,
        chart in any::<bool>(),
    ) {
        let behavior = if chart { Behavior::chart() } else { Behavior::kubernetes() };
        let mut hpa = Hpa::new(3, 60, behavior);
        let replicas = play(&mut hpa, first, &wishes);
        let mut before = first;
        for (now, wish) in replicas.into_iter().zip(wishes) {
            prop_assert!((3..=60).contains(&now));
            let most = if chart { (10 * before).max(before + 50) } else { (2 * before).max(before + 4) };
            prop_assert!(now <= most);
            // Never beyond what was wished for, but for the bounds.
            prop_assert!(now <= before.max(wish.clamp(3, 60)));
            prop_assert!(now >= before.min(wish.clamp(3, 60)));
            before = now;
        }
    }
}
