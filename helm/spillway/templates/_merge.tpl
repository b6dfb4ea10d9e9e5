{{/*
Maps deeply, everything else whole: what `over` has comes first, be it empty, false or 0, which the engine's own
mergeOverwrite would pass over. In: base, over. Out: YAML.
*/}}
{{- define "spillway.merge" -}}
{{- $out := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $out $key)) -}}
{{- $_ := set $out $key (include "spillway.merge" (dict "base" (get $out $key) "over" $value) | fromYaml) -}}
{{- else -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{/*
The same for a base that is still text: text that is no YAML would otherwise become a map that says so, and be rendered.
In: base, over, what. Out: YAML.
*/}}
{{- define "spillway.mergeText" -}}
{{- $base := .base | fromYaml -}}
{{- if $base.Error -}}{{- fail (printf "%s is not YAML: %s" .what $base.Error) -}}{{- end -}}
{{- include "spillway.merge" (dict "base" $base "over" .over) -}}
{{- end -}}

{{/* What holds for a role: `defaults` under the role's own values. In: root, role. Out: YAML. */}}
{{- define "spillway.roleValues" -}}
{{- include "spillway.merge" (dict "base" .root.Values.defaults "over" (get .root.Values .role | default dict)) -}}
{{- end -}}

{{- define "spillway.roles" -}}
[gateway, registration, directory, mailbox, control]
{{- end -}}

{{/* Whether an autoscaler of any role asks `control`. */}}
{{- define "spillway.usesScaler" -}}
{{- $root := . -}}
{{- $uses := .Values.burst.enabled -}}
{{- range $role := include "spillway.roles" . | fromYamlArray -}}
{{- $v := include "spillway.roleValues" (dict "root" $root "role" $role) | fromYaml -}}
{{- if and $v.enabled $v.autoscaling.keda.enabled -}}{{- $uses = true -}}{{- end -}}
{{- end -}}
{{- if $uses -}}true{{- end -}}
{{- end -}}
