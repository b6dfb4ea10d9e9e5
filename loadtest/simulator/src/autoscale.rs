//! Hours of a surge at one role's pods, and who adds pods to them: an autoscaler by processors, by demand, or KEDA with a burst deployment.
//!
//! The engine of [`run`](crate::run) plays each call and takes seconds for a minute of it. What autoscalers do takes hours, and
//! what matters to them is a rate, so here a step is a second and calls are a fluid: in each second the pods that serve share evenly
//! what is offered, serve what fits, and refuse the rest. What happens within a second is not seen here.
//!
//! [`Curve`] says what is offered, [`Limits`] what of it a pod serves; the `fleet` starts pods on the nodes of a cluster, with documented delays;
//! `views` are what of all that an autoscaler sees, and how late. [`Hpa`] is Kubernetes' own arithmetic. [`Kind`] lists who is compared,
//! [`seconds`] plays one of them, [`Figures`] are what came of it, [`Comparison`] of all.
//!
//! What the model leaves out: sessions that stay at the pods they are at, retries of who was refused, the time in which a new pod measures
//! what it can do, other roles, and the price of a node.

mod burst;
mod cluster;
mod compare;
mod curve;
mod figures;
mod fleet;
mod gate;
mod hpa;
mod scaler;
mod setting;
mod views;
mod world;

pub use compare::{Cluster, Comparison, DRAWS, Order};
pub use curve::Curve;
pub use figures::Figures;
pub use fleet::Replicas;
pub use gate::{Limits, Second};
pub use hpa::{Behavior, Hpa, Policy, Rules, Select};
pub use scaler::Kind;
pub use setting::{Delays, Setting, Span};
pub use world::{State, seconds};
