//! Server reflection: the services of one port, and the messages that travel with them. What roles say to each other is
//! nobody else's business.

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_reflection::server::{Builder, v1, v1alpha};

const INTERNAL: &str = "spillway.internal.";
/// What every port with reflection also serves.
const ALWAYS: [&str; 1] = ["grpc.reflection.v1.ServerReflection"];
const COMPILED_IN: &str = "the descriptors are compiled in and complete";

pub(super) fn v1(services: &[&str]) -> v1::ServerReflectionServer<impl v1::ServerReflection + use<>> {
    builder(services).build_v1().expect(COMPILED_IN)
}

pub(super) fn v1alpha(
    services: &[&str],
) -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection + use<>> {
    builder(services).build_v1alpha().expect(COMPILED_IN)
}

fn builder(services: &[&str]) -> Builder<'static> {
    let builder = Builder::configure()
        .register_file_descriptor_set(public())
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The details of refusals.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
    let named = services.iter().chain(&ALWAYS);
    named.fold(builder, |builder, name| builder.with_service_name(*name))
}

fn public() -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(spillway_api::DESCRIPTORS).expect(COMPILED_IN);
    set.file.retain(|file| !file.package().starts_with(INTERNAL));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_part_is_complete_and_has_nothing_internal() {
        let packages: Vec<_> = public().file.iter().map(|file| file.package().to_owned()).collect();
        assert!(packages.iter().any(|package| package == "spillway.v1"));
        assert!(!packages.iter().any(|package| package.starts_with("spillway.internal")));
        drop((v1(&[]), v1alpha(&[])));
    }
}
