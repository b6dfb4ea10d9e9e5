//! From what a fleet consists of to how each process is started.

use std::fs;
use std::net::SocketAddr;

use super::{Description, FleetError, Folder, Preparation};
use crate::cache::Cache;
use crate::node::{NodeKind, NodePlan, Probe};
use crate::ports::Ports;
use crate::process::Launch;
use crate::roles::{self, Common, Listens, Role};
use crate::spec::{BackEnd, FleetSpec};

/// A role waits for its back ends, which are there, and for the lease of the last holder.
const READY_MAX_S: u64 = 60;
/// A gateway spreads the migration of its sessions over some seconds; then calls end.
const STOP_MAX_S: u64 = 40;
/// Copies beyond this cost and protect nothing that Spillway promises.
const REPLICATION_MAX: usize = 3;

/// Obtains the servers, chooses ports and writes every file of settings.
pub(super) fn plan(spec: FleetSpec, folder: &Folder) -> Result<Description, FleetError> {
    let file_error = |source| FleetError::File { path: folder.path().to_owned(), source };
    let cache = Cache::at(&spec.cache);
    cache.preflight(matches!(spec.nats, BackEnd::Own(_)), matches!(spec.cassandra, BackEnd::Own(_)))?;
    folder.make().map_err(file_error)?;
    let mut ports = spec.first_port.map_or_else(Ports::anywhere, Ports::from);
    let mut nodes = Vec::new();
    let nats = match &spec.nats {
        BackEnd::None => Vec::new(),
        BackEnd::Existing(addresses) => addresses.clone(),
        BackEnd::Own(own) => {
            let binary = cache.fetch_nats()?;
            let plans = own.plan(folder, &binary, &mut ports).map_err(file_error)?;
            endpoints(&mut nodes, plans, "nats")
        }
    };
    let cql = match &spec.cassandra {
        BackEnd::None => Vec::new(),
        BackEnd::Existing(addresses) => addresses.clone(),
        BackEnd::Own(own) => {
            let jars = cache.fetch_cassandra()?;
            let plans = own.plan(folder, &jars, &mut ports).map_err(file_error)?;
            endpoints(&mut nodes, plans, "cql")
        }
    };
    let copies = u8::try_from(cql.len().clamp(1, REPLICATION_MAX)).unwrap_or(1);
    let common = Common {
        replication: spec.replication.unwrap_or(copies),
        secrets: folder.secrets(),
        nats: nats.clone(),
        cql: cql.clone(),
    };
    for role in Role::ALL {
        for number in 1..=spec.processes(role) {
            nodes.push(process(&spec, folder, &common, &mut ports, role, number)?);
        }
    }
    let prepare = if spec.has_roles() { preparations(&spec, folder, &nodes) } else { Vec::new() };
    Ok(Description { spec, nats, cql, nodes, prepare })
}

fn endpoints(nodes: &mut Vec<NodePlan>, plans: Vec<NodePlan>, purpose: &str) -> Vec<SocketAddr> {
    let addresses = plans.iter().filter_map(|plan| plan.endpoints.get(purpose).copied()).collect();
    nodes.extend(plans);
    addresses
}

