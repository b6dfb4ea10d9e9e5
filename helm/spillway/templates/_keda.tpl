{{/* The role's seats in demand, asked of `control`. In: root, role, v, component, name. */}}
{{- define "spillway.scaledObject" -}}
{{- $a := .v.autoscaling -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "spillway.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  pollingInterval: {{ $a.keda.pollingInterval }}
  cooldownPeriod: {{ $a.keda.cooldownPeriod }}
  minReplicaCount: {{ $a.minReplicas }}
  maxReplicaCount: {{ $a.maxReplicas }}
  fallback:
    failureThreshold: 3
    replicas: {{ default $a.minReplicas $a.keda.fallbackReplicas }}
    # A scaler that is away must not shrink a fleet in a surge.
    behavior: currentReplicasIfHigher
  advanced:
    horizontalPodAutoscalerConfig:
      {{- with $a.behavior }}
      behavior:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  triggers:
    - type: external
      metadata:
        scalerAddress: {{ include "spillway.scalerAddress" . }}
        role: {{ .role }}
        target: {{ $a.keda.target | quote }}
    {{- if $a.keda.cpuUtilization }}
    - type: cpu
      metricType: Utilization
      metadata: {value: {{ $a.keda.cpuUtilization | quote }}}
    {{- end }}
    {{- with $a.keda.triggers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
