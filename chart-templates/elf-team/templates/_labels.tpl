{{/* What never changes in a release: selectors cannot be edited later. */}}
{{- define "elf-team.selectorLabels" -}}
app: {{ include "elf-team.name" . }}
app.kubernetes.io/name: {{ include "elf-team.name" . }}
{{- end -}}

{{/* A version as a label's value: at most 63 characters that end in a letter or digit. */}}
{{- define "elf-team.labelValue" -}}
{{ . | trunc 63 | trimAll "-._" | quote }}
{{- end -}}

{{- define "elf-team.labels" -}}
{{ include "elf-team.selectorLabels" . }}
app.kubernetes.io/component: team
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: {{ .Values.organisation | quote }}
app.kubernetes.io/version: {{ include "elf-team.labelValue" .Values.team.version }}
elf-sdk/environment: {{ .Values.environment | quote }}
helm.sh/chart: {{ include "elf-team.labelValue" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- end -}}

{{/* Name, namespace and labels of an object; takes the root and, as `name`, the object's name. */}}
{{- define "elf-team.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Values.namespace | quote }}
labels:
  {{- include "elf-team.labels" .root | nindent 2 }}
{{- end -}}
