//! SMPP over TLS, to a centre whose certificate comes from an authority of its own.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use spillway_chassis::Tasks;
use spillway_registration::provider::{MessageIds, ProviderError, Smpp, SmppConfig, SmppConfigError};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::smpp::{carrier, quick, receipts, send};
use crate::smsc::{PASSWORD, Smsc};
use crate::world::{NUMBER, PATIENCE, World, is_queue_empty, until};

/// A certificate that is its own authority.
struct Identity {
    acceptor: TlsAcceptor,
    roots: PathBuf,
    _folder: TempDir,
}

impl Identity {
    fn of(name: &str) -> Self {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let folder = TempDir::new().unwrap();
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, pair.cert.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), roots, _folder: folder }
    }
}

fn settings(smsc: &Smsc, roots: Option<PathBuf>) -> SmppConfig {
    SmppConfig { tls: true, tls_roots: roots, message_ids: MessageIds::HexThenDecimal, ..smsc.config() }
}

#[tokio::test]
async fn a_code_goes_out_over_tls_and_its_receipt_comes_back() {
    let (world, tasks, identity) = (World::new(), Tasks::new(), Identity::of("127.0.0.1"));
    let mut smsc = Smsc::start_tls(identity.acceptor.clone()).await;
    let smpp = Smpp::new(&settings(&smsc, Some(identity.roots.clone())), &tasks).unwrap();
    let node = world.node_of(quick(), vec![carrier(smpp)]);
    let session = node.start(NUMBER).await;
    let taken = tokio::time::timeout(PATIENCE, smsc.taken.recv()).await.unwrap().unwrap();
    let code = taken.text.strip_prefix("Your code is ").unwrap();
    until("it is recorded", || is_queue_empty(&world)).await;
    assert!(node.check(&session, code).await.unwrap().verified);
    until("the receipt has come", || async { receipts(&node, "arrived") == 1 }).await;
    assert_eq!((smsc.binds(), smsc.strangers()), (1, 0));
    tasks.close_and_wait(PATIENCE).await.unwrap();
    until("it has said good-bye", || async { smsc.goodbyes() == 1 }).await;
    node.stop().await;
    smsc.stop().await;
}

/// The password goes to nobody who is not who he should be, and never in the clear.
#[tokio::test]
async fn a_centre_that_cannot_be_trusted_gets_no_bind() {
    let tasks = Tasks::new();
    let (right, named_otherwise, other) =
        (Identity::of("127.0.0.1"), Identity::of("smsc.example"), Identity::of("127.0.0.1"));
    for (what, centre, trusted) in [
        ("of another authority", &right, Some(&other)),
        ("of no public authority", &right, None),
        ("of another name", &named_otherwise, Some(&named_otherwise)),
    ] {
        let smsc = Smsc::start_tls(centre.acceptor.clone()).await;
        let roots = trusted.map(|identity| identity.roots.clone());
        let smpp = Smpp::new(&settings(&smsc, roots), &tasks).unwrap();
        let error = send(&smpp).await.unwrap_err();
        assert!(matches!(error, ProviderError::Failed(_)), "{what}: {error:?}");
        assert!(!format!("{error:?} {error}").contains(PASSWORD));
        until("its certificate has been refused", || async { smsc.strangers() > 0 }).await;
        assert_eq!((smsc.binds(), smsc.asked()), (0, 0), "{what}");
        smsc.stop().await;
    }
    // A centre without TLS: what it hears is no bind.
    let plain = Smsc::start().await;
    let smpp = Smpp::new(&settings(&plain, Some(right.roots.clone())), &tasks).unwrap();
    assert!(matches!(send(&smpp).await, Err(ProviderError::Failed(_))));
    assert_eq!(plain.binds(), 0);
    tasks.close_and_wait(PATIENCE).await.unwrap();
    plain.stop().await;
}

#[tokio::test]
async fn a_file_of_roots_that_cannot_be_used_is_named_at_the_start() {
    let (tasks, folder) = (Tasks::new(), TempDir::new().unwrap());
    let smsc = Smsc::start().await;
    let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for path in [missing, empty] {
        let error = Smpp::new(&settings(&smsc, Some(path.clone())), &tasks).unwrap_err();
        let SmppConfigError::Tls(error) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
    smsc.stop().await;
}
