{{/*
TOML, written here because the engine knows numbers as floating-point only: its own toToml turns 3 into 3.0, which is no
count of replicas. In: table, path. A table's values come before its tables.
*/}}
{{- define "spillway.toml" -}}
{{- $path := .path -}}
{{- $table := .table -}}
{{- range $key := keys $table | sortAlpha -}}
{{- $value := get $table $key -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "spillway.toml.key" $key }} = {{ include "spillway.toml.value" $value }}
{{- end -}}
{{- end -}}
{{- range $key := keys $table | sortAlpha -}}
{{- $value := get $table $key -}}
{{- if kindIs "map" $value -}}
{{- $at := list $path (include "spillway.toml.key" $key) | compact | join "." }}

[{{ $at }}]
{{- include "spillway.toml" (dict "table" $value "path" $at) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "spillway.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{/* A JSON string is a TOML string. */}}
{{- define "spillway.toml.value" -}}
{{- $value := . -}}
{{- if kindIs "map" $value -}}
{ {{- range $i, $key := keys $value | sortAlpha -}}{{- if $i -}},{{- end }} {{ include "spillway.toml.key" $key }} = {{ include "spillway.toml.value" (get $value $key) }}{{- end }} }
{{- else if kindIs "slice" $value -}}
[{{- range $i, $item := $value -}}{{- if $i -}}, {{ end -}}{{ include "spillway.toml.value" $item }}{{- end -}}]
{{- else if kindIs "float64" $value -}}
{{- if eq $value (floor $value) -}}{{ printf "%.0f" $value }}{{- else -}}{{ printf "%v" $value }}{{- end -}}
{{- else -}}
{{ toJson $value }}
{{- end -}}
{{- end -}}
