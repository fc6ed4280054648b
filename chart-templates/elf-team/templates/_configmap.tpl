{{/*
The variables of the team's process. They come in by envFrom, because Kubernetes expands `$(NAME)` in a container's own
`env` and leaves a ConfigMap's values alone.
*/}}
{{- define "elf-team.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.configName" .)) | nindent 2 }}
data:
  {{- include "elf-team.configData" . | nindent 2 }}
{{- end -}}

{{- define "elf-team.configData" -}}
ELF_DRAIN_SECONDS: {{ .Values.drain.runSeconds | int | quote }}
ELF_ENVIRONMENT: {{ .Values.environment | quote }}
{{- with int .Values.ports.grpc }}
ELF_GRPC_PORT: {{ . | quote }}
{{- end }}
ELF_HOST: "0.0.0.0"
ELF_LOG_LEVEL: {{ .Values.settings.logLevel | quote }}
ELF_METRICS_PORT: {{ .Values.ports.metrics | int | quote }}
ELF_NAMESPACE: {{ .Values.namespace | quote }}
ELF_ORGANISATION: {{ .Values.organisation | quote }}
ELF_PORT: "8000"
{{- with .Values.settings.publicUrl }}
ELF_PUBLIC_URL: {{ . | quote }}
{{- end }}
{{- with .Values.settings.pushAllow }}
ELF_PUSH_ALLOW: {{ join "," . | quote }}
{{- end }}
ELF_STORE: {{ .Values.settings.store | quote }}
ELF_TEAM_URL: {{ .Values.settings.teamUrl | quote }}
{{- with .Values.settings.trustedProxies }}
ELF_TRUSTED_PROXIES: {{ join "," . | quote }}
{{- end }}
{{ include "elf-team.workloadData" . }}
{{- with include "elf-team.proxyData" . }}
{{ trim . }}
{{- end }}
{{- range .Values.env }}
{{ .name }}: {{ .value | quote }}
{{- end }}
{{- end -}}
