{{/*
One NetworkPolicy. In: root, suffix, selector (YAML of a podSelector), ingress and egress (YAML lists; "" for none).
Policies add up, and what no policy allows is denied to every pod of the release.
*/}}
{{- define "spillway.networkPolicy" -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "spillway.metadata" (dict "root" .root "component" "network" "name" (printf "%s-%s" (include "spillway.fullname" .root) .suffix)) | nindent 2 }}
spec:
  podSelector:
    {{- .selector | nindent 4 }}
  policyTypes: [Ingress, Egress]
  {{- with .ingress }}
  ingress:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .egress }}
  egress:
    {{- . | nindent 4 }}
  {{- end }}
{{ end -}}

{{/* A rule for TCP. In: direction (from, to), peers, ports. No peers: anybody. */}}
{{- define "spillway.networkRule" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .peers }}
  {{ $.direction }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{ end -}}

{{/* Pods of the release by a label's values, as YAML of a list of one peer. In: root, key, values. */}}
{{- define "spillway.peer" -}}
- podSelector:
    matchLabels:
      {{- include "spillway.selectorAll" . | nindent 6 }}
    matchExpressions:
      - {key: {{ .key }}, operator: In, values: {{ toJson .values }}}
{{- end -}}

{{- define "spillway.podSelector" -}}
matchLabels:
  {{- include "spillway.selectorAll" . | nindent 2 }}
matchExpressions:
  - {key: {{ .key }}, operator: In, values: {{ toJson .values }}}
{{- end -}}
