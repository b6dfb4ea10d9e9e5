//! What the admin port shows of overload control, and lets an operator change.

use std::future::{Ready, ready};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get};
use spillway_admission::Steering;

use crate::overload::Overload;

/// What the controllers decided.
pub(super) fn page(overload: Overload) -> impl Fn() -> Ready<String> + Clone + Send + 'static {
    move || ready(overload.page())
}

/// GET says where the ladder stands; PUT takes `auto` or a rung.
pub(super) fn route(overload: Overload) -> MethodRouter {
    get(show).put(change).with_state(overload)
}

async fn show(State(overload): State<Overload>) -> String {
    describe(&overload)
}

async fn change(State(overload): State<Overload>, order: String) -> (StatusCode, String) {
    match order.trim().parse::<Steering>() {
        Ok(steering) => {
            tracing::warn!(?steering, "an operator steers the brownout ladder");
            overload.steer(steering);
            (StatusCode::OK, describe(&overload))
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn describe(overload: &Overload) -> String {
    match overload.steering() {
        Steering::Auto => "the ladder moves by itself\n".to_owned(),
        Steering::Set(rung) => format!("the ladder is held at rung {rung}\n"),
    }
}