fn process(
    spec: &FleetSpec,
    folder: &Folder,
    common: &Common,
    ports: &mut Ports,
    role: Role,
    number: u8,
) -> Result<NodePlan, FleetError> {
    let name = format!("{}-{number}", role.name());
    let mut take = |wanted: bool| wanted.then(|| ports.take()).transpose();
    let public = take(role == Role::Gateway)?;
    let codes = take(role == Role::Registration)?;
    let admin = ports.take()?;
    let listens = Listens { admin, public, codes };
    let mut settings = roles::settings(role, &name, common, listens, &folder.data(&name));
    roles::merge(&mut settings, &spec.settings);
    if let Some(more) = spec.role_settings.get(&role) {
        roles::merge(&mut settings, more);
    }
    let path = folder.settings(&format!("{name}.toml"));
    fs::write(&path, settings.to_string())
        .map_err(|source| FleetError::File { path: path.clone(), source })?;
    let marker = path.display().to_string();
    let mut arguments = vec!["--config".to_owned(), marker.clone()];
    if codes.is_some() {
        arguments.push("--allow-sandbox-codes".to_owned());
    }
    let named = [("admin", Some(admin)), ("public", public), ("codes", codes)];
    Ok(NodePlan {
        kind: NodeKind::Role(role),
        launch: Launch {
            program: spec.binary.clone(),
            arguments,
            environment: [].into(),
            marker,
            log: folder.log(&name),
            record: folder.record(&name),
            locked_memory_bytes_max: None,
        },
        probe: Probe::Http { address: admin, path: "/health/ready".to_owned() },
        endpoints: named.into_iter().filter_map(|(purpose, at)| Some((purpose.to_owned(), at?))).collect(),
        ready_max_s: READY_MAX_S,
        stop_max_s: STOP_MAX_S,
        name,
    })
}

/// Secrets once, and the schema each time, which does nothing when it is there.
fn preparations(spec: &FleetSpec, folder: &Folder, nodes: &[NodePlan]) -> Vec<Preparation> {
    let secrets = folder.secrets();
    let with_store = nodes
        .iter()
        .find(|node| matches!(node.kind, NodeKind::Role(role) if role != Role::Gateway))
        .map(|node| node.launch.marker.clone());
    let new_secrets = Preparation {
        program: spec.binary.clone(),
        arguments: ["secrets", "new", &secrets.display().to_string()].map(str::to_owned).into(),
        unless: Some(secrets),
    };
    let schema = with_store.map(|settings| Preparation {
        program: spec.binary.clone(),
        arguments: ["schema", "--config", &settings, "apply"].map(str::to_owned).into(),
        unless: None,
    });
    [new_secrets].into_iter().chain(schema).collect()
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;

    #[test]
    fn each_process_has_settings_ports_and_a_name_of_its_own() {
        let temporary = tempfile::tempdir().unwrap();
        let prefix = temporary.path().join("test-logs/exodus-");
        let folder = Folder::at(temporary.path()).unwrap().with_log_prefix(Some(&prefix)).unwrap();
        let there = BackEnd::Existing(vec!["127.0.0.1:1".parse().unwrap()]);
        let mut spec = FleetSpec::back_ends("cache".as_ref(), BackEnd::None, BackEnd::None);
        (spec.gateways, spec.registrations, spec.mailboxes) = (2, 1, 2);
        spec.nats = BackEnd::Existing(vec!["127.0.0.1:2".parse().unwrap()]);
        spec.cassandra = there;
        spec.settings = toml::from_str("[telemetry]\nlevel = 'debug'").unwrap();
        spec.role_settings.insert(Role::Mailbox, toml::from_str("[telemetry]\nlevel = 'info'").unwrap());
        let description = plan(spec, &folder).unwrap();

        let names: Vec<_> = description.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["mailbox-1", "mailbox-2", "registration-1", "gateway-1", "gateway-2"]);
        assert_eq!(description.nodes[0].launch.log, temporary.path().join("test-logs/exodus-mailbox-1.log"));
        let mut ports: Vec<_> = description.nodes.iter().flat_map(|node| node.endpoints.values()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5 + 2 + 1, "admin ports, public ones, codes");
        let settings = |name: &str| -> Table {
            toml::from_str(&fs::read_to_string(folder.settings(&format!("{name}.toml"))).unwrap()).unwrap()
        };
        assert_eq!(settings("mailbox-2")["telemetry"]["level"].as_str(), Some("info"));
        assert_eq!(settings("gateway-1")["telemetry"]["level"].as_str(), Some("debug"));
        let allowed = |node: &NodePlan| node.launch.arguments.iter().any(|a| a == "--allow-sandbox-codes");
        let with_codes: Vec<_> = description.nodes.iter().filter(|node| allowed(node)).collect();
        assert_eq!(with_codes.len(), 1);
        assert_eq!(with_codes[0].kind, NodeKind::Role(Role::Registration));
    }
}
