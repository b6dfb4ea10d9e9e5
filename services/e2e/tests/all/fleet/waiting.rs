use super::gate::Gate;
use super::member::Member;
use super::site::Site;

/// The ways to servers that are not there yet.
struct Gates {
    nats: Gate,
    cql: Gate,
}

impl Gates {
    fn closed(site: &Site) -> Self {
        Self { nats: Gate::closed(&site.nats), cql: Gate::closed(&site.cql) }
    }

    fn start(&self, site: &Site, role: &str) -> Member {
        let servers = format!("[\"nats://{}\"]", self.nats.address);
        let points = format!("[{:?}]", self.cql.address);
        let settings = [("BUS__NATS__SERVERS", &*servers), ("STORE__CQL__CONTACT_POINTS", &points)];
        Member::start(site, &["--roles", role], &settings)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_that_is_there_first_waits_says_for_what_and_comes_up() {
    let site = Site::with_schema("waiting-mailbox").await;
    let mut gates = Gates::closed(&site);
    let mut mailbox = gates.start(&site, "mailbox");
    mailbox.until_it_says("store", &["no database answers", &gates.cql.address]).await;
    mailbox.until_it_says("bus requests", &["not connected to NATS"]).await;
    gates.cql.open();
    mailbox.until_it_says("bus calls", &["not connected to NATS"]).await;
    gates.nats.open();
    mailbox.until_ready().await;
    assert_eq!(mailbox.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_there_first_waits_for_the_bus_alone() {
    let site = Site::new("waiting-gateway").await;
    let mut gates = Gates::closed(&site);
    let mut gateway = gates.start(&site, "gateway");
    gateway.until_it_says("bus requests", &["not connected to NATS"]).await;
    gates.nats.open();
    gateway.until_ready().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_can_be_told_to_end() {
    let site = Site::new("waiting-end").await;
    let gates = Gates::closed(&site);
    for (role, component) in [("mailbox", "store"), ("gateway", "bus requests"), ("control", "store")] {
        let mut member = gates.start(&site, role);
        member.until_it_says(component, &[]).await;
        assert_eq!(member.terminate().await.code(), Some(0), "{role}");
    }
}

/// As the first process of a deployment, which may start before the hook that makes the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_waits_for_the_schema() {
    let site = Site::new("waiting-schema").await;
    let mut directory = Member::start(&site, &["--roles=directory"], &[]);
    directory.until_it_says("store", &["no schema", "spillway schema apply", &site.prefix]).await;
    site.apply_schema().await;
    directory.until_ready().await;
    assert_eq!(directory.terminate().await.code(), Some(0));
}
