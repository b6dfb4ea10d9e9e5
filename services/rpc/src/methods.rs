//! The methods that exist, from the descriptors: what may be a metric label, and which calls are streams.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use prost::Message;
use prost_types::FileDescriptorSet;
use spillway_admission::Kind;

#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<String, Method>,
}

#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) service: String,
    pub(crate) name: String,
    /// Either side may send more than one message.
    pub(crate) streaming: bool,
    /// Which work it is, for its expected time.
    kind: Kind,
}

impl Methods {
    /// Everything that a Spillway port can serve. Decoded once, since the descriptors are constant.
    pub(crate) fn all() -> Arc<Self> {
        static ALL: LazyLock<Arc<Methods>> = LazyLock::new(|| {
            Arc::new(Methods::from_descriptors(&[
                spillway_api::DESCRIPTORS,
                tonic_health::pb::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            ]))
        });
        Arc::clone(&ALL)
    }

    fn from_descriptors(sets: &[&[u8]]) -> Self {
        let mut by_path = HashMap::new();
        for set in sets {
            let set = FileDescriptorSet::decode(*set).expect("descriptors are compiled in");
            for file in &set.file {
                for service in &file.service {
                    let service_name = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        let path = format!("/{service_name}/{}", method.name());
                        let method = Method {
                            service: service_name.clone(),
                            name: method.name().to_owned(),
                            streaming: method.client_streaming() || method.server_streaming(),
                            kind: Kind::new(u8::try_from(by_path.len()).unwrap_or(u8::MAX)),
                        };
                        by_path.insert(path, method);
                    }
                }
            }
        }
        Self { by_path }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Method)> {
        self.by_path.iter().map(|(path, method)| (path.as_str(), method))
    }

    pub(crate) fn is_streaming(&self, path: &str) -> bool {
        self.by_path.get(path).is_some_and(|method| method.streaming)
    }

    /// `package.Service/Method`, of those that exist: others are what a stranger wrote.
    pub(crate) fn name(&self, path: &str) -> &str {
        match self.by_path.get_key_value(path) {
            Some((known, _)) => known.trim_start_matches('/'),
            None => "_OTHER",
        }
    }

    /// Unknown paths share the last one.
    pub(crate) fn kind(&self, path: &str) -> Kind {
        self.by_path.get(path).map_or(Kind::new(u8::MAX), |method| method.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_their_kinds_come_from_the_descriptors() {
        let methods = Methods::all();
        assert!(methods.is_streaming("/spillway.v1.Messages/Session"));
        assert!(!methods.is_streaming("/spillway.v1.Messages/Send"));
        assert!(methods.is_streaming("/grpc.health.v1.Health/Watch"));
        assert!(methods.iter().any(|(path, _)| path == "/spillway.internal.v1.Mailbox/Append"));
        assert_eq!(methods.name("/spillway.v1.Messages/Send"), "spillway.v1.Messages/Send");
        assert_eq!(methods.name("/my.secret.Service/Method"), "_OTHER");
        assert!(methods.by_path.len() < Kind::COUNT, "some would share the last kind");
    }
}
