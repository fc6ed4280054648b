{{/*
A value as Kubernetes writes it, in YAML's flow style. Text goes through `quote` here as everywhere, because what Go
quotes is read back unchanged by every YAML reader; a key is text as well. Numbers and booleans are JSON's.
*/}}
{{- define "elf-team.literal" -}}
{{- if kindIs "map" . -}}
{
{{- range $key, $value := . }}{{ $key | quote }}: {{ include "elf-team.literal" $value }}, {{ end -}}
}
{{- else if kindIs "slice" . -}}
[
{{- range . }}{{ include "elf-team.literal" . }}, {{ end -}}
]
{{- else if kindIs "string" . -}}
{{ . | quote }}
{{- else -}}
{{ . | toJson }}
{{- end -}}
{{- end -}}

{{/* Each of a list of such values, as an item of a list in block style. */}}
{{- define "elf-team.literals" -}}
{{- range . }}
- {{ include "elf-team.literal" . }}
{{- end }}
{{- end -}}
