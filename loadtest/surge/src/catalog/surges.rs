//! Profiles of several curves.

use std::time::Duration;

use super::{Values, shapes};
use crate::curve::{Column, Curve, CurveError, signal_2021 as recorded_hours};
use crate::load::{BaseRates, Behaviour, CodeDelay, FAN_OUT, Load, Op, Slow};

type Made = Result<Load, CurveError>;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// In which a gateway that dies drops its connections.
const AT_ONCE: Duration = Duration::from_millis(200);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The same multiples for each operation, at its own base rate.
fn each(ops: &[Op], rates: &BaseRates, multiples: &Curve) -> Made {
    ops.iter()
        .try_fold(Load::default(), |load, op| Ok(load.plus(&Load::one(*op, multiples.times(rates.of(*op))?))))
}

pub(super) fn refugees(values: &Values<'_>, rates: &BaseRates) -> Made {
    let (to, burst) = (values.number("to"), values.number("burst"));
    let (quiet, loud) = (50 * MINUTE, 10 * MINUTE);
    let mut comers = Curve::default().then_ramp(1.0, to, 10 * MINUTE)?;
    for _ in 0..(values.number("hours") as u32) {
        comers = comers.then_step(to, quiet)?.then_step(to * burst, loud)?;
    }
    // Halved every two hours.
    let tail = shapes::smooth(12 * HOUR, |share| 1.0 + (to - 1.0) * (-share * 6.0 * 2_f64.ln()).exp())?;
    let comers = comers.then(&tail);
    let look_ups = Curve::constant(1.0, 3 * MINUTE)?.then(&comers);
    let rest = look_ups.duration() - 6 * MINUTE;
    let sends = Curve::constant(1.0, 6 * MINUTE)?.then_ramp(1.0, 2.0, rest)?;
    Ok(Load::one(Op::SignUp, comers.times(rates.sign_up)?)
        .plus(&Load::one(Op::Discover, look_ups.times(rates.discover)?))
        .plus(&Load::one(Op::Send, sends.times(rates.send)?)))
}

pub(super) fn signal_2021(_: &Values<'_>, rates: &BaseRates) -> Made {
    let hours = recorded_hours(Column::Reconciled);
    let comers = hours
        .iter()
        .try_fold(Curve::default(), |curve, hour| curve.then_step(hour.multiplier * rates.sign_up, HOUR))?;
    let sends = Curve::default().then_ramp(rates.send, 2.0 * rates.send, comers.duration())?;
    Ok(Load::one(Op::SignUp, comers).plus(&Load::one(Op::Send, sends)))
}

pub(super) fn ban_wave(values: &Values<'_>, rates: &BaseRates) -> Made {
    let length = DAY.mul_f64(values.number("days"));
    let wave = Curve::constant(1.0, 6 * HOUR)?.then_step(values.number("by"), length)?;
    each(&[Op::SignUp, Op::Send, Op::Discover], rates, &wave)
}

pub(super) fn celebrity(values: &Values<'_>, rates: &BaseRates) -> Made {
    let to = values.number("to");
    let comers = Curve::constant(1.0, 3 * MINUTE)?
        .then_ramp(1.0, to, values.time("within"))?
        .then_step(to, 5 * MINUTE)?
        .then(&shapes::smooth(20 * MINUTE, |share| 1.0 + (to - 1.0) * (-share * 4.0).exp())?);
    let behaviour = Behaviour {
        code_delay: Some(CodeDelay { median: values.time("code-delay"), sigma: 0.6 }),
        resend_share: values.number("resend"),
        ..Behaviour::default()
    };
    Ok(Load::one(Op::SignUp, comers.times(rates.sign_up)?).with(behaviour))
}

