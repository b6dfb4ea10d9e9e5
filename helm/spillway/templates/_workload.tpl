{{/*
Everything that a role consists of, from one implementation. In: root, role.
*/}}
{{- define "spillway.role" -}}
{{- $v := include "spillway.roleValues" . | fromYaml -}}
{{- if $v.enabled -}}
{{- $name := printf "%s-%s" (include "spillway.fullname" .root) .role -}}
{{- $context := dict "root" .root "role" .role "v" $v "component" .role "name" $name -}}
{{- include "spillway.deployment" $context }}
---
{{ include "spillway.headlessService" $context }}
{{- if $v.podDisruptionBudget.enabled }}
---
{{ include "spillway.pdb" $context }}
{{- end }}
{{- if $v.autoscaling.hpa.enabled }}
---
{{ include "spillway.hpa" $context }}
{{- end }}
{{- if $v.autoscaling.keda.enabled }}
---
{{ include "spillway.scaledObject" $context }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* In: root, role, v, component, name; `scaled` for one whose replicas are none of the chart's business. */}}
{{- define "spillway.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "spillway.metadata" . | nindent 2 }}
spec:
  {{- if not (or .scaled .v.autoscaling.hpa.enabled .v.autoscaling.keda.enabled) }}
  replicas: {{ .v.replicas }}
  {{- end }}
  minReadySeconds: {{ .v.minReadySeconds }}
  revisionHistoryLimit: {{ .v.revisionHistoryLimit }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ .v.strategy.maxSurge }}
      maxUnavailable: {{ .v.strategy.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "spillway.selector" . | nindent 6 }}
  template:
    {{- include "spillway.podTemplate" . | nindent 4 }}
{{- end -}}

{{- define "spillway.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "spillway.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .v.podDisruptionBudget.maxUnavailable }}
  # A pod that does not serve protects nobody by staying.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "spillway.selector" . | nindent 6 }}
{{- end -}}
