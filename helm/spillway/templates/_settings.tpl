{{/* The settings that the chart itself writes. Out: YAML. */}}
{{- define "spillway.ownSettings" -}}
node:
  data: /var/lib/spillway
  drain_notice: {{ printf "%ds" (int .Values.drain.noticeSeconds) }}
  drain_calls: {{ printf "%ds" (int .Values.drain.callsSeconds) }}
gateway:
  session:
    migrate_spread: {{ printf "%ds" (int .Values.drain.spreadSeconds) }}
    migrate_grace: {{ printf "%ds" (int .Values.drain.graceSeconds) }}
secrets:
  file: /etc/spillway/secrets/secrets.toml
listen:
  public: 0.0.0.0:7700
admin:
  listen: 0.0.0.0:9464
{{- if .Values.tls.existingSecret }}
tls:
  certificate: /etc/spillway/tls/tls.crt
  private_key: /etc/spillway/tls/tls.key
{{- end }}
bus:
  kind: nats
  nats:
    servers: {{ include "spillway.busServers" . }}
    {{- with .Values.bus.cells }}
    cells: {{ toJson . }}
    {{- end }}
    {{- with .Values.bus.prefix }}
    prefix: {{ . }}
    {{- end }}
    {{- if .Values.bus.auth.existingSecret }}
    {{ .Values.bus.auth.kind }}: /etc/spillway/nats/user
    {{- end }}
    {{- with .Values.bus.tls }}
    {{- if .existingSecret }}
    tls_roots: /etc/spillway/nats-tls/ca.pem
    {{- if .certificate }}
    tls_certificate: /etc/spillway/nats-tls/certificate.pem
    tls_key: /etc/spillway/nats-tls/key.pem
    {{- end }}
    {{- end }}
    {{- end }}
  work:
    replicas: {{ include "spillway.workReplicas" . }}
store:
  kind: cql
  cql:
    {{- include "spillway.cql" . | nindent 4 }}
{{- end -}}

{{- define "spillway.cql" -}}
contact_points: {{ include "spillway.contactPoints" . }}
keyspace_prefix: {{ .Values.store.keyspacePrefix }}
replication_factor: {{ if eq .Values.store.mode "single" }}1{{ else }}{{ .Values.store.replicationFactor }}{{ end }}
{{- with include "spillway.datacenter" . }}
datacenter: {{ . }}
{{- end }}
{{- with .Values.store.rack }}
rack: {{ . }}
{{- end }}
{{- if .Values.store.auth.existingSecret }}
username: {{ .Values.store.auth.username }}
password_file: /etc/spillway/cql/password
{{- end }}
{{- with .Values.store.tls }}
{{- if .existingSecret }}
tls:
  roots: /etc/spillway/cql-tls/ca.pem
  {{- if .certificate }}
  certificate: /etc/spillway/cql-tls/certificate.pem
  private_key: /etc/spillway/cql-tls/key.pem
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spillway.busServers" -}}
{{- if .Values.bus.servers -}}
{{- toJson .Values.bus.servers -}}
{{- else -}}
{{- $name := printf "%s-nats" (include "spillway.fullname" .) -}}
{{- $servers := list -}}
{{- range $i := until (int .Values.nats.replicas) -}}
{{- $servers = append $servers (printf "nats://%s-%d.%s.%s.svc.%s:4222" $name $i $name $.Release.Namespace $.Values.clusterDomain) -}}
{{- end -}}
{{- toJson $servers -}}
{{- end -}}
{{- end -}}

{{/* No more copies than the chart's own servers can keep. */}}
{{- define "spillway.workReplicas" -}}
{{- if .Values.bus.servers -}}{{ .Values.bus.workReplicas }}{{- else -}}{{ min (int .Values.bus.workReplicas) (int .Values.nats.replicas) }}{{- end -}}
{{- end -}}

{{- define "spillway.contactPoints" -}}
{{- $name := include "spillway.fullname" . -}}
{{- if eq .Values.store.mode "operator" -}}
{{- toJson (list (printf "%s-scylla-client.%s.svc.%s:9042" $name .Release.Namespace .Values.clusterDomain)) -}}
{{- else if eq .Values.store.mode "single" -}}
{{- toJson (list (printf "%s-store.%s.svc.%s:9042" $name .Release.Namespace .Values.clusterDomain)) -}}
{{- else -}}
{{- toJson .Values.store.contactPoints -}}
{{- end -}}
{{- end -}}

{{- define "spillway.datacenter" -}}
{{- if eq .Values.store.mode "external" -}}{{ .Values.store.datacenter }}{{- else -}}{{ default "dc1" .Values.store.datacenter }}{{- end -}}
{{- end -}}

{{/* The ConfigMap's file: JSON logs unless the user says otherwise, the user's settings, the chart's own. */}}
{{- define "spillway.settings" -}}
{{- $first := dict "telemetry" (dict "format" "json") -}}
{{- if .Values.dev.enabled -}}
{{- $_ := set $first "provider" (dict "kind" "sandbox") -}}
{{- end -}}
{{- $settings := include "spillway.merge" (dict "base" $first "over" .Values.settings) | fromYaml -}}
{{- $settings = include "spillway.merge" (dict "base" $settings "over" (include "spillway.ownSettings" . | fromYaml)) | fromYaml -}}
{{- include "spillway.toml" (dict "table" $settings "path" "") -}}
{{- end -}}

{{/* Paths that the user's settings and the chart's own both set. In: user, own, path. */}}
{{- define "spillway.settingsConflicts" -}}
{{- $own := .own -}}
{{- $path := .path -}}
{{- range $key, $value := .user -}}
{{- if hasKey $own $key -}}
{{- $at := list $path $key | compact | join "." -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $own $key)) -}}
{{- include "spillway.settingsConflicts" (dict "user" $value "own" (get $own $key) "path" $at) -}}
{{- else -}}
{{ $at }} {{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
