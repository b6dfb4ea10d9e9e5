//! The first question of a new user, about fifty contacts of whom one has an account, against a bare echo.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::bench::closed_loop::measure;
use crate::bench::node::process::Node;
use crate::bench::node::sends;
use crate::bench::table::{Row, Target};
use crate::bench::{CALLERS, CONNECTIONS, Options};

const CONTACTS: u64 = 50;
const REGISTERED: u64 = 500;
/// Of people who have no account, to ask about.
const STRANGERS: u64 = 1_000_000;
/// What fifty numbers take in a request: 13 characters each, a tag and a length.
const REQUEST_BYTES: usize = CONTACTS as usize * 15;
/// Everybody asks about far more people than a person knows. The limit is still computed.
const SETTINGS: [(&str, &str); 1] = [("SPILLWAY_QUOTAS__DISCOVER__SHADOW", "true")];

pub(crate) async fn strangers(options: &Options) -> Result<Row> {
    let floor = sends::echo(options, Bytes::from(vec![7; REQUEST_BYTES])).await?;
    let node = Node::start_with(options, &SETTINGS).await?;
    let askers = Arc::new(node.people.sign_up(0..CALLERS as u64).await?);
    node.people.sign_up(CALLERS as u64..REGISTERED).await?;
    let (clients, population) = (node.people.clients.clone(), node.people.population);
    let rate = measure(node.server.pid(), CALLERS, options.window(), move |caller, n| {
        let (client, askers) = (clients[caller % CONNECTIONS].clone(), Arc::clone(&askers));
        async move {
            let asked = caller as u64 * 7_919 + n * (CONTACTS - 1);
            let mut numbers = vec![population.person(asked % REGISTERED).number];
            numbers.extend(
                (1..CONTACTS).map(|n| population.person(REGISTERED + (asked + n) % STRANGERS).number),
            );
            let matches = client.discover(&askers[caller].identity, numbers).await?;
            ensure!(matches.len() == 1, "one of them has an account, and {} were found", matches.len());
            Ok(())
        }
    })
    .await?;
    eprintln!("discovery of {CONTACTS}: {:.0}/s, {:.1} us of server cpu each", rate.per_second, rate.cpu_us);
    Ok(Row::ratio("discovery of 50 contacts", rate.per_second, "1/s", floor.per_second, Target::AtLeast(0.4)))
}
