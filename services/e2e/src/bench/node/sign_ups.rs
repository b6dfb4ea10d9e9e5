//! Complete sign-ups: start, check, create, with a provider that hands codes over at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::process::Node;
use crate::bench::closed_loop::{Rate, measure};
use crate::bench::people::sign_up;
use crate::bench::table::{Row, Target};
use crate::bench::{CALLERS, CONNECTIONS, Options};

/// A sign-up is three calls, so the floor is a third of the echo's rate.
const CALLS: f64 = 3.0;

pub(crate) async fn complete(options: &Options, echo: &Rate) -> Result<Row> {
    let node = Node::start(options).await?;
    let people = &node.people;
    let (clients, phones, population) = (people.clients.clone(), people.phones.clone(), people.population);
    let next = Arc::new(AtomicU64::new(0));
    let rate = measure(node.server.pid(), CALLERS, options.window(), move |caller, _| {
        let (client, phones, next) = (clients[caller % CONNECTIONS].clone(), phones.clone(), next.clone());
        async move {
            let index = next.fetch_add(1, Ordering::Relaxed);
            sign_up(client, population, phones, index).await.map(|_| ())
        }
    })
    .await?;
    eprintln!("complete sign-ups: {:.0}/s, {:.0} us of server cpu each", rate.per_second, rate.cpu_us);
    Ok(Row::ratio(
        "complete sign-ups",
        rate.per_second,
        "1/s",
        echo.per_second / CALLS,
        Target::AtLeast(0.15),
    ))
}
