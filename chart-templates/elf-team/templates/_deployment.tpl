{{- define "elf-team.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
  annotations:
    elf-sdk/display-name: {{ .Values.team.displayName | quote }}
    elf-sdk/purpose: {{ .Values.team.purpose | quote }}
    elf-sdk/placement: {{ .Values.team.placement | quote }}
    elf-sdk/framework: {{ .Values.team.framework | quote }}
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicas | int }}
  {{- end }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "elf-team.selectorLabels" . | nindent 6 }}
  strategy:
    {{- if eq .Values.store.kind "ephemeral" }}
    # Two pods would be two teams, each with half of the runs.
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
    {{- end }}
  template:
    metadata:
      labels:
        {{- include "elf-team.labels" . | nindent 8 }}
      annotations:
        checksum/config: {{ include "elf-team.configData" . | sha256sum }}
        checksum/edges: {{ include "elf-team.edgesData" . | sha256sum }}
        {{- range $key, $value := .Values.extra.annotations }}
        {{ $key | quote }}: {{ $value | quote }}
        {{- end }}
    spec:
      {{- include "elf-team.pod" . | nindent 6 }}
{{- end -}}
