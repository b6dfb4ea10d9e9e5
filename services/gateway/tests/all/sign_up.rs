use spillway_api::{Reason, v1};
use tonic::Response;

use super::support::{Node, assert_refused, authorized, message, refusal};

#[tokio::test(start_paused = true)]
async fn a_new_account_can_send_with_the_token_that_it_got() {
    let node = Node::start();
    let receiver = node.account(1);
    let created =
        node.sign_up().create_account(v1::CreateAccountRequest::default()).await.unwrap().into_inner();
    assert_eq!((created.device_id, created.account_id.len()), (1, 16));
    let token = format!("Bearer {}", created.token);
    node.messages().send(authorized(message(&receiver, "x"), &token)).await.unwrap();
    assert_eq!(node.registration.state().authenticates, 0);
}

#[tokio::test(start_paused = true)]
async fn starts_are_limited_by_number_before_they_cost_anything() {
    let node = Node::start();
    let start = async |number: &str| {
        let request = v1::StartVerificationRequest { number: number.to_owned(), ..Default::default() };
        node.sign_up().start_verification(request).await.map(Response::into_inner).map_err(refusal)
    };
    assert_refused(start("030 123456").await, Reason::InvalidArgument);
    for _ in 0..6 {
        start("+4930123456").await.unwrap();
    }
    let refused = assert_refused(start("+4930123456").await, Reason::Quota);
    assert!(refused.retry_after.is_some());
    start("+4930123457").await.unwrap();
    assert_eq!(node.registration.state().starts, 7);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_registration_reaches_the_device_as_it_is() {
    let node = Node::start();
    let request = v1::CheckCodeRequest { session_id: vec![7; 32].into(), ..Default::default() };
    let outcome = node.sign_up().check_code(request).await.map_err(refusal);
    let refused = assert_refused(outcome, Reason::ChecksExhausted);
    assert_eq!(refused.message, "no tries are left");
}
