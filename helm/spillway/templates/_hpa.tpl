{{/* In: root, role, v, component, name. */}}
{{- define "spillway.hpa" -}}
{{- $a := .v.autoscaling -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "spillway.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ $a.minReplicas }}
  maxReplicas: {{ $a.maxReplicas }}
  {{- with $a.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  metrics:
    {{- if $a.hpa.metrics }}
    {{- toYaml $a.hpa.metrics | nindent 4 }}
    {{- else }}
    {{- if $a.hpa.demandMetric }}
    # What was offered, refused calls included, over what the role can do: it does not fall when calls are shed.
    - type: External
      external:
        metric:
          name: {{ $a.hpa.demandMetric }}
          selector: {matchLabels: {role: {{ .role }}}}
        target: {type: Value, value: {{ $a.hpa.demandTarget | quote }}}
    {{- end }}
    {{- if $a.hpa.cpuUtilization }}
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ $a.hpa.cpuUtilization }}}
    {{- end }}
    {{- end }}
{{- end -}}
