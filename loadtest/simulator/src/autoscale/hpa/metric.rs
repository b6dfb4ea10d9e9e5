//! How many replicas a metric asks for, in each of the ways that Kubernetes has.

/// Processors of the pods of a deployment, as a HorizontalPodAutoscaler sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Processors {
    /// Pods whose use counts, and the mean of their uses over what they request.
    pub(crate) measured: u32,
    pub(crate) use_of_request: f64,
    /// Pods that are not ready yet, or are too young for their use to count.
    pub(crate) unready: u32,
    /// Pods that count and of which no use is known.
    pub(crate) missing: u32,
}

/// `Resource` with `Utilization`, both in shares. `None`: nothing is known of any pod.
pub(crate) fn utilization(current: u32, target: f64, pods: Processors, tolerance: f64) -> Option<u32> {
    if pods.measured == 0 {
        return None;
    }
    // Kubernetes counts in whole per cents, rounded down.
    let over_target = |sum: f64, of: u32| (100.0 * sum / f64::from(of) + 1e-9).floor() / (100.0 * target);
    let used = pods.use_of_request * f64::from(pods.measured);
    let ratio = over_target(used, pods.measured);
    let with_unready = pods.unready > 0 && ratio > 1.0;
    if !with_unready && pods.missing == 0 {
        return Some(if within(ratio, tolerance) { current } else { ceil(ratio * f64::from(pods.measured)) });
    }
    // Who is not known uses all of it when the others say down, and nothing when they say up.
    let assumed = if ratio < 1.0 { f64::from(pods.missing) * target.max(1.0) } else { 0.0 };
    let counted = pods.measured + pods.missing + if with_unready { pods.unready } else { 0 };
    let again = over_target(used + assumed, counted);
    if within(again, tolerance) || (ratio < 1.0) != (again < 1.0) {
        return Some(current);
    }
    let wish = ceil(again * f64::from(counted));
    let turns = (again < 1.0 && wish > current) || (again > 1.0 && wish < current);
    Some(if turns { current } else { wish })
}

/// `External` with `Value`: over the target, times the pods that are ready.
pub(crate) fn external_value(current: u32, ready: u32, value: f64, target: f64, tolerance: f64) -> u32 {
    let ratio = value / target;
    if within(ratio, tolerance) { current } else { ceil(ratio * f64::from(ready)) }
}

/// `External` with `AverageValue`, which is what KEDA makes of its triggers: the value is shared by the pods that there are.
pub(crate) fn external_average(pods: u32, value: f64, target: f64, tolerance: f64) -> u32 {
    let ratio = value / (target * f64::from(pods));
    if within(ratio, tolerance) { pods } else { ceil(value / target) }
}

/// Of several metrics the one that asks for most. The inner `None` is one that is not known: then no pod is taken away.
pub(crate) fn highest(current: u32, wishes: &[Option<Option<u32>>]) -> Option<u32> {
    let asked = || wishes.iter().flatten();
    let highest = asked().flatten().max().copied()?;
    let unknown = asked().any(Option::is_none);
    (!unknown || highest >= current).then_some(highest)
}

fn within(ratio: f64, tolerance: f64) -> bool {
    (1.0 - ratio).abs() <= tolerance
}

/// A quotient of two numbers that should be whole is not always.
fn ceil(pods: f64) -> u32 {
    (pods - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(measured: u32, use_of_request: f64) -> Processors {
        Processors { measured, use_of_request, ..Processors::default() }
    }

    /// "200m measured, 100m wanted: doubled, since 200.0 / 100.0 == 2.0. 50m: halved." (HorizontalPodAutoscaler, "Algorithm details")
    #[test]
    fn the_example_of_the_documentation() {
        assert_eq!(utilization(3, 0.5, ready(3, 1.0), 0.1), Some(6));
        assert_eq!(utilization(4, 0.5, ready(4, 0.25), 0.1), Some(2));
    }

    #[test]
    fn a_tenth_beside_the_target_is_left_alone() {
        assert_eq!(utilization(10, 0.6, ready(10, 0.65), 0.1), Some(10));
        assert_eq!(utilization(10, 0.6, ready(10, 0.55), 0.1), Some(10));
        assert_eq!(utilization(10, 0.6, ready(10, 0.67), 0.1), Some(12));
        assert_eq!(external_value(10, 10, 0.76, 0.7, 0.1), 10);
        assert_eq!(external_value(10, 10, 0.78, 0.7, 0.1), 12);
        assert_eq!(external_average(10, 7.6, 0.7, 0.1), 10);
    }

    /// Full processors ask for 1.67 times the pods, however much more is offered: that is all they can say.
    #[test]
    fn full_processors_say_the_same_of_twice_and_of_ten_times() {
        assert_eq!(utilization(9, 0.6, ready(9, 1.0), 0.1), Some(15));
    }

    #[test]
    fn pods_that_start_count_as_idle_on_the_way_up_and_not_at_all_on_the_way_down() {
        let starting = Processors { unready: 6, ..ready(9, 1.0) };
        // 9 x 100 % over 15 pods are 60 %: enough have been ordered.
        assert_eq!(utilization(15, 0.6, starting, 0.1), Some(15));
        let idle = Processors { unready: 6, ..ready(9, 0.2) };
        assert_eq!(utilization(15, 0.6, idle, 0.1), Some(3));
    }

    #[test]
    fn pods_of_which_nothing_is_known_are_taken_for_full_on_the_way_down() {
        let unknown = Processors { missing: 5, ..ready(5, 0.2) };
        // (5 x 20 % + 5 x 100 %) / 10 are 60 %.
        assert_eq!(utilization(10, 0.6, unknown, 0.1), Some(10));
        assert_eq!(utilization(10, 0.6, Processors { missing: 1, ..Processors::default() }, 0.1), None);
    }

    #[test]
    fn the_metric_that_asks_for_most_counts() {
        assert_eq!(highest(9, &[Some(Some(12)), Some(Some(7))]), Some(12));
        assert_eq!(highest(9, &[Some(Some(7)), None]), Some(7));
        assert_eq!(highest(9, &[Some(Some(7)), Some(None)]), None);
        assert_eq!(highest(9, &[Some(Some(12)), Some(None)]), Some(12));
        assert_eq!(highest(9, &[Some(None), None]), None);
    }

    #[test]
    fn demand_asks_for_all_at_once() {
        // Ten times the capacity of two pods: as in services/control/src/scaler/demand.rs.
        assert_eq!(external_average(2, 20.0, 0.7, 0.1), 29);
        assert_eq!(external_value(2, 2, 10.0, 0.7, 0.1), 29);
        // With the value of before and the pods of now it asks for too many.
        assert_eq!(external_value(29, 29, 10.0, 0.7, 0.1), 415);
    }
}
