{{/* The pod template of a role; what `podTemplate` says comes first. In: root, role, v, component. Out: YAML. */}}
{{- define "spillway.podTemplate" -}}
{{- include "spillway.mergeText" (dict "base" (include "spillway.pod" .) "over" .v.podTemplate "what" (printf "the pod template of %s" .component)) -}}
{{- end -}}

{{- define "spillway.pod" -}}
{{- $values := .root.Values -}}
{{- $secrets := include "spillway.secretVolumes" (dict "root" .root "user" .role "store" (ne .role "gateway")) | fromYamlArray -}}
metadata:
  labels:
    {{- include "spillway.labels" . | nindent 4 }}
    # Both Deployments of a role that bursts serve its Service.
    spillway/role: {{ .role }}
    {{- with .v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Processes read their settings at the start.
    checksum/settings: {{ include "spillway.settings" .root | sha256sum }}
    {{- with .v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "spillway.serviceAccountName" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .v.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "spillway.podSecurityContext" . | nindent 4 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- toYaml . | nindent 6 }}
      labelSelector:
        matchLabels:
          {{- include "spillway.selector" $ | nindent 10 }}
      # Of one revision, so that a rollout ends as evenly as it began.
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- with .v.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: spillway
      image: {{ include "spillway.image" .root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        - --config=/etc/spillway/settings/spillway.toml
        - --roles={{ .role }}
        {{- if and $values.dev.enabled (eq .role "registration") }}
        - --allow-sandbox-codes
        {{- end }}
        {{- range .v.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- include "spillway.env" . | nindent 8 }}
      {{- with .v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if eq .role "gateway" }}
        - {name: grpc, containerPort: 7700}
        {{- end }}
        - {name: admin, containerPort: 9464}
        {{- if and (eq .role "control") (include "spillway.usesScaler" .root) }}
        - {name: scaler, containerPort: 7710}
        {{- end }}
      {{- include "spillway.probes" . | nindent 6 }}
      {{- if gt (int $values.drain.preStopSeconds) 0 }}
      lifecycle:
        preStop:
          # By the kubelet: the image has no shell.
          sleep: {seconds: {{ $values.drain.preStopSeconds }}}
      {{- end }}
      resources:
        {{- toYaml .v.resources | nindent 8 }}
      securityContext:
        {{- include "spillway.containerSecurityContext" . | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/spillway/settings, readOnly: true}
        - {name: data, mountPath: /var/lib/spillway}
        {{- include "spillway.secretMounts" $secrets | nindent 8 }}
        {{- with .v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .v.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "spillway.fullname" .root }}-settings}
    - name: data
      emptyDir: {}
    {{- with $secrets }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Settings that are not in the ConfigMap: those of one role, and secrets. */}}
{{- define "spillway.env" -}}
# What a process is called in the control role's list.
- name: SPILLWAY_NODE__NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- if and (eq .role "control") (include "spillway.usesScaler" .root) }}
- name: SPILLWAY_CONTROL__SCALER__LISTEN
  value: 0.0.0.0:7710
{{- end }}
{{- range .root.Values.secretSettings }}
- name: SPILLWAY_{{ .path | upper | replace "." "__" }}
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- with .v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
