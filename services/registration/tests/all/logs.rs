use std::io;
use std::sync::{Arc, Mutex};

use spillway_api::internal::v1 as internal;
use spillway_api::v1;
use tracing_subscriber::fmt::MakeWriter;

use crate::scripted::{Scripted, failed};
use crate::world::{NUMBER, OTHER_NUMBER, World, config, next_call};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// From the first SMS to the deletion, with failures on the way, at the most talkative level.
#[tokio::test]
async fn no_log_line_holds_a_number_a_code_or_a_credential() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(captured.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    provider.fail_next([failed()]);
    let node = world.node(config(), provider);
    world.run_clock(&node.tasks);
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    next_call(&mut calls).await;
    let wrong = if code == "918273" { "918274" } else { "918273" };
    node.check(&session, wrong).await.ok();
    node.resend(&session, v1::Transport::Sms).await.unwrap_err();
    node.check(&session, &code).await.unwrap();
    let enrolled = node.create(&session).await.unwrap();
    node.authenticate(&enrolled.credential).await.unwrap();
    node.authenticate(&format!("{}x", enrolled.credential)).await.unwrap_err();
    let start = internal::StartLinkRequest { caller: enrolled.device.clone() };
    let link_token = node.client.clone().start_link(start).await.unwrap().into_inner().link_token;
    let other = node.prove(OTHER_NUMBER, &mut calls).await;
    let change = internal::ChangeNumberRequest {
        caller: enrolled.device.clone(),
        session_id: other.session_id.clone(),
    };
    node.client.clone().change_number(change).await.unwrap();
    let delete = internal::DeleteAccountRequest { caller: enrolled.device.clone() };
    node.client.clone().delete_account(delete).await.unwrap();
    node.stop().await;

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the provider has begun to fail"), "the log was captured: {log}");
    let secret = enrolled.credential.rsplit('.').next().unwrap();
    let digits = |number: &'static str| number.strip_prefix('+').unwrap();
    for hidden in [digits(NUMBER), digits(OTHER_NUMBER), &code, wrong, secret, &link_token] {
        assert!(!log.contains(hidden), "a log line holds {hidden}");
    }
    assert!(!log.contains(&format!("{:?}", &session.session_id[..8])), "a log line holds a session's secret");
}
