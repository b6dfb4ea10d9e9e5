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

async fn show(State(overload): State<Overload>) -> (StatusCode, String) {
    match overload.steering() {
        Some(Steering::Auto) => (StatusCode::OK, "the ladder moves by itself\n".to_owned()),
        Some(Steering::Set(rung)) => (StatusCode::OK, format!("the ladder is held at rung {rung}\n")),
        None => {
            (StatusCode::NOT_FOUND, "no gateway runs in this process: ask those that have one\n".to_owned())
        }
    }
}

async fn change(State(overload): State<Overload>, order: String) -> (StatusCode, String) {
    match order.trim().parse::<Steering>() {
        Ok(steering) => {
            if overload.steer(steering) {
                tracing::warn!(?steering, "an operator steers the brownout ladder");
            }
            show(State(overload)).await
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
