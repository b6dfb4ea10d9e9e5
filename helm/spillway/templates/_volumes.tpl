{{/* Which existing Secrets a process reads, as files that only it can read. In: root, user (who it is to NATS, if anybody), store. */}}
{{- define "spillway.secretVolumes" -}}
{{- $v := .root.Values }}
{{- if .user }}
- name: secrets
  secret:
    secretName: {{ include "spillway.secretName" .root }}
    defaultMode: 0440
    items: [{key: {{ $v.secrets.key | quote }}, path: secrets.toml}]
{{- with $v.bus.auth }}
{{- if .existingSecret }}
- name: nats
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items: [{key: {{ default $.user .key | quote }}, path: user}]
{{- end }}
{{- end }}
{{- include "spillway.tlsVolume" (dict "name" "nats-tls" "tls" $v.bus.tls) }}
{{- end }}
{{- if .store }}
{{- with $v.store.auth }}
{{- if .existingSecret }}
- name: cql
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .passwordKey | quote }}, path: password}]
{{- end }}
{{- end }}
{{- include "spillway.tlsVolume" (dict "name" "cql-tls" "tls" $v.store.tls) }}
{{- end }}
{{- if and (eq .user "gateway") $v.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ $v.tls.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ $v.tls.certificate | quote }}, path: tls.crt}
      - {key: {{ $v.tls.privateKey | quote }}, path: tls.key}
{{- end }}
{{- end -}}

{{- define "spillway.tlsVolume" -}}
{{- if .tls.existingSecret }}
- name: {{ .name }}
  secret:
    secretName: {{ .tls.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .tls.ca | quote }}, path: ca.pem}
      {{- if .tls.certificate }}
      - {key: {{ .tls.certificate | quote }}, path: certificate.pem}
      - {key: {{ .tls.privateKey | quote }}, path: key.pem}
      {{- end }}
{{- end }}
{{- end -}}

{{/* Each volume of the list in a folder of its name. In: the volumes. */}}
{{- define "spillway.secretMounts" -}}
{{- range . }}
- {name: {{ .name }}, mountPath: /etc/spillway/{{ .name }}, readOnly: true}
{{- end }}
{{- end -}}