pub(super) fn midnight(values: &Values<'_>, rates: &BaseRates) -> Made {
    let (to, hold) = (values.number("to"), values.time("hold"));
    let sends = Curve::constant(1.0, seconds(30))?.then_step(to, hold)?.then_step(1.0, seconds(30))?;
    // A message to a group is several, of which there are so many that a tenth of all are to groups.
    let to_groups = to / 10.0 / FAN_OUT as f64;
    let groups = Curve::constant(0.0, seconds(30))?.then_step(to_groups, hold)?;
    Ok(Load::one(Op::Send, sends.times(rates.send)?)
        .plus(&Load::one(Op::FanOut, groups.times(rates.send)?))
        .plus(&Load::one(Op::SignUp, Curve::constant(rates.sign_up, sends.duration())?)))
}

pub(super) fn broadcast(values: &Values<'_>, rates: &BaseRates) -> Made {
    let (share, within) = (values.number("share"), values.time("within"));
    let (before, after) = (values.time("before"), values.time("after"));
    let wakes = Curve::constant(0.0, before)?
        .then_step(share / within.as_secs_f64() * rates.offline, within)?
        .lasting(before + within + after);
    let behaviour = Behaviour { offline_share: values.number("offline"), ..Behaviour::default() };
    Ok(Load::one(Op::Wake, wakes).with(behaviour))
}

pub(super) fn reconnect_storm(values: &Values<'_>, rates: &BaseRates) -> Made {
    let share = values.number("share");
    let drops = Curve::constant(0.0, seconds(5))?
        .then_step(share / AT_ONCE.as_secs_f64() * rates.people, AT_ONCE)?
        .lasting(seconds(5) + values.time("after"));
    Ok(Load::one(Op::Reconnect, drops))
}

pub(super) fn rolling_restart(values: &Values<'_>, rates: &BaseRates) -> Made {
    let (parts, every) = (values.number("parts"), values.time("every"));
    let part = Curve::constant(rates.people / parts / AT_ONCE.as_secs_f64(), AT_ONCE)?;
    let part = part.lasting(every.max(AT_ONCE));
    Ok(Load::one(
        Op::Reconnect,
        (0..parts as u32).fold(Curve::constant(0.0, seconds(5))?, |all, _| all.then(&part)),
    ))
}

pub(super) fn flap(values: &Values<'_>, rates: &BaseRates) -> Made {
    // Once in 10 to 40 s each, of which half is spent away.
    const CYCLE_S: f64 = 25.0;
    let share = values.number("share");
    let behaviour =
        Behaviour { flapping_share: share, away: Some((seconds(5), seconds(20))), ..Behaviour::default() };
    let curve = Curve::constant(share / CYCLE_S * rates.people, values.time("for"))?;
    Ok(Load::one(Op::Flap, curve).with(behaviour))
}

pub(super) fn retry_amplify(values: &Values<'_>, rates: &BaseRates) -> Made {
    let (before, slow, after) = (values.time("before"), values.time("for"), values.time("after"));
    let behaviour = Behaviour {
        slow: vec![Slow { from: before, to: before + slow, by: values.time("by") }],
        send_patience: Some(values.time("patience")),
        ..Behaviour::default()
    };
    Ok(Load::one(Op::Send, Curve::constant(rates.send, before + slow + after)?).with(behaviour))
}

pub(super) fn thundering_otp(values: &Values<'_>, rates: &BaseRates) -> Made {
    let comers = Curve::constant(1.0, seconds(10))?
        .then_step(values.number("to"), values.time("hold"))?
        .then_step(1.0, seconds(30))?;
    let behaviour = Behaviour {
        type_after: Some((seconds(10), seconds(20))),
        wrong_code_share: values.number("wrong"),
        ..Behaviour::default()
    };
    Ok(Load::one(Op::SignUp, comers.times(rates.sign_up)?).with(behaviour))
}

pub(super) fn diurnal(values: &Values<'_>, rates: &BaseRates) -> Made {
    each(&[Op::SignUp, Op::Send], rates, &shapes::day_and_night(values)?)
}

pub(super) fn soak(values: &Values<'_>, rates: &BaseRates) -> Made {
    each(&[Op::SignUp, Op::Send, Op::Discover], rates, &Curve::constant(1.0, values.time("for"))?)
}
