//! Paths of methods and their subjects, from the descriptors.

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;

use crate::methods::Methods;

/// Only services between roles are on the bus.
const INTERNAL: &str = "spillway.internal.v1.";

/// Where the calls of one method go.
#[derive(Clone, Debug)]
pub(super) struct MethodSubject {
    /// All of the subject but the partition.
    pub(super) stem: String,
    pub(super) cancel: Arc<str>,
    pub(super) streaming: bool,
}

/// What one service listens to.
#[derive(Clone, Debug)]
pub(super) struct ServiceSubjects {
    /// Also the queue group.
    pub(super) name: String,
    pub(super) calls: String,
    pub(super) cancels: String,
    /// By the token of the subject.
    pub(super) paths: HashMap<String, Uri>,
}

/// By path. `below` puts a subject below the fleet's prefix.
pub(super) fn of_methods(below: impl Fn(&str) -> String) -> HashMap<String, MethodSubject> {
    let methods = Methods::all();
    let internal = methods.iter().filter_map(|(path, method)| {
        let service = method.service.strip_prefix(INTERNAL)?.to_ascii_lowercase();
        let subject = MethodSubject {
            stem: below(&format!("rpc.{service}.{}.", method.name.to_ascii_lowercase())),
            cancel: below(&format!("rpc.{service}.cancel")).into(),
            streaming: method.streaming,
        };
        Some((path.to_owned(), subject))
    });
    internal.collect()
}

/// `None` when the service is not one between roles.
pub(super) fn of_service(service: &str, below: impl Fn(&str) -> String) -> Option<ServiceSubjects> {
    let name = service.strip_prefix(INTERNAL)?.to_ascii_lowercase();
    let methods = Methods::all();
    let unary = methods.iter().filter(|(_, method)| method.service == service && !method.streaming);
    let uri = |path: &str| Uri::try_from(path).expect("the path of a method is a URI");
    Some(ServiceSubjects {
        calls: below(&format!("rpc.{name}.*.*")),
        cancels: below(&format!("rpc.{name}.cancel")),
        paths: unary.map(|(path, method)| (method.name.to_ascii_lowercase(), uri(path))).collect(),
        name,
    })
}

/// The token that names the method: the last but one.
pub(super) fn method(subject: &str) -> Option<&str> {
    subject.rsplit('.').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_and_servers_agree() {
        let below = |tail: &str| format!("fleet.{tail}");
        let append = of_methods(below).remove("/spillway.internal.v1.Mailbox/Append").unwrap();
        assert_eq!(append.stem, "fleet.rpc.mailbox.append.");
        let mailbox = of_service("spillway.internal.v1.Mailbox", below).unwrap();
        assert_eq!(mailbox.calls, "fleet.rpc.mailbox.*.*");
        assert_eq!(mailbox.cancels, &*append.cancel);
        let token = method("fleet.rpc.mailbox.append.3f").unwrap();
        assert_eq!(mailbox.paths[token], "/spillway.internal.v1.Mailbox/Append");
    }

    #[test]
    fn public_services_are_not_on_the_bus() {
        assert!(of_service("spillway.v1.Messages", str::to_owned).is_none());
        assert!(!of_methods(str::to_owned).contains_key("/spillway.v1.Messages/Send"));
    }
}
