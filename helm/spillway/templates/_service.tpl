{{/*
Every pod of a role by itself: for clients that choose among addresses, and for whoever looks at each admin port. Pods
that are not ready are in it too, because they are the ones to look at. In: root, role, component, name.
*/}}
{{- define "spillway.headlessService" -}}
{{- $public := eq .role "gateway" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "spillway.metadata" (merge (dict "name" (printf "%s-headless" .name) "labels" (dict "spillway/service" "headless")) .) | nindent 2 }}
spec:
  clusterIP: None
  # Clients of a gateway must not be given one that does not serve.
  publishNotReadyAddresses: {{ not $public }}
  selector:
    {{- include "spillway.selectorAll" . | nindent 4 }}
    spillway/role: {{ .role }}
  ports:
    {{- if $public }}
    - {name: grpc, port: 7700, targetPort: grpc, appProtocol: {{ include "spillway.appProtocol" .root }}}
    {{- end }}
    - {name: admin, port: 9464, targetPort: admin, appProtocol: http}
{{- end -}}

{{/* What a proxy in front must speak. */}}
{{- define "spillway.appProtocol" -}}
{{- if .Values.tls.existingSecret -}}https{{- else -}}kubernetes.io/h2c{{- end -}}
{{- end -}}
