{{/* The team's name: its Deployment, Service, ServiceAccount and the label `app`. */}}
{{- define "elf-team.name" -}}
{{ .Values.team.name }}
{{- end -}}

{{/* The ConfigMap with the settings of this environment. */}}
{{- define "elf-team.configName" -}}
{{ include "elf-team.name" . }}-config
{{- end -}}

{{/* The image, by digest where there is one. */}}
{{- define "elf-team.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The pod of `helm test`, and its policy. */}}
{{- define "elf-team.testName" -}}
{{ include "elf-team.name" . }}-test
{{- end -}}

{{/* How many replicas there are at least. */}}
{{- define "elf-team.leastReplicas" -}}
{{ ternary .Values.autoscaling.minReplicas .Values.replicas .Values.autoscaling.enabled | int }}
{{- end -}}
