use crate::e16::world::World;
pub(crate) fn print(world: &World) {
    let called = |seq: u64| { let at = world.frontier.partition_point(|(_, f)| *f < seq); world.frontier.get(at).or(world.frontier.last()).unwrap().0.as_secs_f64() };
    for from in (0..720).step_by(30) {
        let polls = &world.polls[from..(from + 30).min(world.polls.len())];
        let peak = polls.iter().max().unwrap();
        let told: Vec<_> = world.told.iter().filter(|(_, r)| r.at >= from as f32 && r.at < from as f32 + 30.0).map(|(i, r)| { let a = called(world.people[*i as usize].seq) - r.at as f64; (a, r.low as f64, r.high as f64) }).filter(|t| t.0 >= 60.0).collect();
        let n = told.len() as f64;
        let below = told.iter().filter(|t| t.0 < t.1).count() as f64 / n;
        let above = told.iter().filter(|t| t.0 > t.2).count() as f64 / n;
        let bias = told.iter().map(|t| ((t.1 + t.2) / 2.0 / t.0).ln()).sum::<f64>() / n;
        let width = told.iter().map(|t| t.2 / t.1.max(1.0)).sum::<f64>() / n;
        let o = world.outlooks[from];
        let claims = world.claims.iter().filter(|c| c.0.as_secs() as usize / 30 == from / 30).count();
        println!("{from:4} polls {:6} peak {peak:6} told {n:7} below {below:.2} above {above:.2} bias {bias:+.3} width {width:.2} low {:.3} high {:.3} stretch {:.2} leaving {:.5} sigma {:.3} f {} claims {claims}", polls.iter().sum::<u32>() / 30, o.0, o.1, o.2, o.3, world.show_up[from], world.frontier[from * 10].1);
    }
}
