//! Server reflection of the public API. What roles say to each other is nobody else's business.

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_reflection::server::{Builder, v1, v1alpha};

const INTERNAL: &str = "spillway.internal.";
const COMPILED_IN: &str = "the descriptors are compiled in and complete";

pub(super) fn v1() -> v1::ServerReflectionServer<impl v1::ServerReflection> {
    builder().build_v1().expect(COMPILED_IN)
}

pub(super) fn v1alpha() -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection> {
    builder().build_v1alpha().expect(COMPILED_IN)
}

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_file_descriptor_set(public())
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
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
        let _ = (v1(), v1alpha());
    }
}
