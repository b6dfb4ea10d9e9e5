//! Polls of people who wait, against a bare echo: each as many as one processor of the server's can answer.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use spillway_api::v1;
use spillway_client::Client;
use spillway_waiting_room::TICKET_BYTES;

use crate::bench::closed_loop::measure;
use crate::bench::node::process::Node;
use crate::bench::node::sends;
use crate::bench::table::{Row, Target};
use crate::bench::{CALLERS, CONNECTIONS, Options};

/// People in the room.
const WAITING: u64 = 20_000;
/// Nobody is let in while it is measured, and nobody has to compute for his place. As many as like may ask.
const SETTINGS: [(&str, &str); 2] = [
    ("SPILLWAY_CONTROL__ROOM__SIGN_UPS_PER_SECOND", "0.001"),
    ("SPILLWAY_GATEWAY__ROOM__PROOF_OF_WORK", "false"),
];

pub(crate) async fn per_core(options: &Options) -> Result<Row> {
    let floor = sends::echo(options, Bytes::from_static(&[7; TICKET_BYTES])).await?;
    let node = Node::start_with(options, &SETTINGS).await?;
    let tickets: Arc<[Bytes]> = stream::iter(0..WAITING)
        .map(|index| enter(node.people.client(index as usize).clone(), index))
        .buffered(CALLERS)
        .try_collect::<Vec<_>>()
        .await?
        .into();
    let calls: Vec<_> = node.people.clients.iter().map(Client::sign_up).collect();
    let rate = measure(node.server.pid(), CALLERS, options.window(), move |caller, n| {
        let ticket = tickets[(caller as u64 * 313 + n) as usize % tickets.len()].clone();
        let mut calls = calls[caller % CONNECTIONS].clone();
        async move {
            let place = calls.poll(v1::PollRequest { ticket, ..v1::PollRequest::default() }).await?;
            let state = place.into_inner().state;
            ensure!(matches!(state, Some(v1::place::State::Waiting(_))), "not waiting: {state:?}");
            Ok(())
        }
    })
    .await?;
    let (polls, echoes) = (1e6 / rate.cpu_us, 1e6 / floor.cpu_us);
    eprintln!("polls: {:.0}/s, {:.1} us of server cpu each", rate.per_second, rate.cpu_us);
    Ok(Row::ratio("polls of one processor", polls, "1/s", echoes, Target::AtLeast(0.8)))
}

async fn enter(client: Client, index: u64) -> Result<Bytes> {
    let mut device_key = [0; 32];
    device_key[..8].copy_from_slice(&index.to_be_bytes());
    let request = v1::EnterRequest { device_key: Bytes::copy_from_slice(&device_key), work: None };
    let place = client.sign_up().enter(request).await.context("no place")?.into_inner();
    ensure!(!place.ticket.is_empty(), "a puzzle, though none is asked for");
    Ok(place.ticket)
}
