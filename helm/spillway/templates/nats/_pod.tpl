{{- define "spillway.nats.pod" -}}
{{- $n := .root.Values.nats -}}
metadata:
  labels:
    {{- include "spillway.labels" . | nindent 4 }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Longer than lame_duck_duration and what comes before it.
  terminationGracePeriodSeconds: 60
  securityContext:
    {{- include "spillway.podSecurityContext" . | nindent 4 }}
  topologySpreadConstraints:
    - topologyKey: topology.kubernetes.io/zone
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "spillway.selector" . | nindent 10 }}
    - topologyKey: kubernetes.io/hostname
      maxSkew: 1
      whenUnsatisfiable: {{ .root.Values.dev.enabled | ternary "ScheduleAnyway" "DoNotSchedule" }}
      labelSelector:
        matchLabels:
          {{- include "spillway.selector" . | nindent 10 }}
  containers:
    - name: nats
      image: {{ $n.image }}
      args: [--config, /etc/nats/nats.conf, --pid, /run/nats/nats.pid]
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- if $n.publicKeysSecret }}
        {{- range $role := include "spillway.roles" .root | fromYamlArray }}
        - name: SPILLWAY_NKEY_{{ upper $role }}
          valueFrom: {secretKeyRef: {name: {{ $n.publicKeysSecret }}, key: {{ $role }}}}
        {{- end }}
        {{- end }}
      ports:
        - {name: nats, containerPort: 4222}
        - {name: cluster, containerPort: 6222}
        - {name: monitor, containerPort: 8222}
      startupProbe:
        httpGet: {path: "/healthz?js-server-only=true", port: monitor}
        periodSeconds: 1
        failureThreshold: 90
      readinessProbe:
        httpGet: {path: "/healthz?js-server-only=true", port: monitor}
        periodSeconds: 5
      livenessProbe:
        httpGet: {path: "/healthz?js-enabled-only=true", port: monitor}
        periodSeconds: 10
      lifecycle:
        preStop:
          # Clients are told, and go to another server by themselves.
          exec: {command: [nats-server, -sl=ldm=/run/nats/nats.pid]}
      resources:
        {{- toYaml $n.resources | nindent 8 }}
      securityContext:
        {{- include "spillway.containerSecurityContext" . | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/nats, readOnly: true}
        - {name: data, mountPath: /data}
        - {name: run, mountPath: /run/nats}
  volumes:
    - name: config
      configMap: {name: {{ .name }}}
    - name: run
      emptyDir: {}
    {{- if not $n.storage.size }}
    - name: data
      emptyDir: {}
    {{- end }}
{{- end -}}
