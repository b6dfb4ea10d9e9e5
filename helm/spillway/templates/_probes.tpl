{{/*
Startup and liveness ask the process about itself: a database that is away must not make it start over, and a drain must
not get it killed. Readiness of a gateway is asked where the devices call, by gRPC health, unless that port speaks TLS,
which the kubelet's gRPC probe does not. The other roles have no port of their own: the bus brings their calls.
In: root, role, v.
*/}}
{{- define "spillway.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: admin}
  periodSeconds: {{ .v.probes.startup.periodSeconds }}
  failureThreshold: {{ .v.probes.startup.failureThreshold }}
readinessProbe:
  {{- if and (eq .role "gateway") (not .root.Values.tls.existingSecret) }}
  grpc: {port: 7700}
  {{- else }}
  httpGet: {path: /health/ready, port: admin}
  {{- end }}
  periodSeconds: {{ .v.probes.readiness.periodSeconds }}
  failureThreshold: {{ .v.probes.readiness.failureThreshold }}
  timeoutSeconds: {{ .v.probes.readiness.timeoutSeconds }}
livenessProbe:
  httpGet: {path: /health/live, port: admin}
  periodSeconds: {{ .v.probes.liveness.periodSeconds }}
  failureThreshold: {{ .v.probes.liveness.failureThreshold }}
  timeoutSeconds: {{ .v.probes.liveness.timeoutSeconds }}
{{- end -}}
