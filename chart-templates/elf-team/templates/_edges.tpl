{{/*
The ConfigMap with the team's edges, which its process reads: who may call it, and whom it calls where. `quote` makes
YAML of the JSON as of any other text.
*/}}
{{- define "elf-team.edges" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.edgesName" .)) | nindent 2 }}
data:
  edges.json: {{ include "elf-team.edgesData" . | quote }}
{{- end -}}

{{- define "elf-team.edgesName" -}}
{{ include "elf-team.name" . }}-edges
{{- end -}}

{{- define "elf-team.edgesData" -}}
{{ toJson (dict "team" .Values.team.name "callers" .Values.edges.callers "callees" .Values.edges.callees) }}
{{- end -}}
