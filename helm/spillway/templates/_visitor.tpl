{{/*
A pod that signs people up against this release by the load tool. Codes of the sandbox can be read on a loopback address
only, so beside the tool runs what an operator would run: `kubectl port-forward` to a registration pod, with an account
that may do that and nothing else. In: root, component, args.
*/}}
{{- define "spillway.visitor" -}}
{{- $fullname := include "spillway.fullname" .root -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ $fullname }}-codes
automountServiceAccountToken: true
enableServiceLinks: false
restartPolicy: Never
securityContext:
  {{- include "spillway.podSecurityContext" . | nindent 2 }}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
initContainers:
  # A sidecar: it ends with the pod.
  - name: codes
    image: {{ $values.sandboxCodes.image }}
    restartPolicy: Always
    args: [port-forward, "--namespace={{ .root.Release.Namespace }}", deployment/{{ $fullname }}-registration, "7702:7702", "9464:9464"]
    startupProbe:
      # The ports are loopback's, where the kubelet cannot look. The second one is the way to the pod's admin port.
      exec: {command: [kubectl, "--server=http://127.0.0.1:9464", get, --raw=/health/live]}
      periodSeconds: 1
      failureThreshold: 30
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 128Mi}
    securityContext:
      {{- include "spillway.containerSecurityContext" . | nindent 6 }}
containers:
  - name: surge
    image: {{ include "spillway.image" .root }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    command: [surge]
    args:
      - run
      - --target={{ empty $values.tls.existingSecret | ternary "http" "https" }}://{{ $fullname }}-gateway:{{ $values.service.port }}
      - --codes=http://127.0.0.1:7702
      - --i-own-this-target
      - --out=/run/surge
      {{- range .args }}
      - {{ . | quote }}
      {{- end }}
    resources:
      {{- toYaml $values.surge.resources | nindent 6 }}
    securityContext:
      {{- include "spillway.containerSecurityContext" . | nindent 6 }}
    volumeMounts:
      - {name: out, mountPath: /run/surge}
volumes:
  - name: out
    emptyDir: {}
{{- end -}}
