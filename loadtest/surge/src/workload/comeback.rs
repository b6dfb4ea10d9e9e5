//! When a device that lost its connection tries to come back.

use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::World;

/// The first try is spread over this, so that all who were lost together do not come together.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// And the others are spaced as gRPC's connection backoff is (grpc/doc/connection-backoff.md).
const BACKOFF: Duration = Duration::from_secs(1);
const GROWTH: f64 = 1.6;
const JITTER: f64 = 0.2;
const BACKOFF_MAX: Duration = Duration::from_secs(120);

/// The pauses of one way back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Comeback {
    tries: u32,
}

impl Comeback {
    /// Waits until the next try is due. False: the run was over before.
    pub(crate) async fn is_due(&mut self, world: &World) -> bool {
        let pause = self.pause(&mut rand::rng());
        tokio::select! {
            () = world.over() => false,
            () = sleep(pause) => true,
        }
    }

    fn pause(&mut self, random: &mut impl Rng) -> Duration {
        let tries = self.tries;
        self.tries += 1;
        if tries == 0 {
            return FIRST_WITHIN.mul_f64(random.random());
        }
        let grown = GROWTH.powi(i32::try_from(tries - 1).unwrap_or(i32::MAX));
        let pause = BACKOFF.as_secs_f64() * grown;
        let jitter = 1.0 + JITTER * (2.0 * random.random::<f64>() - 1.0);
        Duration::from_secs_f64(pause.min(BACKOFF_MAX.as_secs_f64()) * jitter)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn pauses_grow_to_two_minutes_and_are_never_the_same() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut comeback = Comeback::default();
        let pauses: Vec<_> = (0..20).map(|_| comeback.pause(&mut random).as_secs_f64()).collect();
        assert!(pauses[0] < 1.0, "{pauses:?}");
        assert!((0.8..1.2).contains(&pauses[1]) && (1.28..1.92).contains(&pauses[2]), "{pauses:?}");
        assert!((96.0..144.0).contains(&pauses[19]), "{pauses:?}");
        let another = Comeback::default().pause(&mut random);
        assert_ne!(another.as_secs_f64(), pauses[0]);
    }
}
