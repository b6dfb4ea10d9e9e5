//! What the control plane is given before the chart.

use std::fmt::Write as _;

/// Of kinds whose real definitions cannot be obtained, and of those that KEDA's operator looks for and nobody makes here: any fields will do.
pub(super) fn definitions() -> String {
    let kinds = [
        ("scylla.scylladb.com", "v1", "ScyllaCluster", "Namespaced"),
        ("autoscaling.x-k8s.io", "v1alpha1", "CapacityBuffer", "Namespaced"),
        ("keda.sh", "v1alpha1", "ScaledJob", "Namespaced"),
        ("keda.sh", "v1alpha1", "TriggerAuthentication", "Namespaced"),
        ("keda.sh", "v1alpha1", "ClusterTriggerAuthentication", "Cluster"),
        ("eventing.keda.sh", "v1alpha1", "CloudEventSource", "Namespaced"),
        ("eventing.keda.sh", "v1alpha1", "ClusterCloudEventSource", "Cluster"),
    ];
    let mut text = String::new();
    for (group, version, kind, scope) in kinds {
        let plural = format!("{}s", kind.to_lowercase());
        // An alpha API of the project's own groups says who has approved it, or that nobody has.
        write!(
            text,
            "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
             metadata: {{name: {plural}.{group}, annotations: {{api-approved.kubernetes.io: unapproved}}}}\n\
             spec:\n  group: {group}\n  scope: {scope}\n  names: {{kind: {kind}, plural: {plural}}}\n  versions:\n  \
             - name: {version}\n    served: true\n    storage: true\n    \
             schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}\n"
        )
        .ok();
    }
    text
}

/// Three zones, and the disks that the sets of values ask for, of their classes.
pub(super) fn nodes_and_volumes() -> String {
    let mut text = String::new();
    for zone in ["a", "b", "c"] {
        write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: node-{zone}\n  annotations: {{kwok.x-k8s.io/node: fake}}\n  \
             labels: {{kubernetes.io/hostname: node-{zone}, kubernetes.io/os: linux, topology.kubernetes.io/zone: zone-{zone}, disk: fast}}\n\
             status:\n  capacity: &room {{cpu: \"256\", memory: 1024Gi, pods: \"500\"}}\n  allocatable: *room\n"
        )
        .ok();
    }
    for (name, class, size) in
        [("0", "fast", "10Gi"), ("1", "fast", "10Gi"), ("2", "fast", "10Gi"), ("3", "\"\"", "5Gi")]
    {
        write!(
            text,
            "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: disk-{name}}}\nspec:\n  \
             capacity: {{storage: {size}}}\n  accessModes: [ReadWriteOnce]\n  storageClassName: {class}\n  \
             hostPath: {{path: /nowhere}}\n"
        )
        .ok();
    }
    text
}

pub(super) fn restricted_namespace(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n    pod-security.kubernetes.io/enforce-version: latest\n"
    )
}
